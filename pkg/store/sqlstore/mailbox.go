package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

type mailbox struct {
	s       *Store
	id      int64
	account int64
	name    string
}

var _ store.Mailbox = (*mailbox)(nil)

// dropped carries out of a transaction what is to be removed after its commit.
type dropped struct{ files []blob.Digest }

// ID implements store.Mailbox.
func (m *mailbox) ID() int64 { return m.id }

// Name implements store.Mailbox.
func (m *mailbox) Name() string { return m.name }

// exists returns ErrNoMailbox if the mailbox was deleted meanwhile.
func (m *mailbox) exists(tx *sqlite.Tx) error {
	var one int
	found, err := tx.Get("SELECT 1 FROM mailbox WHERE id=?", []any{m.id}, &one)
	if err == nil && !found {
		err = store.ErrNoMailbox
	}
	return err
}

func (m *mailbox) read(ctx context.Context, fn func(*sqlite.Tx) error) error {
	return failure(m.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		if err := m.exists(tx); err != nil {
			return err
		}
		return fn(tx)
	}))
}

func (m *mailbox) write(ctx context.Context, fn func(*sqlite.Tx) error) error {
	return failure(m.s.db.Write(ctx, func(tx *sqlite.Tx) error {
		if err := m.exists(tx); err != nil {
			return err
		}
		return fn(tx)
	}))
}

// Status implements store.Mailbox.
func (m *mailbox) Status(ctx context.Context) (st store.Status, err error) {
	err = m.read(ctx, func(tx *sqlite.Tx) error {
		var recent store.UID
		if _, err := tx.Get("SELECT uidvalidity, uidnext, modseq, recent FROM mailbox WHERE id=?", []any{m.id},
			&st.UIDValidity, &st.UIDNext, &st.HighestModSeq, &recent); err != nil {
			return err
		}
		_, err := tx.Get("SELECT messages, unseen, deleted, bytes, (SELECT count(*) FROM message WHERE mailbox=id AND uid>=?) FROM mailbox WHERE id=?",
			[]any{recent, m.id}, &st.Messages, &st.Unseen, &st.Deleted, &st.Size, &st.Recent)
		return err
	})
	return st, err
}

// pageSize is how many messages are read from the database at a time: a slow
// client holds no reader.
const pageSize = 512

// Messages implements store.Mailbox.
func (m *mailbox) Messages(ctx context.Context, uids store.UIDSet, fields store.Fields) iter.Seq2[*store.Message, error] {
	return func(yield func(*store.Message, error) bool) {
		var page []store.Message
		for _, r := range uids {
			for from := r.First; ; {
				var err error
				if page, err = m.page(ctx, page[:0], from, r.Last, fields); err != nil {
					yield(nil, err)
					return
				}
				for i := range page {
					if !yield(&page[i], nil) {
						return
					}
				}
				if len(page) < pageSize || page[len(page)-1].UID == r.Last {
					break
				}
				from = page[len(page)-1].UID + 1
			}
		}
	}
}

const (
	flagsQuery = `SELECT uid, modseq, flags, keywords, internal, saved, size FROM message WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?`
	fullQuery  = `SELECT uid, modseq, flags, keywords, internal, saved, message.size, envelope, basic, structure, header, parts, prefix, digest
		FROM message JOIN body ON id=body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?`
	envelopeQuery = `SELECT uid, modseq, flags, keywords, internal, saved, message.size, envelope
		FROM message JOIN body ON id=body WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?`
)

// page reads up to pageSize messages.
func (m *mailbox) page(ctx context.Context, page []store.Message, first, last store.UID, fields store.Fields) ([]store.Message, error) {
	query, rich := flagsQuery, fields&^store.FieldMeta != 0
	if rich {
		query = fullQuery
	}
	if rich && fields&^(store.FieldMeta|store.FieldEnvelope) == 0 {
		query = envelopeQuery
	}
	err := m.read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query(query, []any{m.id, first, last, pageSize}, func(scan func(...any) error) error {
			var msg store.Message
			var flags uint8
			var keywords, internal string
			var saved int64
			var prefix, parts, digest sql.RawBytes
			dest := []any{&msg.UID, &msg.ModSeq, &flags, &keywords, &internal, &saved, &msg.Size}
			switch query {
			case envelopeQuery:
				dest = append(dest, &msg.Envelope)
			case fullQuery:
				dest = append(dest, &msg.Envelope, &msg.Body, &msg.BodyStructure, &msg.Header, &parts, &prefix, &digest)
			}
			if err := scan(dest...); err != nil {
				return err
			}
			msg.Flags = flagsOf(flags, keywords)
			msg.InternalDate, _ = time.Parse(time.RFC3339, internal)
			msg.SaveDate = time.Unix(saved, 0)
			if query == fullQuery {
				msg.Header = append(append(make([]byte, 0, len(prefix)+len(msg.Header)), prefix...), msg.Header...)
				msg.ID = contentID(digest, prefix)
				var err error
				if msg.Parts, err = mime.PrefixParts(nil, parts, len(prefix)); err != nil {
					return err
				}
			}
			page = append(page, msg)
			return nil
		})
	})
	return page, err
}

// contentID names what the body of that digest is behind prefix.
func contentID(digest, prefix []byte) string {
	if len(prefix) > 0 {
		sum := sha256.Sum256(append(slices.Clone(digest), prefix...))
		digest = sum[:]
	}
	return "M" + base64.RawURLEncoding.EncodeToString(digest[:18])
}

func flagsOf(system uint8, keywords string) store.Flags {
	f := store.Flags{System: store.SystemFlags(system)}
	if keywords != "" {
		f.Keywords = strings.Split(keywords, " ")
	}
	return f
}

func keywordsOf(f store.Flags) string { return strings.Join(f.Keywords, " ") }

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
	var digest, content []byte
	m.s.naming.RLock()
	defer m.s.naming.RUnlock()
	err := m.read(ctx, func(tx *sqlite.Tx) error {
		found, err := tx.Get("SELECT prefix, message.size, digest, content FROM message JOIN body ON id=body WHERE mailbox=? AND uid=?",
			[]any{m.id, uid}, &b.prefix, &b.size, &digest, &content)
		if err == nil && !found {
			err = store.ErrNoMessage
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if content != nil || b.size == int64(len(b.prefix)) { // the driver may give an empty body as nil
		b.content = bytes.NewReader(content)
		return b, nil
	}
	f, err := m.s.bodies.Open(blob.Digest(digest))
	if err != nil {
		return nil, err
	}
	b.content, b.closer = f, f
	return b, nil
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

// bump takes the next MODSEQ of the mailbox.
func bump(tx *sqlite.Tx, mailbox int64) (seq store.ModSeq, err error) {
	_, err = tx.Get("UPDATE mailbox SET modseq=modseq+1 WHERE id=? RETURNING modseq", []any{mailbox}, &seq)
	return seq, err
}

// StoreFlags implements store.Mailbox.
func (m *mailbox) StoreFlags(ctx context.Context, uids store.UIDSet, change store.FlagChange, unchangedSince store.ModSeq) (r store.StoreResult, err error) {
	err = m.write(ctx, func(tx *sqlite.Tx) error {
		r = store.StoreResult{}
		seq, err := bump(tx, m.id)
		if err != nil {
			return err
		}
		var dirty []store.FlagState
		for _, u := range uids {
			if err := tx.Query("SELECT uid, modseq, flags, keywords FROM message WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid",
				[]any{m.id, u.First, u.Last}, func(scan func(...any) error) error {
					st, err := scanState(scan)
					if err != nil {
						return err
					}
					if unchangedSince > 0 && st.ModSeq > unchangedSince {
						r.Modified = append(r.Modified, st)
						return nil
					}
					if after := st.Flags.Apply(change); !after.Equal(st.Flags) {
						st.Flags, st.ModSeq = after, seq
						dirty = append(dirty, st)
					}
					r.Changed = append(r.Changed, st)
					return nil
				}); err != nil {
				return err
			}
		}
		for _, st := range dirty {
			if _, _, err := tx.Exec("UPDATE message SET flags=?, keywords=?, modseq=? WHERE mailbox=? AND uid=?",
				uint8(st.Flags.System), keywordsOf(st.Flags), st.ModSeq, m.id, st.UID); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		m.s.wake(m.id)
	}
	return r, err
}

func scanState(scan func(...any) error) (st store.FlagState, err error) {
	var flags uint8
	var keywords string
	err = scan(&st.UID, &st.ModSeq, &flags, &keywords)
	st.Flags = flagsOf(flags, keywords)
	return st, err
}

// Expunge implements store.Mailbox.
func (m *mailbox) Expunge(ctx context.Context, uids store.UIDSet) ([]store.UID, error) {
	return m.expunge(ctx, uids, "flags & ? <> 0", store.Deleted)
}

// Remove implements store.Mailbox.
func (m *mailbox) Remove(ctx context.Context, uids store.UIDSet) ([]store.UID, error) {
	return m.expunge(ctx, uids, "TRUE")
}

// expunge removes the messages of uids that meet the SQL condition.
func (m *mailbox) expunge(ctx context.Context, uids store.UIDSet, condition string, args ...any) (gone []store.UID, err error) {
	var d dropped
	err = m.write(ctx, func(tx *sqlite.Tx) error {
		gone, d = nil, dropped{}
		bodies := map[int64]bool{}
		for _, u := range uids {
			if err := tx.Query("SELECT uid, body FROM message WHERE mailbox=? AND uid BETWEEN ? AND ? AND "+condition+" ORDER BY uid",
				append([]any{m.id, u.First, u.Last}, args...), func(scan func(...any) error) error {
					var uid store.UID
					var body int64
					err := scan(&uid, &body)
					gone, bodies[body] = append(gone, uid), true
					return err
				}); err != nil {
				return err
			}
		}
		if len(gone) == 0 {
			return nil
		}
		if err := remove(tx, m.id, gone); err != nil {
			return err
		}
		d.files, err = dropBodies(tx, bodies)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(gone) > 0 {
		m.s.wake(m.id)
		m.s.removeFiles(context.WithoutCancel(ctx), d.files)
	}
	return gone, nil
}

// remove takes messages out of a mailbox and remembers that they were there.
func remove(tx *sqlite.Tx, mailbox int64, uids []store.UID) error {
	seq, err := bump(tx, mailbox)
	if err != nil {
		return err
	}
	for _, uid := range uids {
		if _, _, err := tx.Exec("DELETE FROM message WHERE mailbox=? AND uid=?", mailbox, uid); err != nil {
			return err
		}
		if _, _, err := tx.Exec("INSERT INTO expunged (mailbox, modseq, uid) VALUES (?,?,?)", mailbox, seq, uid); err != nil {
			return err
		}
	}
	return nil
}

// Copy implements store.Mailbox.
func (m *mailbox) Copy(ctx context.Context, uids store.UIDSet, dst string, q store.Quota) (store.CopyResult, error) {
	return m.transfer(ctx, uids, dst, q, false)
}

// Move implements store.Mailbox.
func (m *mailbox) Move(ctx context.Context, uids store.UIDSet, dst string) (store.CopyResult, error) {
	return m.transfer(ctx, uids, dst, store.NoQuota(), true)
}

func (m *mailbox) transfer(ctx context.Context, uids store.UIDSet, dst string, q store.Quota, move bool) (r store.CopyResult, err error) {
	if dst, err = normalName(dst); err != nil {
		return r, store.ErrNoMailbox
	}
	var to int64
	err = m.write(ctx, func(tx *sqlite.Tx) (err error) {
		r, to, err = m.transferIn(tx, uids, dst, q, move)
		return err
	})
	if err != nil {
		return store.CopyResult{}, err
	}
	m.s.wake(m.id, to)
	return r, nil
}

// transferIn copies or moves within a transaction, and returns the id of dst too.
func (m *mailbox) transferIn(tx *sqlite.Tx, uids store.UIDSet, dst string, q store.Quota, move bool) (r store.CopyResult, to int64, err error) {
	var next store.UID
	if found, err := tx.Get("SELECT id, uidvalidity, uidnext FROM mailbox WHERE account=? AND name=? AND NOT noselect", []any{m.account, dst}, &to, &r.UIDValidity, &next); err != nil || !found {
		return r, 0, cmp.Or(err, store.ErrNoMailbox)
	}
	var size int64
	for _, u := range uids {
		if err := tx.Query("SELECT uid, size FROM message WHERE mailbox=? AND uid BETWEEN ? AND ? ORDER BY uid", []any{m.id, u.First, u.Last},
			func(scan func(...any) error) error {
				var uid store.UID
				var n int64
				err := scan(&uid, &n)
				r.From, size = append(r.From, uid), size+n
				return err
			}); err != nil {
			return r, to, err
		}
	}
	if len(r.From) == 0 {
		return r, to, nil
	}
	if err := room(tx, m.account, q, size, int64(len(r.From))); err != nil {
		return r, to, err
	}
	seq, err := bump(tx, to)
	if err != nil {
		return r, to, err
	}
	for _, uid := range r.From {
		if _, _, err := tx.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, saved, size, body, prefix)
			SELECT ?, ?, ?, flags, keywords, internal, ?, size, body, prefix FROM message WHERE mailbox=? AND uid=?`,
			to, next, seq, m.s.o.Now().Unix(), m.id, uid); err != nil {
			return r, to, err
		}
		r.To = append(r.To, next)
		next++
	}
	if _, _, err := tx.Exec("UPDATE mailbox SET uidnext=? WHERE id=?", next, to); err != nil {
		return r, to, err
	}
	if move {
		err = remove(tx, m.id, r.From)
	}
	return r, to, err
}

// Changes implements store.Mailbox.
func (m *mailbox) Changes(ctx context.Context, since store.ModSeq) (c store.Changes, err error) {
	err = m.read(ctx, func(tx *sqlite.Tx) error {
		if _, err := tx.Get("SELECT modseq, uidnext FROM mailbox WHERE id=?", []any{m.id}, &c.Highest, &c.UIDNext); err != nil || c.Highest <= since {
			return err
		}
		if err := tx.Query("SELECT uid, modseq, flags, keywords FROM message WHERE mailbox=? AND modseq>? ORDER BY uid", []any{m.id, since},
			func(scan func(...any) error) error {
				st, err := scanState(scan)
				c.Messages = append(c.Messages, st)
				return err
			}); err != nil {
			return err
		}
		return tx.Query("SELECT uid FROM expunged WHERE mailbox=? AND modseq>? ORDER BY uid", []any{m.id, since}, func(scan func(...any) error) error {
			var uid store.UID
			err := scan(&uid)
			c.Expunged = append(c.Expunged, uid)
			return err
		})
	})
	return c, err
}

// ClaimRecent implements store.Mailbox.
func (m *mailbox) ClaimRecent(ctx context.Context, claim bool) (first store.UID, err error) {
	var next store.UID
	get := func(tx *sqlite.Tx) error {
		_, err := tx.Get("SELECT recent, uidnext FROM mailbox WHERE id=?", []any{m.id}, &first, &next)
		return err
	}
	if err := m.read(ctx, get); err != nil || !claim || first >= next {
		return first, err
	}
	err = m.write(ctx, func(tx *sqlite.Tx) error {
		if err := get(tx); err != nil {
			return err
		}
		_, _, err := tx.Exec("UPDATE mailbox SET recent=uidnext WHERE id=?", m.id)
		return err
	})
	return first, err
}

// Watch implements store.Mailbox.
func (m *mailbox) Watch(wake func()) (stop func()) { return m.s.watch(m.id, wake) }
