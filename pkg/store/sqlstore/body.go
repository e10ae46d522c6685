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
	text      []byte // what follows the header; nil: the whole lies in its file, or in a pack
	inFile    bool
	place     blob.Place // in a pack, if that is set
	// spare: the database had the body in another place when it was to be stored.
	spare bool

	envelope, basic, structure, parts []byte
}

// take reads a message once: scans it, and brings it into memory or its file.
// The caller holds s.naming for reading.
func (s *Store) take(ctx context.Context, in mail.Body) (*body, error) {
	large := in.Size() > s.o.InlineLimit
	b := &body{size: in.Size(), inFile: large && in.Size() > s.o.PackLimit}
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
	if !large {
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
	switch {
	case b.inFile:
		err = s.keep(ctx, file, b.digest)
		s.o.at("file")
	case large:
		if b.place, err = s.packs.Append(content); errors.Is(err, blob.ErrSync) {
			s.fail(err)
		}
		s.o.at("pack")
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
		known, err = tx.Get("SELECT 1 FROM body WHERE digest=? AND text IS NULL AND pack IS NULL", []any{d[:]}, &one)
		return err
	})
	return known, err
}

// placed reports whether the database names a place in a pack.
func (s *Store) placed(ctx context.Context, at blob.Place) (known bool, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		var one int
		known, err = tx.Get("SELECT 1 FROM body WHERE pack=? AND place=?", []any{at.Pack, at.Offset}, &one)
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
	var text, pack, at any
	b.spare = false
	if b.text == nil {
		if found, err := g.Get("SELECT id FROM body WHERE digest=? AND text IS NULL", []any{b.digest[:]}, &id); err != nil || found {
			b.spare = true
			return id, err
		}
	} else {
		text = b.text
	}
	if !b.place.IsZero() {
		pack, at = b.place.Pack, b.place.Offset
	}
	if id, _, err = g.Exec("INSERT INTO body (size, messageid, digest, header, text, pack, place) VALUES (?,?,?,?,?,?,?)",
		b.size, b.messageID, b.digest[:], b.header, text, pack, at); err != nil {
		return 0, err
	}
	_, _, err = g.Exec("INSERT INTO outline (body, envelope, basic, structure, parts) VALUES (?,?,?,?,?)", id, b.envelope, b.basic, b.structure, b.parts)
	return id, err
}

// stored is a body outside the database: in a pack, or else in its file.
type stored struct {
	digest blob.Digest
	place  blob.Place
	size   int64
}

// dropBodies deletes those bodies that nothing names any more, and returns what
// lies outside the database and may go once that is committed.
func dropBodies(tx *sqlite.Tx, ids []int64) (outside []stored, err error) {
	for _, id := range ids {
		var digest []byte
		var inside bool
		var b stored
		found, err := tx.Get(`SELECT digest, text IS NOT NULL, coalesce(pack, 0), coalesce(place, 0), size FROM body WHERE id=?1
			AND NOT EXISTS (SELECT 1 FROM message WHERE body=?1) AND NOT EXISTS (SELECT 1 FROM removed WHERE body=?1)`,
			[]any{id}, &digest, &inside, &b.place.Pack, &b.place.Offset, &b.size)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if !inside {
			b.digest = blob.Digest(digest)
			outside = append(outside, b)
		}
		for _, q := range [...]string{"DELETE FROM body WHERE id=?", "DELETE FROM outline WHERE body=?"} {
			if _, _, err := tx.Exec(q, id); err != nil {
				return nil, err
			}
		}
	}
	return outside, nil
}

// removeBodies removes those files, and frees those places, that the database
// does not name. What stays by an error costs room, no mail: it is logged.
func (s *Store) removeBodies(ctx context.Context, bodies []stored) {
	if len(bodies) == 0 {
		return
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	if s.backups > 0 {
		s.doomed = append(s.doomed, bodies...)
		return
	}
	for _, b := range bodies {
		if err := s.removeBody(ctx, b); err != nil {
			s.o.Log.Warn("body kept", "digest", b.digest.String(), "err", err)
		}
	}
}

// removeBody is removeBodies of one. The caller holds s.naming.
func (s *Store) removeBody(ctx context.Context, b stored) error {
	if !b.place.IsZero() {
		known, err := s.placed(ctx, b.place)
		if err != nil || known {
			return err
		}
		return s.packs.Free(b.place, b.size)
	}
	known, err := s.named(ctx, b.digest)
	if err != nil || known {
		return err
	}
	return s.bodies.Remove(b.digest)
}

// forsake removes what lies outside the database of a body that came in and was
// stored nowhere: it was refused, or there all along. After an error of the
// commit itself it stays, since the commit may turn out to hold it.
func (s *Store) forsake(ctx context.Context, b *body, err error) {
	known := err == nil || errors.Is(err, sqlite.ErrFull) || errors.Is(err, store.ErrOverQuota) || errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoMessage) || errors.Is(err, store.ErrHeld)
	if known && (b.inFile || !b.place.IsZero()) {
		s.removeBodies(context.WithoutCancel(ctx), []stored{{b.digest, b.place, b.size}})
	}
}
