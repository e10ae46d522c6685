package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// Bounds of what is read at a time: nothing of the store is held while a slow
// client takes it.
const (
	pageMessages = 1024
	pageBytes    = 1 << 20
)

// Messages implements store.Mailbox.
func (m *mailbox) Messages(ctx context.Context, uids store.UIDSet, fields store.Fields) iter.Seq2[*store.Message, error] {
	return func(yield func(*store.Message, error) bool) {
		p, _ := m.s.pages.Get().(*page)
		if p == nil {
			p = &page{}
		}
		p.m, p.uids, p.fields = m, uids, fields
		defer func() {
			if p.m = nil; cap(p.bytes) <= 4*pageBytes {
				m.s.pages.Put(p)
			}
		}()
		for {
			more, err := p.next(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range p.messages {
				if !yield(&p.messages[i], nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// page is a part of a mailbox's messages. Its memory is used again, for the next
// and then for the next reader's.
type page struct {
	m      *mailbox
	uids   store.UIDSet // what is left of the set
	fields store.Fields

	messages []store.Message
	spans    []store.UIDRange // of messages that lie side by side
	bytes    []byte           // what the messages' slices point to
}

// next reads the next page and reports whether there may be more.
func (p *page) next(ctx context.Context) (more bool, err error) {
	p.messages, p.spans, p.bytes = p.messages[:0], p.spans[:0], p.bytes[:0]
	if err := p.m.s.view(ctx, p.m.id, p.list); err != nil {
		return false, err
	}
	if p.m.reader != nil {
		if err := p.m.reader.applyTo(ctx, p.m, p.messages); err != nil {
			return false, err
		}
	}
	if p.fields&^store.FieldMeta == 0 || len(p.messages) == 0 {
		return len(p.uids) > 0, nil
	}
	if err := p.read(ctx); err != nil {
		return false, err
	}
	return len(p.uids) > 0, nil
}

// list takes what memory knows of the next messages.
func (p *page) list(_ row, l *list) {
	for len(p.uids) > 0 {
		u := p.uids[0]
		i := l.find(u.First)
		start := i
		for ; i < len(l.uids) && l.uids[i] <= u.Last; i++ {
			if len(p.messages) == pageMessages {
				p.close(l, start, i)
				p.uids = append(store.UIDSet{{First: l.uids[i], Last: u.Last}}, p.uids[1:]...)
				return
			}
			p.messages = append(p.messages, store.Message{UID: l.uids[i], ModSeq: l.seqs[i], Flags: l.sets.get(l.flags[i])})
			if p.fields&store.FieldMeta != 0 {
				msg, it := &p.messages[len(p.messages)-1], &l.items[i]
				msg.Size, msg.InternalDate, msg.SaveDate = it.size, it.date(), time.Unix(it.saved, 0)
			}
		}
		p.close(l, start, i)
		p.uids = p.uids[1:]
	}
}

// close notes the messages from index start to end-1 as a span, or as part of
// the last one if nothing lies between.
func (p *page) close(l *list, start, end int) {
	if start == end {
		return
	}
	if n := len(p.spans) - 1; n >= 0 && start > 0 && p.spans[n].Last == l.uids[start-1] {
		p.spans[n].Last = l.uids[end-1]
		return
	}
	p.spans = append(p.spans, store.UIDRange{First: l.uids[start], Last: l.uids[end-1]})
}

// The queries of read, by what they cost.
const (
	envelopeQuery = `SELECT uid, envelope FROM message CROSS JOIN outline ON outline.body=message.body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	outlineQuery  = `SELECT uid, prefix, envelope, basic, structure, parts FROM message CROSS JOIN outline ON outline.body=message.body
		WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	idQuery     = `SELECT uid, prefix, digest FROM message CROSS JOIN body ON id=body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	headerQuery = `SELECT uid, prefix, digest, header FROM message CROSS JOIN body ON id=body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	fullQuery   = `SELECT uid, prefix, digest, envelope, basic, structure, parts, header FROM message CROSS JOIN outline ON outline.body=message.body CROSS JOIN body ON id=message.body
		WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	wholeQuery = `SELECT uid, prefix, header, text FROM message CROSS JOIN body ON id=body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
	textQuery  = `SELECT uid, prefix, digest, envelope, basic, structure, parts, header, text FROM message CROSS JOIN outline ON outline.body=message.body CROSS JOIN body ON id=message.body
		WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid`
)

// errPageFull ends a page before its last message.
var errPageFull = errors.New("page is full")

// read fills what only the database knows. Messages that are gone meanwhile are
// left out.
func (p *page) read(ctx context.Context) error {
	r := pageReader{page: p}
	outline := p.fields&(store.FieldEnvelope|store.FieldBodyStructure|store.FieldParts) != 0
	switch {
	case p.fields&store.FieldText != 0 && !outline && p.fields&store.FieldID == 0:
		r.query, r.dest = wholeQuery, []any{&r.uid, &r.prefix, &r.header, &r.text}
	case p.fields&store.FieldText != 0:
		r.query, r.dest = textQuery, []any{&r.uid, &r.prefix, &r.digest, &r.envelope, &r.basic, &r.structure, &r.parts, &r.header, &r.text}
	case p.fields&(store.FieldHeader|store.FieldID) != 0 && outline:
		r.query, r.dest = fullQuery, []any{&r.uid, &r.prefix, &r.digest, &r.envelope, &r.basic, &r.structure, &r.parts, &r.header}
	case p.fields&store.FieldHeader != 0:
		r.query, r.dest = headerQuery, []any{&r.uid, &r.prefix, &r.digest, &r.header}
	case p.fields&store.FieldID != 0:
		r.query, r.dest = idQuery, []any{&r.uid, &r.prefix, &r.digest}
	case p.fields&(store.FieldBodyStructure|store.FieldParts) != 0:
		r.query, r.dest = outlineQuery, []any{&r.uid, &r.prefix, &r.envelope, &r.basic, &r.structure, &r.parts}
	default:
		r.query, r.dest = envelopeQuery, []any{&r.uid, &r.envelope}
	}
	err := p.m.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		r.at, r.kept = 0, 0
		p.bytes = p.bytes[:0]
		for _, u := range p.spans {
			if err := tx.Query(r.query, []any{p.m.id, int64(u.First), int64(u.Last)}, r.row); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errPageFull) { // the rest comes with the next page
		rest := make(store.UIDSet, 0, len(p.spans)+len(p.uids))
		for _, m := range p.messages[r.at:] {
			rest = append(rest, store.UIDRange{First: m.UID, Last: m.UID})
		}
		p.uids, err = append(rest, p.uids...), nil
	}
	p.messages = p.messages[:r.kept]
	return failure(err)
}

// pageReader reads rows into a page.
type pageReader struct {
	*page
	query string
	dest  []any
	uid   store.UID

	prefix, digest, envelope, basic, structure, parts, header, text sql.RawBytes

	at, kept int // the messages before at were met; those before kept stay
}

func (r *pageReader) row(scan func(...any) error) error {
	if len(r.bytes) > pageBytes {
		return errPageFull
	}
	if err := scan(r.dest...); err != nil {
		return err
	}
	for r.at < len(r.messages) && r.messages[r.at].UID < r.uid {
		r.at++
	}
	if r.at == len(r.messages) || r.messages[r.at].UID != r.uid {
		return nil // new in a span, since it was listed
	}
	msg := &r.messages[r.kept]
	*msg = r.messages[r.at]
	r.at++
	r.kept++
	msg.Envelope, msg.Body, msg.BodyStructure = r.hold(r.envelope), r.hold(r.basic), r.hold(r.structure)
	start := len(r.bytes)
	msg.Header = r.hold(r.prefix, r.header)
	if r.text != nil {
		r.hold(r.text)
		msg.Text = r.bytes[start:len(r.bytes):len(r.bytes)]
	}
	if r.digest != nil && r.fields&store.FieldID != 0 {
		msg.ID = contentID(r.digest, r.prefix)
	}
	if r.parts != nil {
		start := len(r.bytes)
		var err error
		if r.bytes, err = mime.PrefixParts(r.bytes, r.parts, len(r.prefix)); err != nil {
			return err
		}
		msg.Parts = r.bytes[start:len(r.bytes):len(r.bytes)]
	}
	return nil
}

// contentID names what the body of that digest is behind prefix.
func contentID(digest, prefix []byte) string {
	if len(prefix) > 0 {
		sum := sha256.Sum256(append(slices.Clone(digest), prefix...))
		digest = sum[:]
	}
	return "M" + base64.RawURLEncoding.EncodeToString(digest[:18])
}

// hold copies b to the page's memory.
func (r *pageReader) hold(b ...sql.RawBytes) []byte {
	start := len(r.bytes)
	for _, b := range b {
		r.bytes = append(r.bytes, b...)
	}
	return r.bytes[start:len(r.bytes):len(r.bytes)]
}

// messageBody is the prefix of a copy and the content it shares.
type messageBody struct {
	prefix  []byte
	content io.ReaderAt
	closer  io.Closer
	size    int64
}

// Body implements store.Mailbox.
func (m *mailbox) Body(ctx context.Context, uid store.UID) (store.MessageBody, error) {
	b := &messageBody{}
	var digest, header, text []byte
	var inFile bool
	var at blob.Place
	m.s.naming.RLock()
	defer m.s.naming.RUnlock()
	err := m.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		found, err := tx.Get("SELECT prefix, message.size, digest, text IS NULL, CASE WHEN text IS NOT NULL THEN header END, text, coalesce(pack, 0), coalesce(place, 0) FROM message JOIN body ON id=body WHERE mailbox=? AND uid=?",
			[]any{m.id, int64(uid)}, &b.prefix, &b.size, &digest, &inFile, &header, &text, &at.Pack, &at.Offset)
		if err != nil || found {
			return err
		}
		if _, err := readRow(tx, m.id); err != nil {
			return err
		}
		return store.ErrNoMessage
	})
	if err != nil {
		return nil, failure(err)
	}
	if !inFile {
		b.prefix, b.content = append(b.prefix, header...), bytes.NewReader(text)
		return b, nil
	}
	if !at.IsZero() {
		p, err := m.s.packs.Open(at, b.size-int64(len(b.prefix)))
		if err != nil {
			return nil, damagedFile(digest, err)
		}
		b.content, b.closer = p, p
		return b, nil
	}
	f, err := m.s.bodies.Open(blob.Digest(digest))
	if err != nil {
		return nil, damagedFile(digest, err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() != b.size-int64(len(b.prefix)) {
		err = fmt.Errorf("%d bytes of %d", st.Size(), b.size-int64(len(b.prefix)))
	}
	if err != nil {
		return nil, damagedFile(digest, errors.Join(err, f.Close()))
	}
	b.content, b.closer = f, f
	return b, nil
}

// damagedFile is an error for a body's file that is not as it was written.
func damagedFile(digest []byte, err error) error {
	return fmt.Errorf("%w: file of body %s is damaged; run: mailsrv verify, and then: mailsrv restore DIR: %w", store.ErrUnavailable, blob.Digest(digest), err)
}

// Size implements store.MessageBody.
func (b *messageBody) Size() int64 { return b.size }

// Close implements store.MessageBody.
func (b *messageBody) Close() error {
	if b.closer == nil {
		return nil
	}
	return b.closer.Close()
}

// ReadAt implements store.MessageBody.
func (b *messageBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(b.prefix)) {
		n = copy(p, b.prefix[off:])
		if n == len(p) {
			return n, nil
		}
	}
	k, err := b.content.ReadAt(p[n:], off+int64(n)-int64(len(b.prefix)))
	return n + k, err
}
