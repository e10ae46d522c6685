package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"mailsrv/pkg/mail"
)

// Digest is the SHA-256 of a body.
type Digest [sha256.Size]byte

// String returns the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Folder holds bodies as files named by their digest, two levels deep. It may
// be used from many goroutines.
type Folder struct {
	dir string
}

// OpenFolder opens the folder at dir, makes it if it is missing, and removes
// what an interrupted Put left behind.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("opening body folder: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "tmp", "put-*"))
	if err != nil {
		return nil, fmt.Errorf("opening body folder: %w", err)
	}
	for _, f := range left {
		if err := os.Remove(f); err != nil {
			return nil, fmt.Errorf("clearing body folder: %w", err)
		}
	}
	return &Folder{dir: dir}, nil
}

func (f *Folder) path(d Digest) string {
	s := d.String()
	return filepath.Join(f.dir, s[:2], s[2:4], s)
}

// Put stores body durably and returns its digest: the file and its name
// survive a power cut once Put returned nil. A body that is there already is
// not written again. After an error nothing is left behind.
func (f *Folder) Put(ctx context.Context, body mail.Body) (Digest, error) {
	d, err := f.put(ctx, body)
	if err != nil {
		return Digest{}, fmt.Errorf("storing body: %w", err)
	}
	return d, nil
}

func (f *Folder) put(ctx context.Context, body mail.Body) (d Digest, err error) {
	tmp, err := os.CreateTemp(filepath.Join(f.dir, "tmp"), "put-*")
	if err != nil {
		return d, err
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	r, err := body.Open()
	if err != nil {
		return d, err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, h), readerWithContext{ctx, r})
	if err != nil {
		return d, err
	}
	if n != body.Size() {
		return d, fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, n, body.Size())
	}
	h.Sum(d[:0])
	if st, err := os.Stat(f.path(d)); err == nil && st.Size() == n {
		return d, os.Remove(tmp.Name())
	}
	if err := tmp.Sync(); err != nil {
		return d, err
	}
	return d, f.name(tmp.Name(), f.path(d))
}

// name gives a synced file its final name, and syncs every folder that got a
// new entry by it.
func (f *Folder) name(tmp, final string) error {
	inner := filepath.Dir(final)
	outer := filepath.Dir(inner)
	for _, dir := range []string{outer, inner} {
		switch err := os.Mkdir(dir, 0o700); {
		case err == nil:
			if err := syncDir(filepath.Dir(dir)); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if err := os.Rename(tmp, final); err != nil {
		return err
	}
	return syncDir(inner)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

type readerWithContext struct {
	ctx context.Context
	r   io.Reader
}

func (r readerWithContext) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Open opens a body; the caller closes it. fs.ErrNotExist if it is not there.
func (f *Folder) Open(d Digest) (*os.File, error) { return os.Open(f.path(d)) }

// Remove removes a body; one that is not there is removed already.
func (f *Folder) Remove(d Digest) error {
	if err := os.Remove(f.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing body: %w", err)
	}
	return nil
}

// All yields the digests of all bodies, in no promised order.
func (f *Folder) All() iter.Seq2[Digest, error] {
	return func(yield func(Digest, error) bool) {
		err := filepath.WalkDir(f.dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			var d Digest
			if n, err := hex.Decode(d[:], []byte(strings.ToLower(e.Name()))); err != nil || n != len(d) || len(e.Name()) != 2*len(d) {
				return nil // no body of ours
			}
			if !yield(d, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Digest{}, fmt.Errorf("walking body folder: %w", err))
		}
	}
}
