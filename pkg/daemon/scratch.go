package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
)

// Scratch is a directory of its own, empty and under the configuration's schema,
// in which changes can be tried. The caller calls drop, which removes it.
func Scratch(ctx context.Context, c config.Config) (tree directory.Editor, drop func() error, err error) {
	rules, err := loadSchema(c.Directory.SchemaFolder)
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "mailsrv-scratch-")
	if err != nil {
		return nil, nil, fmt.Errorf("making a scratch directory: %w", err)
	}
	d, err := sqldir.Open(ctx, filepath.Join(dir, "directory.db"), sqldir.Options{Schema: rules})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return d, func() error { return errors.Join(d.Close(), os.RemoveAll(dir)) }, nil
}
