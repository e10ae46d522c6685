package sqlstore

import (
	"context"
	"math"
	"slices"
	"sync"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// seenMark says whether a message is \Seen to a reader, and since which change
// of the mailbox. A message without one is not.
type seenMark struct {
	uid    store.UID
	seen   bool
	modSeq store.ModSeq
}

func byUID(m seenMark, uid store.UID) int {
	switch {
	case m.uid < uid:
		return -1
	case m.uid > uid:
		return 1
	}
	return 0
}

// apply makes a message's state what it is to the reader whose marks these are,
// ascending by UID.
func apply(marks []seenMark, uid store.UID, flags *store.Flags, modSeq *store.ModSeq) {
	flags.System &^= store.Seen
	if i, found := slices.BinarySearchFunc(marks, uid, byUID); found {
		if marks[i].seen {
			flags.System |= store.Seen
		}
		*modSeq = max(*modSeq, marks[i].modSeq)
	}
}

// readerMarks are the marks of one reader of a mailbox that somebody else owns,
// as far as they were read. They cost 24 bytes a mark while it is open.
type readerMarks struct {
	account int64

	mu sync.Mutex
	// upTo: the marks up to this change are here.
	upTo  store.ModSeq
	marks []seenMark // replaced, never changed in place
}

// until returns the marks, with all up to a change of the mailbox that is committed.
func (r *readerMarks) until(ctx context.Context, m *mailbox, seq store.ModSeq) ([]seenMark, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.upTo >= seq && r.upTo > 0 {
		return r.marks, nil
	}
	var news []seenMark
	err := m.s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		news, err = readMarks(tx, "SELECT uid, seen, modseq FROM seen WHERE mailbox=? AND account=? AND modseq>? ORDER BY uid", m.id, r.account, int64(r.upTo))
		return err
	})
	if err != nil {
		return nil, failure(err)
	}
	r.upTo = max(r.upTo, seq)
	for _, n := range news {
		r.upTo = max(r.upTo, n.modSeq)
	}
	r.marks = merge(r.marks, news)
	return r.marks, nil
}

func readMarks(tx *sqlite.Tx, query string, args ...any) (marks []seenMark, err error) {
	err = tx.Query(query, args, func(scan func(...any) error) error {
		var n seenMark
		err := scan(&n.uid, &n.seen, &n.modSeq)
		marks = append(marks, n)
		return err
	})
	return marks, err
}

// merge returns old with what news has of the same messages and of others; both
// ascend by UID.
func merge(old, news []seenMark) []seenMark {
	if len(news) == 0 {
		return old
	}
	out := make([]seenMark, 0, len(old)+len(news))
	for len(old) > 0 && len(news) > 0 {
		switch {
		case old[0].uid < news[0].uid:
			out, old = append(out, old[0]), old[1:]
		case old[0].uid > news[0].uid:
			out, news = append(out, news[0]), news[1:]
		default:
			old = old[1:]
		}
	}
	return append(append(out, old...), news...)
}

// current returns the marks as of now.
func (r *readerMarks) current(ctx context.Context, m *mailbox) ([]seenMark, error) {
	row, err := m.s.row(ctx, m.id)
	if err != nil {
		return nil, err
	}
	return r.until(ctx, m, row.modSeq)
}

// applyTo makes messages what they are to the reader.
func (r *readerMarks) applyTo(ctx context.Context, m *mailbox, messages []store.Message) error {
	marks, err := r.current(ctx, m)
	for i := range messages {
		apply(marks, messages[i].UID, &messages[i].Flags, &messages[i].ModSeq)
	}
	return err
}

// applyToList makes a listing what it is to the reader.
func (r *readerMarks) applyToList(ctx context.Context, m *mailbox, l *store.Listing) error {
	marks, err := r.until(ctx, m, l.HighestModSeq)
	if err != nil {
		return err
	}
	n := store.FlagRef(len(l.Sets)) // each set without \Seen, and then with it
	for _, seen := range []bool{false, true} {
		for _, f := range l.Sets[:n] {
			if f.System &^= store.Seen; seen {
				f.System |= store.Seen
			}
			l.Sets = append(l.Sets, f)
		}
	}
	l.Sets = l.Sets[n:]
	for i, uid := range l.UIDs {
		for len(marks) > 0 && marks[0].uid < uid {
			marks = marks[1:]
		}
		seen := len(marks) > 0 && marks[0].uid == uid && marks[0].seen
		ref := l.Flags[i]
		switch {
		case ref >= store.FirstSet && seen:
			ref += n
		case ref < store.FirstSet && seen:
			ref |= store.FlagRef(store.Seen)
		case ref < store.FirstSet:
			ref &^= store.FlagRef(store.Seen)
		}
		l.Flags[i] = ref
	}
	return nil
}

// unseen counts the messages that are not \Seen to the reader.
func (r *readerMarks) unseen(ctx context.Context, m *mailbox) (n uint32, err error) {
	marks, err := r.current(ctx, m)
	if err != nil {
		return 0, err
	}
	err = m.s.view(ctx, m.id, func(_ row, l *list) {
		n = uint32(len(l.uids))
		at := 0
		for _, k := range marks {
			for at < len(l.uids) && l.uids[at] < k.uid {
				at++
			}
			if k.seen && at < len(l.uids) && l.uids[at] == k.uid {
				n--
			}
		}
	})
	return n, err
}

// changes makes what happened to a mailbox what happened to it for the reader.
func (r *readerMarks) changes(ctx context.Context, m *mailbox, since store.ModSeq, c *store.Changes) error {
	marks, err := r.until(ctx, m, c.Highest)
	if err != nil {
		return err
	}
	known := len(c.Messages)
	err = m.s.view(ctx, m.id, func(_ row, l *list) {
		at := 0
		for _, k := range marks {
			if k.modSeq <= since {
				continue
			}
			for at < known && c.Messages[at].UID < k.uid {
				at++
			}
			if at < known && c.Messages[at].UID == k.uid {
				continue
			}
			if i := l.find(k.uid); i < len(l.uids) && l.uids[i] == k.uid && k.uid < c.UIDNext {
				c.Messages = append(c.Messages, store.FlagState{UID: k.uid, ModSeq: l.seqs[i], Flags: l.sets.get(l.flags[i])})
			}
		}
	})
	for i := range c.Messages {
		apply(marks, c.Messages[i].UID, &c.Messages[i].Flags, &c.Messages[i].ModSeq)
	}
	slices.SortFunc(c.Messages, func(x, y store.FlagState) int { return int(int64(x.UID) - int64(y.UID)) })
	return err
}

// marks reads a reader's marks of messages as the commit at hand has them.
func (g *group) marks(mailbox, reader int64, uids store.UIDSet) (marks []seenMark, err error) {
	for _, u := range uids {
		some, err := readMarks(g.Tx, "SELECT uid, seen, modseq FROM seen WHERE mailbox=? AND account=? AND uid BETWEEN ? AND ? ORDER BY uid",
			mailbox, reader, int64(u.First), int64(min(u.Last, math.MaxUint32)))
		if err != nil {
			return nil, err
		}
		marks = append(marks, some...)
	}
	return marks, nil
}

// mark writes a reader's marks.
func (g *group) mark(mailbox, reader int64, marks []seenMark) error {
	for _, k := range marks {
		if _, _, err := g.Exec("INSERT OR REPLACE INTO seen (mailbox, account, uid, modseq, seen) VALUES (?,?,?,?,?)",
			mailbox, reader, int64(k.uid), int64(k.modSeq), k.seen); err != nil {
			return err
		}
	}
	return nil
}

// unmark deletes all readers' marks of messages that lie in runs.
func (g *group) unmark(mailbox int64, runs []run) error {
	for reader := int64(0); ; {
		found, err := g.Get("SELECT account FROM seen WHERE mailbox=? AND account>? ORDER BY account LIMIT 1", []any{mailbox, reader}, &reader)
		if err != nil || !found {
			return err
		}
		for _, r := range runs {
			if _, _, err := g.Exec("DELETE FROM seen WHERE mailbox=? AND account=? AND uid BETWEEN ? AND ?", mailbox, reader, int64(r.first), int64(r.last)); err != nil {
				return err
			}
		}
	}
}

// storeAs is StoreFlags of a reader: \Seen becomes marks, all else the message's.
func (m *mailbox) storeAs(ctx context.Context, uids store.UIDSet, fc store.FlagChange, unchangedSince store.ModSeq) (r store.StoreResult, err error) {
	err = m.s.writeListed(ctx, m.id, func(g *group, c *change) error {
		r = store.StoreResult{}
		marks, err := g.marks(m.id, m.reader.account, uids)
		if err != nil {
			return err
		}
		var dirty []store.FlagState // what the owner's row becomes
		var news []seenMark
		next := c.row.modSeq + 1
		c.each(uids, func(_ int, owners store.FlagState) {
			mine := owners
			apply(marks, mine.UID, &mine.Flags, &mine.ModSeq)
			if unchangedSince > 0 && mine.ModSeq > unchangedSince {
				r.Modified = append(r.Modified, mine)
				return
			}
			if after := mine.Flags.Apply(fc); !after.Equal(mine.Flags) {
				if (after.System^mine.Flags.System)&store.Seen != 0 {
					news = append(news, seenMark{mine.UID, after.Has(store.Seen), next})
				}
				rest := after
				rest.System = rest.System&^store.Seen | owners.Flags.System&store.Seen
				if !rest.Equal(owners.Flags) {
					c.recount(owners.Flags.System, rest.System)
					dirty = append(dirty, store.FlagState{UID: mine.UID, ModSeq: next, Flags: rest})
				}
				mine.Flags, mine.ModSeq = after, next
			}
			r.Changed = append(r.Changed, mine)
		})
		if len(dirty)+len(news) == 0 {
			return nil
		}
		c.row.modSeq = next
		c.ops = append(c.ops, op{seq: next, flags: dirty})
		for _, st := range dirty {
			if _, _, err := g.Exec("UPDATE message SET flags=?, keywords=?, modseq=? WHERE mailbox=? AND uid=?",
				int64(st.Flags.System), keywordsOf(st.Flags), int64(next), m.id, int64(st.UID)); err != nil {
				return err
			}
		}
		return g.mark(m.id, m.reader.account, news)
	})
	return r, err
}

// appendAs is appendAll of a reader.
func (g *group) appendAs(c *change, reader int64, messages []store.Incoming, bodies []*body, q store.Quota) ([]store.UID, error) {
	theirs := slices.Clone(messages)
	for i := range theirs {
		theirs[i].Flags.System &^= store.Seen
	}
	uids, err := g.appendAll(c, theirs, bodies, q)
	if err != nil {
		return nil, err
	}
	var marks []seenMark
	for i, uid := range uids {
		if messages[i].Flags.Has(store.Seen) {
			marks = append(marks, seenMark{uid, true, c.row.modSeq})
		}
	}
	return uids, g.mark(c.box.id, reader, marks)
}
