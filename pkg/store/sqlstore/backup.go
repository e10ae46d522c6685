package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// Backup implements store.Keeper. While it runs no body's file is removed, so
// that every one its copy of the database names is there.
func (s *Store) Backup(ctx context.Context, dir string) (t store.Tally, err error) {
	s.naming.Lock()
	s.backups++
	s.naming.Unlock()
	defer func() {
		s.naming.Lock()
		s.backups--
		var doomed []stored
		if s.backups == 0 {
			doomed, s.doomed = s.doomed, nil
		}
		s.naming.Unlock()
		s.removeBodies(context.WithoutCancel(ctx), doomed)
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return t, fmt.Errorf("backing up: %w", err)
	}
	fresh := filepath.Join(dir, "store.db.new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t, fmt.Errorf("backing up: %w", err)
	}
	if err := s.db.CopyTo(ctx, fresh); err != nil {
		return t, fmt.Errorf("backing up: %w", err)
	}
	if err := s.backupFiles(ctx, dir, fresh, &t); err != nil {
		return t, fmt.Errorf("backing up: %w", err)
	}
	return t, nil
}

// backupFiles brings the bodies' files up to what the copied database names,
// makes that the backup's, and drops what it does not name.
func (s *Store) backupFiles(ctx context.Context, dir, fresh string, t *store.Tally) error {
	bodies, err := blob.OpenFolder(filepath.Join(dir, "bodies"))
	if err != nil {
		return err
	}
	named := map[blob.Digest]stored{}
	if err := readCopy(ctx, fresh, func(tx *sqlite.Tx) error {
		if _, err := tx.Get(`SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM mailbox), (SELECT count(*) FROM message), count(*), coalesce(sum(size), 0) FROM body`,
			nil, &t.Accounts, &t.Mailboxes, &t.Messages, &t.Bodies, &t.Bytes); err != nil {
			return err
		}
		return tx.Query("SELECT digest, coalesce(pack, 0), coalesce(place, 0), size FROM body WHERE text IS NULL", nil, func(scan func(...any) error) error {
			var d []byte
			var b stored
			err := scan(&d, &b.place.Pack, &b.place.Offset, &b.size)
			b.digest = blob.Digest(d)
			named[b.digest] = b
			return err
		})
	}); err != nil {
		return err
	}
	for _, b := range named {
		if err := copyBody(ctx, s.opens(b), bodies, b.digest); err != nil {
			return err
		}
		t.Files++
	}
	if err := os.Rename(fresh, filepath.Join(dir, "store.db")); err != nil {
		return err
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	for d, err := range bodies.All() {
		if _, ok := named[d]; err == nil && !ok {
			err = bodies.Remove(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// opens opens a body that lies outside the database.
func (s *Store) opens(b stored) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if b.place.IsZero() {
			return s.bodies.Open(b.digest)
		}
		return s.packs.Open(b.place, b.size)
	}
}

// readCopy reads a copied database, of which all bodies outside it are to be in
// files of their own.
func readCopy(ctx context.Context, path string, fn func(*sqlite.Tx) error) error {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: schema(), Readers: 2})
	if err != nil {
		return err
	}
	if err = db.Read(ctx, fn); err == nil {
		err = db.Write(ctx, func(tx *sqlite.Tx) error {
			_, _, err := tx.Exec("UPDATE body SET pack=NULL, place=NULL WHERE pack IS NOT NULL")
			return err
		})
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return os.Remove(path + ".lock")
}

// copyBody copies a body to its file unless that is there, and holds it against
// its hash.
func copyBody(ctx context.Context, open func() (io.ReadCloser, error), to *blob.Folder, d blob.Digest) error {
	if f, err := to.Open(d); err == nil {
		return f.Close()
	}
	r, err := open()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := to.Create()
	if err != nil {
		return err
	}
	defer w.Discard()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w, h), r); err != nil {
		return err
	}
	if blob.Digest(h.Sum(nil)) != d {
		return fmt.Errorf("body %s does not have its hash; run: mailsrv verify", d)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.Keep(d)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RestoreWhole makes the store's folder dir anew from the backup in from, with
// every UID as it was. dir must not hold a store.
func RestoreWhole(ctx context.Context, from, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "store.db")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restoring: %w", errors.Join(err, fmt.Errorf("%s holds a store", dir)))
	}
	source, err := openBackupBodies(from)
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	target, err := blob.OpenFolder(filepath.Join(dir, "bodies"))
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	for d, err := range source.All() {
		if err == nil {
			err = copyBody(ctx, func() (io.ReadCloser, error) { return source.Open(d) }, target, d)
		}
		if err != nil {
			return fmt.Errorf("restoring: %w", err)
		}
	}
	fresh := filepath.Join(dir, "store.db.new")
	err = copyFile(filepath.Join(from, "store.db"), fresh)
	if err == nil {
		err = removeSearch(dir) // of the store that was there before
	}
	if err == nil {
		err = errors.Join(os.Rename(fresh, filepath.Join(dir, "store.db")), syncFolder(dir))
	}
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	return nil
}

func openBackupBodies(from string) (*blob.Folder, error) {
	if _, err := os.Stat(filepath.Join(from, "store.db")); err != nil {
		return nil, err
	}
	return blob.OpenFolder(filepath.Join(from, "bodies"))
}
