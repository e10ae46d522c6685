package sqlstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

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
	d := delivery{trace: trace, body: b, at: s.o.Now()}
	err = s.write(ctx, func(g *group) error {
		d.id = 0
		for i, t := range targets {
			err := d.deliver(g, t)
			if errs[i] = err; err != nil && !errors.Is(err, store.ErrOverQuota) && !errors.Is(err, store.ErrBadName) && !errors.Is(err, store.ErrTooMany) && !errors.Is(err, store.ErrHeld) {
				return err // the database's own: all or none
			}
		}
		return nil
	})
	s.naming.RUnlock()
	if err != nil || d.id == 0 || b.spare {
		s.forsake(ctx, b, err)
	}
	if err != nil {
		return mail.All(len(targets), err)
	}
	return errs
}

// delivery is one message on its way to its targets.
type delivery struct {
	trace mail.TraceID
	body  *body
	id    int64 // of the body's row; 0: not stored so far
	at    time.Time
}

// deliver stores one copy, unless it is there already.
func (d *delivery) deliver(g *group, t store.Target) error {
	c, err := g.target(t)
	if err != nil {
		return err
	}
	_, fresh, err := g.Exec("INSERT OR IGNORE INTO delivered (trace, mailbox, at) VALUES (?,?,?)", string(d.trace), c.box.id, d.at.Unix())
	if err != nil || fresh == 0 {
		return err
	}
	if t.SentCopy && d.body.messageID != "" {
		if there, err := g.holds(c, d.body.messageID); err != nil || there {
			return err
		}
	}
	m := message{flags: t.Flags, internal: d.at, sentCopy: t.SentCopy}
	if !t.SentCopy {
		m.prefix = tracePrefix(t)
	}
	m.size = d.body.size + int64(len(m.prefix))
	if err := g.room(c.row.account, t.Quota, m.size, 1); err != nil {
		// It may be delivered again once there is room.
		_, _, undo := g.Exec("DELETE FROM delivered WHERE trace=? AND mailbox=?", string(d.trace), c.box.id)
		return errors.Join(err, undo)
	}
	if d.id == 0 {
		if d.id, err = d.body.insert(g); err != nil {
			return err
		}
	}
	m.body = d.id
	_, err = g.add(c, m)
	return err
}

// tracePrefix is the fields of final delivery (RFC 5321 §4.4).
func tracePrefix(t store.Target) []byte {
	p := make([]byte, 0, 128)
	p = append(append(append(p, "Return-Path: <"...), t.ReturnPath.String()...), ">\r\n"...)
	if !t.Recipient.IsNull() {
		p = append(append(append(p, "Delivered-To: "...), t.Recipient.String()...), "\r\n"...)
	}
	return p
}

// target finds a target's mailbox, and makes it and its account if they are missing.
func (g *group) target(t store.Target) (*change, error) {
	account, err := g.account(t.Account)
	if err != nil {
		return nil, err
	}
	name := "INBOX"
	if t.Mailbox != "" {
		if name, err = normalName(t.Mailbox); err != nil {
			return nil, err
		}
	}
	id, err := g.named(account, name)
	if errors.Is(err, store.ErrNoMailbox) {
		id, err = g.create(account, name, "")
	}
	if err != nil {
		return nil, err
	}
	return g.mailbox(id)
}

// lookBack is among how many of a mailbox's last messages the client's own copy
// of a submission is looked for.
const lookBack = 200

// holds reports whether one of the mailbox's last messages has that Message-ID.
func (g *group) holds(c *change, messageID string) (there bool, err error) {
	var one int
	return g.Get(`SELECT 1 FROM (SELECT body FROM message WHERE mailbox=? ORDER BY uid DESC LIMIT ?) JOIN body ON id=body WHERE messageid=? LIMIT 1`,
		[]any{c.box.id, lookBack, messageID}, &one)
}

// message is a row to be.
type message struct {
	flags    store.Flags
	internal time.Time
	size     int64
	body     int64
	prefix   []byte
	sentCopy bool
}

// add gives a message the next UID of its mailbox.
func (g *group) add(c *change, m message) (store.UID, error) {
	_, offset := m.internal.Zone()
	a := added{uid: c.row.uidNext, flags: m.flags,
		item: item{size: m.size, internal: m.internal.Unix(), zone: int16(offset / 60), saved: g.s.o.Now().Unix()}}
	c.row.uidNext++
	c.row.modSeq++
	prefix := m.prefix
	if prefix == nil {
		prefix = []byte{}
	}
	_, _, err := g.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, zone, saved, size, body, prefix, sentcopy) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		c.box.id, int64(a.uid), int64(c.row.modSeq), int64(m.flags.System), keywordsOf(m.flags), a.item.internal, int64(a.item.zone), a.item.saved,
		m.size, m.body, prefix, m.sentCopy)
	g.count(c, 1, m.flags.System, m.size)
	c.ops = append(c.ops, op{seq: c.row.modSeq, added: []added{a}})
	return a.uid, err
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
	err = m.s.bring(ctx, messages, func(bodies []*body) error {
		return m.s.write(ctx, func(g *group) error {
			c, err := g.mailbox(m.id)
			switch {
			case err != nil:
			case m.reader != nil:
				uids, err = g.appendAs(c, m.reader.account, messages, bodies, q)
			default:
				uids, err = g.appendAll(c, messages, bodies, q)
			}
			return err
		})
	})
	return uids, err
}

// Replace implements store.Mailbox.
func (m *mailbox) Replace(ctx context.Context, uid store.UID, dst string, by store.Incoming, q store.Quota) (added store.UID, err error) {
	if dst, err = normalName(dst); err != nil {
		return 0, store.ErrNoMailbox
	}
	messages := []store.Incoming{by}
	err = m.s.bring(ctx, messages, func(bodies []*body) error {
		return m.s.writeListed(ctx, m.id, func(g *group, c *change) error {
			id, err := g.named(m.account, dst)
			if err != nil {
				return err
			}
			to, err := g.mailbox(id)
			if err != nil {
				return err
			}
			victims, runs := c.victims(store.UIDsOf(uid), 0)
			if len(victims) == 0 {
				return store.ErrNoMessage
			}
			if err := g.remove(c, victims, runs, true); err != nil {
				return err
			}
			uids, err := g.appendAll(to, messages, bodies, q)
			if err == nil {
				added = uids[0]
			}
			return err
		})
	})
	return added, err
}

// bring takes messages in and calls fn with their bodies, which stores them.
func (s *Store) bring(ctx context.Context, messages []store.Incoming, fn func([]*body) error) (err error) {
	bodies := make([]*body, 0, len(messages))
	s.naming.RLock()
	for _, in := range messages {
		b, e := s.take(ctx, in.Body)
		if e != nil {
			err = failure(e)
			break
		}
		bodies = append(bodies, b)
	}
	stored := false
	if err == nil {
		err = fn(bodies)
		stored = err == nil
	}
	s.naming.RUnlock()
	cause := err
	if len(bodies) < len(messages) {
		cause = nil // nothing was tried
	}
	for _, b := range bodies {
		if !stored || b.spare {
			s.forsake(ctx, b, cause)
		}
	}
	return err
}

// appendAll appends messages.
func (g *group) appendAll(c *change, messages []store.Incoming, bodies []*body, q store.Quota) ([]store.UID, error) {
	uids := make([]store.UID, 0, len(messages))
	for i, in := range messages {
		b := bodies[i]
		if b.messageID != "" {
			if err := g.replaceSentCopy(c, b.messageID); err != nil {
				return nil, err
			}
		}
		if err := g.room(c.row.account, q, b.size, 1); err != nil {
			return nil, err
		}
		id, err := b.insert(g)
		if err != nil {
			return nil, err
		}
		if in.InternalDate.IsZero() {
			in.InternalDate = g.s.o.Now()
		}
		uid, err := g.add(c, message{flags: in.Flags, internal: in.InternalDate, size: b.size, body: id})
		if err != nil {
			return nil, err
		}
		uids = append(uids, uid)
	}
	return uids, nil
}

// replaceSentCopy removes the copy that the MTA made of what the client now
// appends itself: the client's own is the one to keep, byte for byte.
func (g *group) replaceSentCopy(c *change, messageID string) error {
	var victims []victim
	if err := g.Query("SELECT uid, flags, message.size FROM message JOIN body ON id=body WHERE mailbox=? AND sentcopy AND messageid=? ORDER BY uid",
		[]any{c.box.id, messageID}, func(scan func(...any) error) error {
			var v victim
			err := scan(&v.uid, &v.flags, &v.size)
			victims = append(victims, v)
			return err
		}); err != nil || len(victims) == 0 {
		return err
	}
	return g.remove(c, victims, runsOf(victims), false)
}

func flagsOf(system uint8, keywords string) store.Flags {
	f := store.Flags{System: store.SystemFlags(system)}
	if keywords != "" {
		f.Keywords = strings.Split(keywords, " ")
	}
	return f
}

func keywordsOf(f store.Flags) string { return strings.Join(f.Keywords, " ") }
