package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// forgetAfter is how long a trace is remembered: longer than any queue tries.
const forgetAfter = 14 * 24 * time.Hour

// Deliver implements store.Store.
func (s *Store) Deliver(ctx context.Context, trace mail.TraceID, in mail.Body, targets []store.Target) []error {
	if len(targets) == 0 {
		return nil
	}
	s.naming.RLock()
	b, err := s.take(ctx, in)
	if err != nil {
		s.naming.RUnlock()
		return mail.All(len(targets), failure(err))
	}
	errs := make([]error, len(targets))
	var touched []int64
	err = s.db.Write(ctx, func(tx *sqlite.Tx) error {
		touched = touched[:0]
		// Traces are forgotten a few at a time, by the deliveries themselves.
		if _, _, err := tx.Exec("DELETE FROM delivered WHERE (trace, mailbox) IN (SELECT trace, mailbox FROM delivered WHERE at<? LIMIT 20)",
			s.o.Now().Add(-forgetAfter).Unix()); err != nil {
			return err
		}
		id, err := insertBody(tx, b)
		if err != nil {
			return err
		}
		for i, t := range targets {
			mailbox, err := s.deliver(tx, trace, id, b, t)
			if errs[i] = err; err != nil && !errors.Is(err, store.ErrOverQuota) && !errors.Is(err, store.ErrBadName) && !errors.Is(err, store.ErrTooMany) {
				return err // the database's own: all or none
			}
			if mailbox != 0 {
				touched = append(touched, mailbox)
			}
		}
		if len(touched) == 0 {
			_, err = dropBodies(tx, map[int64]bool{id: true})
		}
		return err
	})
	s.naming.RUnlock()
	if err != nil || len(touched) == 0 {
		s.forsake(ctx, b, err)
	}
	if err != nil {
		return mail.All(len(targets), failure(err))
	}
	s.wake(touched...)
	return errs
}

// deliver stores one copy and returns its mailbox, 0 if there was nothing to do.
func (s *Store) deliver(tx *sqlite.Tx, trace mail.TraceID, id int64, b *body, t store.Target) (int64, error) {
	account, err := s.ensureAccount(tx, t.Account)
	if err != nil {
		return 0, err
	}
	name := "INBOX"
	if t.Mailbox != "" {
		if name, err = normalName(t.Mailbox); err != nil {
			return 0, err
		}
	}
	var mailbox int64
	found, err := tx.Get("SELECT id FROM mailbox WHERE account=? AND name=? AND NOT noselect", []any{account, name}, &mailbox)
	if err == nil && !found {
		mailbox, err = s.create(tx, account, name, "")
	}
	if err != nil {
		return 0, err
	}
	_, fresh, err := tx.Exec("INSERT OR IGNORE INTO delivered (trace, mailbox, at) VALUES (?,?,?)", trace, mailbox, s.o.Now().Unix())
	if err != nil || fresh == 0 {
		return 0, err
	}
	if t.SentCopy && b.messageID != "" {
		var one int
		if there, err := tx.Get("SELECT 1 FROM message JOIN body ON id=body WHERE messageid=? AND mailbox=? LIMIT 1", []any{b.messageID, mailbox}, &one); err != nil || there {
			return 0, err
		}
	}
	var prefix []byte
	if !t.SentCopy {
		prefix = append(append(append(prefix, "Return-Path: <"...), t.ReturnPath.String()...), ">\r\n"...)
		if !t.Recipient.IsNull() {
			prefix = append(append(append(prefix, "Delivered-To: "...), t.Recipient.String()...), "\r\n"...)
		}
	}
	size := b.size + int64(len(prefix))
	if err := room(tx, account, t.Quota, size, 1); err != nil {
		// It may be delivered again once there is room.
		_, _, undo := tx.Exec("DELETE FROM delivered WHERE trace=? AND mailbox=?", trace, mailbox)
		return 0, errors.Join(err, undo)
	}
	_, err = s.insertMessage(tx, mailbox, message{flags: t.Flags, internal: s.o.Now(), size: size, body: id, prefix: prefix, sentCopy: t.SentCopy})
	return mailbox, err
}

type message struct {
	flags    store.Flags
	internal time.Time
	size     int64
	body     int64
	prefix   []byte
	sentCopy bool
}

// insertMessage gives a message the next UID of its mailbox.
func (s *Store) insertMessage(tx *sqlite.Tx, mailbox int64, m message) (uid store.UID, err error) {
	var seq store.ModSeq
	if _, err := tx.Get("UPDATE mailbox SET uidnext=uidnext+1, modseq=modseq+1 WHERE id=? RETURNING uidnext-1, modseq", []any{mailbox}, &uid, &seq); err != nil {
		return 0, err
	}
	prefix := m.prefix
	if prefix == nil {
		prefix = []byte{}
	}
	_, _, err = tx.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, saved, size, body, prefix, sentcopy) VALUES (?,?,?,?,?,?,?,?,?,?,?)`,
		mailbox, uid, seq, uint8(m.flags.System), keywordsOf(m.flags), m.internal.Format(time.RFC3339), s.o.Now().Unix(), m.size, m.body, prefix, m.sentCopy)
	return uid, err
}

// Append implements store.Mailbox.
func (m *mailbox) Append(ctx context.Context, in mail.Body, flags store.Flags, internalDate time.Time, q store.Quota) (store.UID, error) {
	uids, err := m.AppendAll(ctx, []store.Incoming{{Body: in, Flags: flags, InternalDate: internalDate}}, q)
	if err != nil {
		return 0, err
	}
	return uids[0], nil
}

// AppendAll implements store.Mailbox.
func (m *mailbox) AppendAll(ctx context.Context, messages []store.Incoming, q store.Quota) (uids []store.UID, err error) {
	err = m.bring(ctx, messages, func(tx *sqlite.Tx, bodies []*body, d *dropped) error {
		uids, err = m.appendIn(tx, messages, bodies, q, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.s.wake(m.id)
	return uids, nil
}

// Replace implements store.Mailbox.
func (m *mailbox) Replace(ctx context.Context, uid store.UID, dst string, by store.Incoming, q store.Quota) (added store.UID, err error) {
	if dst, err = normalName(dst); err != nil {
		return 0, store.ErrNoMailbox
	}
	to := &mailbox{s: m.s, account: m.account, name: dst}
	messages := []store.Incoming{by}
	err = m.bring(ctx, messages, func(tx *sqlite.Tx, bodies []*body, d *dropped) error {
		if found, err := tx.Get("SELECT id FROM mailbox WHERE account=? AND name=? AND NOT noselect", []any{m.account, dst}, &to.id); err != nil || !found {
			return cmp.Or(err, store.ErrNoMailbox)
		}
		var old int64
		if found, err := tx.Get("SELECT body FROM message WHERE mailbox=? AND uid=?", []any{m.id, uid}, &old); err != nil || !found {
			return cmp.Or(err, store.ErrNoMessage)
		}
		if err := remove(tx, m.id, []store.UID{uid}); err != nil {
			return err
		}
		uids, err := to.appendIn(tx, messages, bodies, q, d)
		if err != nil {
			return err
		}
		added = uids[0]
		files, err := dropBodies(tx, map[int64]bool{old: true})
		d.files = append(d.files, files...)
		return err
	})
	if err != nil {
		return 0, err
	}
	m.s.wake(m.id, to.id)
	return added, nil
}

// bring takes messages in and runs fn with their bodies in one transaction.
func (m *mailbox) bring(ctx context.Context, messages []store.Incoming, fn func(*sqlite.Tx, []*body, *dropped) error) error {
	bodies := make([]*body, 0, len(messages))
	m.s.naming.RLock()
	for _, in := range messages {
		b, err := m.s.take(ctx, in.Body)
		if err != nil {
			m.s.naming.RUnlock()
			m.s.forsakeAll(ctx, bodies, nil)
			return failure(err)
		}
		bodies = append(bodies, b)
	}
	var d dropped
	err := m.write(ctx, func(tx *sqlite.Tx) error {
		d = dropped{}
		return fn(tx, bodies, &d)
	})
	m.s.naming.RUnlock()
	if err != nil {
		m.s.forsakeAll(ctx, bodies, err)
		return err
	}
	m.s.removeFiles(context.WithoutCancel(ctx), d.files)
	return nil
}

func (s *Store) forsakeAll(ctx context.Context, bodies []*body, err error) {
	for _, b := range bodies {
		s.forsake(ctx, b, err)
	}
}

// appendIn appends messages within a transaction.
func (m *mailbox) appendIn(tx *sqlite.Tx, messages []store.Incoming, bodies []*body, q store.Quota, d *dropped) (uids []store.UID, err error) {
	for i, in := range messages {
		b := bodies[i]
		id, err := insertBody(tx, b)
		if err != nil {
			return nil, err
		}
		if b.messageID != "" {
			replaced, err := m.replaceSentCopy(tx, b.messageID, id)
			if err != nil {
				return nil, err
			}
			d.files = append(d.files, replaced.files...)
		}
		if err := room(tx, m.account, q, b.size, 1); err != nil {
			return nil, err
		}
		if in.InternalDate.IsZero() {
			in.InternalDate = m.s.o.Now()
		}
		uid, err := m.s.insertMessage(tx, m.id, message{flags: in.Flags, internal: in.InternalDate, size: b.size, body: id})
		if err != nil {
			return nil, err
		}
		uids = append(uids, uid)
	}
	return uids, nil
}

// replaceSentCopy removes the copy that the MTA made of what the client now
// appends itself: the client's own is the one to keep, byte for byte. own is the
// body of the client's.
func (m *mailbox) replaceSentCopy(tx *sqlite.Tx, messageID string, own int64) (d dropped, err error) {
	var uids []store.UID
	bodies := map[int64]bool{}
	if err := tx.Query("SELECT uid, body FROM body JOIN message ON body=id WHERE messageid=? AND mailbox=? AND sentcopy", []any{messageID, m.id},
		func(scan func(...any) error) error {
			var uid store.UID
			var id int64
			err := scan(&uid, &id)
			uids, bodies[id] = append(uids, uid), true
			return err
		}); err != nil || len(uids) == 0 {
		return d, err
	}
	if err := remove(tx, m.id, uids); err != nil {
		return d, err
	}
	delete(bodies, own) // about to be named again
	d.files, err = dropBodies(tx, bodies)
	return d, err
}
