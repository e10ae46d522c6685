package sqlstore

import (
	"context"

	"mailsrv/pkg/store"
)

// overlay is what the commit at hand did to messages of a mailbox before, for
// the next write in it.
type overlay map[store.UID]overlaid

type overlaid struct {
	gone  bool
	state store.FlagState
}

// overlay collects what the group did so far; nil if that is nothing.
func (c *change) overlay() overlay {
	var over overlay
	for _, o := range c.ops {
		if over == nil && len(o.flags)+len(o.gone) > 0 {
			over = overlay{}
		}
		for _, st := range o.flags {
			over[st.UID] = overlaid{state: st}
		}
		for _, uid := range o.gone {
			over[uid] = overlaid{gone: true}
		}
	}
	return over
}

// each calls fn for the messages of uids with their index in the list and
// their state as the group sees it.
func (c *change) each(uids store.UIDSet, fn func(i int, st store.FlagState)) {
	l, over := c.list, c.overlay()
	for _, u := range uids {
		for i := l.find(u.First); i < len(l.uids) && l.uids[i] <= u.Last; i++ {
			st := store.FlagState{UID: l.uids[i], ModSeq: l.seqs[i], Flags: l.sets.get(l.flags[i])}
			if o, ok := over[st.UID]; ok {
				if o.gone {
					continue
				}
				st = o.state
			}
			fn(i, st)
		}
	}
}

// run is messages that lie side by side, from a UID to a UID.
type run struct {
	first, last store.UID
	index       int // of last, in the list
	flags       store.Flags
}

// StoreFlags implements store.Mailbox. What changes nothing writes nothing.
func (m *mailbox) StoreFlags(ctx context.Context, uids store.UIDSet, fc store.FlagChange, unchangedSince store.ModSeq) (r store.StoreResult, err error) {
	if m.reader != nil {
		return m.storeAs(ctx, uids, fc, unchangedSince)
	}
	err = m.s.writeListed(ctx, m.id, func(g *group, c *change) error {
		r = store.StoreResult{}
		var dirty []store.FlagState
		var runs []run
		c.each(uids, func(i int, st store.FlagState) {
			if unchangedSince > 0 && st.ModSeq > unchangedSince {
				r.Modified = append(r.Modified, st)
				return
			}
			if after := st.Flags.Apply(fc); !after.Equal(st.Flags) {
				c.recount(st.Flags.System, after.System)
				st.Flags, st.ModSeq = after, c.row.modSeq+1
				dirty = append(dirty, st)
				if n := len(runs) - 1; n >= 0 && runs[n].index == i-1 && runs[n].flags.Equal(after) {
					runs[n].last, runs[n].index = st.UID, i
				} else {
					runs = append(runs, run{first: st.UID, last: st.UID, index: i, flags: after})
				}
			}
			r.Changed = append(r.Changed, st)
		})
		if len(dirty) == 0 {
			return nil
		}
		c.row.modSeq++
		c.ops = append(c.ops, op{seq: c.row.modSeq, flags: dirty})
		for _, u := range runs {
			if _, _, err := g.Exec("UPDATE message SET flags=?, keywords=?, modseq=? WHERE mailbox=? AND uid BETWEEN ? AND ?",
				int64(u.flags.System), keywordsOf(u.flags), int64(c.row.modSeq), m.id, int64(u.first), int64(u.last)); err != nil {
				return err
			}
		}
		return nil
	})
	return r, err
}

// recount follows a message whose flags change.
func (c *change) recount(from, to store.SystemFlags) {
	c.row.unseen += int64(from&store.Seen) - int64(to&store.Seen)
	c.row.deleted += (int64(to&store.Deleted) - int64(from&store.Deleted)) / int64(store.Deleted)
}
