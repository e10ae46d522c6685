package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// body is a message's content on its way into the database, with all that is
// to be known of it: the writer only writes it down.
type body struct {
	digest    blob.Digest
	size      int64
	messageID string
	header    []byte
	text      []byte // what follows the header; nil: the whole lies in its file
	inFile    bool

	envelope, basic, structure, parts []byte
}

// take reads a message once: scans it, and brings it into memory or its file.
// The caller holds s.naming for reading.
func (s *Store) take(ctx context.Context, in mail.Body) (*body, error) {
	b := &body{size: in.Size(), inFile: in.Size() > s.o.InlineLimit}
	r, err := in.Open()
	if err != nil {
		return nil, fmt.Errorf("reading message: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	var content []byte
	var file *blob.File
	var src io.Reader = io.TeeReader(r, h)
	if b.inFile {
		if file, err = s.bodies.Create(); err != nil {
			return nil, err
		}
		defer file.Discard()
		src = io.TeeReader(src, file)
	} else {
		content = make([]byte, 0, b.size)
		src = io.TeeReader(src, appendWriter{&content})
	}
	scanned, err := mime.Scan(src, mime.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("reading message: %w", err)
	}
	if scanned.Size != b.size {
		return nil, fmt.Errorf("reading message: %w: %d bytes of %d", io.ErrUnexpectedEOF, scanned.Size, b.size)
	}
	h.Sum(b.digest[:0])
	b.messageID, b.header = scanned.MessageID, scanned.Header
	if !b.inFile {
		b.text = content[len(b.header):]
	}
	buf := scanned.AppendEnvelope(make([]byte, 0, 1024))
	ends := [3]int{len(buf)}
	buf = scanned.AppendBody(buf)
	ends[1] = len(buf)
	buf = scanned.AppendBodyStructure(buf)
	ends[2] = len(buf)
	buf = scanned.AppendParts(buf)
	b.envelope, b.basic, b.structure, b.parts = buf[:ends[0]], buf[ends[0]:ends[1]], buf[ends[1]:ends[2]], buf[ends[2]:]
	if b.inFile {
		err = s.keep(ctx, file, b.digest)
		s.o.at("file")
	}
	return b, err
}

// keep makes a body's file durable, unless the database names it already: then
// it is.
func (s *Store) keep(ctx context.Context, file *blob.File, d blob.Digest) error {
	known, err := s.named(ctx, d)
	if err != nil || known {
		return err
	}
	if err = file.Keep(d); errors.Is(err, blob.ErrSync) {
		s.fail(err)
	}
	return err
}

// fail ends all writing: the disk is not to be trusted until the next start.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) && s.o.OnFatal != nil {
		go s.o.OnFatal(err)
	}
}

// named reports whether the database names the file of d.
func (s *Store) named(ctx context.Context, d blob.Digest) (known bool, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		var one int
		known, err = tx.Get("SELECT 1 FROM body WHERE digest=? AND text IS NULL", []any{d[:]}, &one)
		return err
	})
	return known, err
}

type appendWriter struct{ to *[]byte }

func (w appendWriter) Write(p []byte) (int, error) {
	*w.to = append(*w.to, p...)
	return len(p), nil
}

// insert stores a body, unless its file is named already, and returns its id.
func (b *body) insert(g *group) (id int64, err error) {
	var text any
	if b.inFile {
		if found, err := g.Get("SELECT id FROM body WHERE digest=? AND text IS NULL", []any{b.digest[:]}, &id); err != nil || found {
			return id, err
		}
	} else {
		text = b.text
	}
	if id, _, err = g.Exec("INSERT INTO body (size, messageid, digest, header, text) VALUES (?,?,?,?,?)", b.size, b.messageID, b.digest[:], b.header, text); err != nil {
		return 0, err
	}
	_, _, err = g.Exec("INSERT INTO outline (body, envelope, basic, structure, parts) VALUES (?,?,?,?,?)", id, b.envelope, b.basic, b.structure, b.parts)
	return id, err
}

// dropBodies deletes those bodies that nothing names any more, and returns the
// digests whose files may go once that is committed.
func dropBodies(tx *sqlite.Tx, ids []int64) (files []blob.Digest, err error) {
	for _, id := range ids {
		var digest []byte
		var inFile bool
		found, err := tx.Get(`SELECT digest, text IS NULL FROM body WHERE id=?1
			AND NOT EXISTS (SELECT 1 FROM message WHERE body=?1) AND NOT EXISTS (SELECT 1 FROM removed WHERE body=?1)`, []any{id}, &digest, &inFile)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if inFile {
			files = append(files, blob.Digest(digest))
		}
		for _, q := range [...]string{"DELETE FROM body WHERE id=?", "DELETE FROM outline WHERE body=?"} {
			if _, _, err := tx.Exec(q, id); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// removeFiles removes those files that the database does not name. A file that
// stays by an error costs room, no mail: it is logged.
func (s *Store) removeFiles(ctx context.Context, files []blob.Digest) {
	if len(files) == 0 {
		return
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	if s.backups > 0 {
		s.doomed = append(s.doomed, files...)
		return
	}
	for _, d := range files {
		known, err := s.named(ctx, d)
		if err == nil && !known {
			err = s.bodies.Remove(d)
		}
		if err != nil {
			s.o.Log.Warn("body file kept", "digest", d.String(), "err", err)
		}
	}
}

// forsake removes the file of a body that came in and was stored nowhere: it
// was refused, or there all along. After an error of the commit itself the file
// stays, since the commit may turn out to hold it.
func (s *Store) forsake(ctx context.Context, b *body, err error) {
	known := err == nil || errors.Is(err, sqlite.ErrFull) || errors.Is(err, store.ErrOverQuota) || errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoMessage)
	if b.inFile && known {
		s.removeFiles(context.WithoutCancel(ctx), []blob.Digest{b.digest})
	}
}
