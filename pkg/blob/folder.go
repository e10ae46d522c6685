package blob

import (
	"bufio"
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

// Folder holds bodies as files named by their digest, in folders by its first
// octet. It may be used from many goroutines.
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
	f := &Folder{dir: dir}
	return f, f.flatten()
}

// flatten moves bodies that an earlier version put two levels deep.
func (f *Folder) flatten() error {
	deep, err := filepath.Glob(filepath.Join(f.dir, "??", "??", "*"))
	if err != nil {
		return fmt.Errorf("opening body folder: %w", err)
	}
	for _, from := range deep {
		to := filepath.Join(filepath.Dir(filepath.Dir(from)), filepath.Base(from))
		if err := errors.Join(os.Rename(from, to), syncDir(filepath.Dir(to))); err != nil {
			return fmt.Errorf("opening body folder: %w", err)
		}
	}
	return nil
}

func (f *Folder) path(d Digest) string {
	s := d.String()
	return filepath.Join(f.dir, s[:2], s)
}

// ErrSync: the system could not make a file durable. What it would say of a
// second try cannot be believed; the process must start again.
var ErrSync = errors.New("file could not be synced")

// File is a body on its way into a Folder. Write it from one goroutine, then
// either Keep or Discard it.
type File struct {
	*bufio.Writer
	folder *Folder
	file   *os.File
}

// Create begins a body.
func (f *Folder) Create() (*File, error) {
	tmp, err := os.CreateTemp(filepath.Join(f.dir, "tmp"), "put-*")
	if err != nil {
		return nil, fmt.Errorf("storing body: %w", err)
	}
	return &File{Writer: bufio.NewWriterSize(tmp, 64<<10), folder: f, file: tmp}, nil
}

// Keep gives the body the name of its digest, in the place of one that may be
// there, and returns when it is durable. After a crash within Keep a file of
// that name may be there and not be whole: nobody may have named it yet.
func (f *File) Keep(d Digest) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("storing body: %w", err), f.Discard())
		}
	}()
	if err := f.Flush(); err != nil {
		return err
	}
	// The name comes first: one commit of the file system's journal then holds
	// both, and the second sync has nothing left to wait for.
	final := f.folder.path(d)
	if err := f.folder.name(f.file.Name(), final); err != nil {
		return err
	}
	if err := errors.Join(f.file.Sync(), syncDir(filepath.Dir(final))); err != nil {
		return errors.Join(ErrSync, err, os.Remove(final))
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// Discard forgets the body, unless it was kept.
func (f *File) Discard() error {
	if f.file == nil {
		return nil
	}
	name := f.file.Name()
	err := f.file.Close()
	f.file = nil
	if e := os.Remove(name); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// Put stores body durably and returns its digest: the file and its name
// survive a power cut once Put returned nil. After an error nothing is left
// behind.
func (f *Folder) Put(ctx context.Context, body mail.Body) (d Digest, err error) {
	file, err := f.Create()
	if err != nil {
		return d, err
	}
	defer file.Discard()
	r, err := body.Open()
	if err != nil {
		return d, fmt.Errorf("storing body: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, h), readerWithContext{ctx, r})
	if err == nil && n != body.Size() {
		err = fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, n, body.Size())
	}
	if err != nil {
		return d, fmt.Errorf("storing body: %w", err)
	}
	h.Sum(d[:0])
	return d, file.Keep(d)
}

// name gives a file its final name.
func (f *Folder) name(tmp, final string) error {
	switch err := os.Mkdir(filepath.Dir(final), 0o700); {
	case err == nil:
		if err := syncDir(f.dir); err != nil {
			return errors.Join(ErrSync, err)
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return os.Rename(tmp, final)
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
