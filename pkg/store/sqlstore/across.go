package sqlstore

import (
	"context"
	"fmt"

	"mailsrv/pkg/store"
)

// of returns the engine's own mailbox behind one of the contract.
func (s *Store) of(m store.Mailbox) (*mailbox, error) {
	switch m := m.(type) {
	case *mailbox:
		return m, nil
	case *sharedBox:
		return &m.mailbox, nil
	}
	return nil, fmt.Errorf("a %T is no mailbox of this store", m)
}

// Transfer implements store.Sharer.
func (s *Store) Transfer(ctx context.Context, from store.Mailbox, uids store.UIDSet, to store.Mailbox, within store.Rights, q store.Quota, move bool) (r store.CopyResult, err error) {
	src, err := s.of(from)
	if err != nil {
		return r, err
	}
	dst, err := s.of(to)
	if err != nil {
		return r, err
	}
	err = s.writeListed(ctx, src.id, func(g *group, c *change) error {
		r, err = g.across(c, src, uids, dst, within, q, move)
		return err
	})
	if err != nil {
		return store.CopyResult{}, err
	}
	return r, nil
}

// across copies or moves messages as the reader of src sees them to where the
// reader of dst sees them so; both may be the owner.
func (g *group) across(c *change, src *mailbox, uids store.UIDSet, dst *mailbox, within store.Rights, q store.Quota, move bool) (r store.CopyResult, err error) {
	to, err := g.mailbox(dst.id)
	if err != nil {
		return r, err
	}
	var marks []seenMark
	if src.reader != nil {
		if marks, err = g.marks(src.id, src.reader.account, uids); err != nil {
			return r, err
		}
	}
	r.UIDValidity = to.row.uidValidity
	var states []store.FlagState
	var items []item
	var victims []victim
	var gone []run
	var size int64
	c.each(uids, func(i int, st store.FlagState) {
		it := c.list.items[i]
		victims, gone = append(victims, victim{st.UID, st.Flags.System, it.size}), extend(gone, i, st.UID)
		if src.reader != nil {
			apply(marks, st.UID, &st.Flags, &st.ModSeq)
		}
		st.Flags = within.Allowed(st.Flags)
		states, items, size = append(states, st), append(items, it), size+it.size
	})
	if len(states) == 0 {
		return r, nil
	}
	room := q
	if move && c.row.account == to.row.account {
		room = store.NoQuota() // what it takes it gives
	}
	if err := g.room(to.row.account, room, size, int64(len(states))); err != nil {
		return store.CopyResult{}, err
	}
	if err := g.copies(c, states, items, dst, to, &r); err != nil {
		return r, err
	}
	if move {
		err = g.erase(c, victims, gone)
	}
	return r, err
}

// copies writes the copies of messages, in their states.
func (g *group) copies(c *change, states []store.FlagState, items []item, dst *mailbox, to *change, r *store.CopyResult) error {
	to.row.modSeq++
	saved := g.s.o.Now().Unix()
	var all []added
	var marks []seenMark
	for i, st := range states {
		uid := to.row.uidNext
		to.row.uidNext++
		if dst.reader != nil && st.Flags.Has(store.Seen) {
			marks = append(marks, seenMark{uid, true, to.row.modSeq})
			st.Flags.System &^= store.Seen
		}
		if _, _, err := g.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, zone, saved, size, body, prefix)
			SELECT ?, ?, ?, ?, ?, internal, zone, ?, size, body, prefix FROM message WHERE mailbox=? AND uid=?`, dst.id, int64(uid), int64(to.row.modSeq),
			int64(st.Flags.System), keywordsOf(st.Flags), saved, c.box.id, int64(st.UID)); err != nil {
			return err
		}
		items[i].saved = saved
		all = append(all, added{uid: uid, flags: st.Flags, item: items[i]})
		r.From, r.To = append(r.From, st.UID), append(r.To, uid)
		g.count(to, 1, st.Flags.System, items[i].size)
	}
	to.ops = append(to.ops, op{seq: to.row.modSeq, added: all})
	if len(marks) == 0 {
		return nil
	}
	return g.mark(dst.id, dst.reader.account, marks)
}
