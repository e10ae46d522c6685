package sqlstore

import (
	"context"

	"mailsrv/pkg/store"
)

// victim is a message to be removed.
type victim struct {
	uid   store.UID
	flags store.SystemFlags
	size  int64
}

// runsOf makes each victim a run of its own.
func runsOf(victims []victim) []run {
	runs := make([]run, len(victims))
	for i, v := range victims {
		runs[i] = run{first: v.uid, last: v.uid}
	}
	return runs
}

// Expunge implements store.Mailbox.
func (m *mailbox) Expunge(ctx context.Context, uids store.UIDSet) ([]store.UID, error) {
	return m.expunge(ctx, uids, store.Deleted)
}

// Remove implements store.Mailbox.
func (m *mailbox) Remove(ctx context.Context, uids store.UIDSet) ([]store.UID, error) {
	return m.expunge(ctx, uids, 0)
}

// expunge removes the messages of uids that have all those flags.
func (m *mailbox) expunge(ctx context.Context, uids store.UIDSet, flags store.SystemFlags) (gone []store.UID, err error) {
	err = m.s.writeListed(ctx, m.id, func(g *group, c *change) error {
		gone = nil
		victims, runs := c.victims(uids, flags)
		if len(victims) == 0 {
			return nil
		}
		for _, v := range victims {
			gone = append(gone, v.uid)
		}
		return g.remove(c, victims, runs, true)
	})
	return gone, err
}

// victims returns the messages of uids that have all those flags, and the runs
// in which they lie.
func (c *change) victims(uids store.UIDSet, flags store.SystemFlags) (victims []victim, runs []run) {
	c.each(uids, func(i int, st store.FlagState) {
		if st.Flags.Has(flags) {
			victims = append(victims, victim{st.UID, st.Flags.System, c.list.items[i].size})
			runs = extend(runs, i, st.UID)
		}
	})
	return victims, runs
}

// extend adds the message at index i of the list to the last run, or begins one.
func extend(runs []run, i int, uid store.UID) []run {
	if n := len(runs) - 1; n >= 0 && runs[n].index == i-1 {
		runs[n].last, runs[n].index = uid, i
		return runs
	}
	return append(runs, run{first: uid, last: uid, index: i})
}

// remove takes messages out of a mailbox, which lie in runs; they can be had
// again until they are purged if keep is set.
func (g *group) remove(c *change, victims []victim, runs []run, keep bool) error {
	at := int64(0)
	if keep {
		at = g.s.o.Now().Unix()
	}
	for _, r := range runs {
		if _, _, err := g.Exec(removeQuery+" AND uid BETWEEN ? AND ?", at, c.box.id, int64(r.first), int64(r.last)); err != nil {
			return err
		}
	}
	return g.erase(c, victims, runs)
}

const removeQuery = `INSERT INTO removed (at, account, name, uidvalidity, uid, flags, keywords, internal, zone, size, body, prefix)
	SELECT ?, account, name, uidvalidity, uid, flags, keywords, internal, zone, size, body, prefix
	FROM message JOIN mailbox ON mailbox.id=mailbox WHERE mailbox=?`

// erase deletes the rows of messages and remembers that they were there.
func (g *group) erase(c *change, victims []victim, runs []run) error {
	c.row.modSeq++
	c.row.gone = c.row.modSeq
	if err := g.unmark(c.box.id, runs); err != nil {
		return err
	}
	for _, r := range runs {
		if _, _, err := g.Exec("INSERT INTO expunged (mailbox, modseq, uid) SELECT mailbox, ?, uid FROM message WHERE mailbox=? AND uid BETWEEN ? AND ?",
			int64(c.row.modSeq), c.box.id, int64(r.first), int64(r.last)); err != nil {
			return err
		}
		if _, _, err := g.Exec("DELETE FROM message WHERE mailbox=? AND uid BETWEEN ? AND ?", c.box.id, int64(r.first), int64(r.last)); err != nil {
			return err
		}
	}
	gone := make([]store.UID, len(victims))
	for i, v := range victims {
		gone[i] = v.uid
		g.count(c, -1, v.flags, v.size)
	}
	c.ops = append(c.ops, op{seq: c.row.modSeq, gone: gone})
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
	err = m.s.writeListed(ctx, m.id, func(g *group, c *change) error {
		r, err = g.transfer(c, uids, dst, q, move)
		return err
	})
	if err != nil {
		return store.CopyResult{}, err
	}
	return r, nil
}

// transfer copies or moves messages to the mailbox of that name in the same account.
func (g *group) transfer(c *change, uids store.UIDSet, dst string, q store.Quota, move bool) (r store.CopyResult, err error) {
	id, err := g.named(c.row.account, dst)
	if err != nil {
		return r, err
	}
	to, err := g.mailbox(id)
	if err != nil {
		return r, err
	}
	r.UIDValidity = to.row.uidValidity
	var all []added
	var victims []victim
	var size int64
	var copies, gone []run // copies: their UIDs follow each other too
	saved := g.s.o.Now().Unix()
	c.each(uids, func(i int, st store.FlagState) {
		it := c.list.items[i]
		it.saved = saved
		all = append(all, added{flags: st.Flags, item: it})
		victims = append(victims, victim{st.UID, st.Flags.System, it.size})
		r.From, size = append(r.From, st.UID), size+it.size
		if n := len(copies) - 1; n >= 0 && copies[n].last+1 == st.UID {
			copies[n].last = st.UID
		} else {
			copies = append(copies, run{first: st.UID, last: st.UID})
		}
		gone = extend(gone, i, st.UID)
	})
	if len(all) == 0 {
		return r, nil
	}
	if err := g.room(c.row.account, q, size, int64(len(all))); err != nil {
		return store.CopyResult{}, err
	}
	to.row.modSeq++
	next := to.row.uidNext
	for _, u := range copies {
		if _, _, err := g.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, zone, saved, size, body, prefix)
			SELECT ?, uid+?, ?, flags, keywords, internal, zone, ?, size, body, prefix FROM message WHERE mailbox=? AND uid BETWEEN ? AND ?`,
			id, int64(next)-int64(u.first), int64(to.row.modSeq), saved, c.box.id, int64(u.first), int64(u.last)); err != nil {
			return r, err
		}
		next += u.last - u.first + 1
	}
	r.To = make([]store.UID, len(all))
	for i := range all {
		all[i].uid = to.row.uidNext + store.UID(i)
		r.To[i] = all[i].uid
		g.count(to, 1, all[i].flags.System, all[i].item.size)
	}
	to.row.uidNext = next
	to.ops = append(to.ops, op{seq: to.row.modSeq, added: all})
	if move {
		err = g.erase(c, victims, gone)
	}
	return r, err
}

// renameInbox moves INBOX's messages to a new mailbox (RFC 9051 §6.3.6).
func (a *account) renameInbox(ctx context.Context, to string) error {
	inbox, err := a.Open(ctx, "INBOX")
	if err != nil {
		return err
	}
	return a.s.writeListed(ctx, inbox.ID(), func(g *group, c *change) error {
		if _, err := g.create(a.id, to, ""); err != nil {
			return err
		}
		_, err := g.transfer(c, store.AllUIDs(), to, store.NoQuota(), true)
		return err
	})
}
