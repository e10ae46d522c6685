package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// files keeps the large messages. A file is removed when no entry names it any
// more; but not while a message is on its way in, since that one may turn out
// to be the same file.
type files struct {
	folder *blob.Folder
	db     *sqlite.DB

	mu      sync.Mutex
	putting int
	doomed  map[blob.Digest]bool
}

func newFiles(folder *blob.Folder, db *sqlite.DB) *files {
	return &files{folder: folder, db: db, doomed: make(map[blob.Digest]bool)}
}

// put stores a body. The caller calls release once the entry that names it is
// committed, or given up.
func (f *files) put(ctx context.Context, body mail.Body) (digest []byte, release func() error, err error) {
	f.mu.Lock()
	f.putting++
	f.mu.Unlock()
	d, err := f.folder.Put(ctx, body)
	if err != nil {
		return nil, nil, errors.Join(err, f.release())
	}
	return d[:], func() error { return f.drop(d) }, nil
}

// drop ends a put: the file stays if an entry names it by now.
func (f *files) drop(d blob.Digest) error {
	f.mu.Lock()
	f.doomed[d] = true
	f.mu.Unlock()
	return f.release()
}

func (f *files) release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putting--
	return f.purge()
}

// forget says that an entry that named the digest is gone.
func (f *files) forget(digest []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doomed[blob.Digest(digest)] = true
	return f.purge()
}

// purge removes the doomed files that no entry names.
func (f *files) purge() error {
	if f.putting > 0 {
		return nil
	}
	var errs []error
	for d := range f.doomed {
		delete(f.doomed, d)
		named, err := f.named(d)
		if err == nil && !named {
			err = f.folder.Remove(d)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("removing message file %s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

func (f *files) named(d blob.Digest) (named bool, err error) {
	err = f.db.Read(context.Background(), func(tx *sqlite.Tx) error {
		var one int
		named, err = tx.Get("SELECT 1 FROM entries WHERE digest=?", []any{d[:]}, &one)
		return err
	})
	return named, err
}

// sweep removes the files that a crash left without an entry.
func (f *files) sweep() error {
	for d, err := range f.folder.All() {
		if err != nil {
			return fmt.Errorf("looking for message files: %w", err)
		}
		f.doomed[d] = true
	}
	return f.purge()
}

// file is a message in a file; it implements mail.Body.
type file struct {
	files  *files
	digest blob.Digest
	size   int64
}

func (f file) Size() int64                  { return f.size }
func (f file) Open() (io.ReadCloser, error) { return f.files.folder.Open(f.digest) }

// body reads the message of an entry, or says where it is.
func (q *Queue) body(tx *sqlite.Tx, e entryRow) (mail.Body, error) {
	if e.digest != nil {
		return file{files: q.files, digest: blob.Digest(e.digest), size: e.size}, nil
	}
	var text []byte
	found, err := tx.Get("SELECT body FROM bodies WHERE entry=?", []any{e.id}, &text)
	if err == nil && !found {
		err = fmt.Errorf("entry %d has no message", e.id)
	}
	return mail.Bytes(text), err
}
