package sqlstore

import (
	"context"
	"fmt"

	"mailsrv/pkg/sqlite"
)

// Ping reports whether the database can be read now.
func (s *Store) Ping(ctx context.Context) error {
	err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		var one int
		_, err := tx.Get(`SELECT 1 FROM sqlite_schema LIMIT 1`, nil, &one)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the store: %w", err)
	}
	return nil
}
