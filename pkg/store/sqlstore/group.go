package sqlstore

import (
	"context"
	"fmt"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// row is what the database knows of a mailbox beside its place in the tree.
type row struct {
	account          int64
	uidValidity      uint32
	uidNext, recent  store.UID
	modSeq           store.ModSeq
	gone, forgotten  store.ModSeq
	messages, unseen int64
	deleted, bytes   int64
}

const rowQuery = `SELECT account, uidvalidity, uidnext, recent, modseq, gone, forgotten, messages, unseen, deleted, bytes
	FROM mailbox WHERE id=? AND NOT noselect`

// readRow reads a mailbox's row. ErrNoMailbox.
func readRow(tx *sqlite.Tx, id int64) (r row, err error) {
	found, err := tx.Get(rowQuery, []any{id}, &r.account, &r.uidValidity, &r.uidNext, &r.recent, &r.modSeq, &r.gone, &r.forgotten,
		&r.messages, &r.unseen, &r.deleted, &r.bytes)
	if err == nil && !found {
		err = store.ErrNoMailbox
	}
	return r, err
}

// group is what the writes of one commit do to mailboxes, beside the
// transaction that they share. Counters are kept here and written once a
// mailbox, before the commit; memory hears of them after it. A group belongs
// to the writer's goroutine.
type group struct {
	*sqlite.Tx
	s       *Store
	changes map[int64]*change
	order   []*change
	// touched is what the write in hand has to put back if it fails.
	touched []before
	write   int // numbers the writes

	// What is known of the database as the transaction sees it.
	accounts map[string]int64
	names    map[place]int64
	usage    map[int64]*store.Usage

	trees map[int64]bool // accounts whose mailboxes or subscriptions changed

	// crossed are the thresholds of quotas that are crossed; of the write in
	// hand those from held on.
	crossed []crossing
	held    int
	// carrying: the write in hand is a Carrier's, and may change what is held.
	carrying bool
}

// crossing is a threshold of a quota that an account came over.
type crossing struct {
	account int64
	percent int
	quota   store.Quota
}

// place is the name of a mailbox in an account.
type place struct {
	account int64
	name    string
}

// knownPlaces bounds each of a group's maps of names.
const knownPlaces = 1 << 16

// change is what a group did to one mailbox so far.
type change struct {
	box  *box
	list *list // set by writeListed
	row  row   // as it is to be
	old  row   // as it is in the database
	ops  []op
	// dead: the mailbox was deleted. reload: memory has to read it again.
	dead, reload bool
	write        int // the last that touched it
}

type before struct {
	c    *change
	row  row
	ops  int
	dead bool
}

// op is one step of a change, as memory takes it over. Adding is always the
// last thing that it does.
type op struct {
	seq   store.ModSeq
	flags []store.FlagState
	gone  []store.UID
	added []added
}

type added struct {
	uid   store.UID
	flags store.Flags
	item  item
}

func newGroup(s *Store) *group {
	g := &group{s: s}
	g.forget()
	return g
}

func (g *group) forget() {
	g.accounts, g.names, g.usage = map[string]int64{}, map[place]int64{}, map[int64]*store.Usage{}
	g.changes, g.order, g.touched, g.crossed = map[int64]*change{}, nil, nil, nil
}

// write runs fn on the writer, alone or with others in one commit. fn may run
// more than once: it begins by clearing what it fills.
func (s *Store) write(ctx context.Context, fn func(*group) error) error {
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, *err)
	}
	return failure(s.db.Write(ctx, func(tx *sqlite.Tx) error {
		g := s.group
		g.Tx, g.touched, g.held, g.write, g.carrying = tx, g.touched[:0], len(g.crossed), g.write+1, false
		done := false
		defer func() {
			if !done { // also after a panic
				g.undo()
			}
		}()
		err := fn(g)
		done = err == nil
		s.o.at("written")
		return err
	}))
}

// undo takes the write in hand out of the group.
func (g *group) undo() {
	for _, b := range g.touched {
		g.measure(b.c.row.account, b.row.bytes-b.c.row.bytes, b.row.messages-b.c.row.messages)
		b.c.row, b.c.ops, b.c.dead = b.row, b.c.ops[:b.ops], b.dead
	}
	g.crossed = g.crossed[:g.held]
	clear(g.accounts)
	clear(g.names)
}

// mailbox returns the change of a mailbox, which the caller may go on with.
// ErrNoMailbox, ErrHeld.
func (g *group) mailbox(id int64) (*change, error) {
	c := g.changes[id]
	if c == nil {
		b := g.s.boxes.get(id)
		r, known := b.read()
		if !known {
			var err error
			if r, err = readRow(g.Tx, id); err != nil {
				return nil, err
			}
		}
		c = &change{box: b, row: r, old: r}
		g.changes[id], g.order = c, append(g.order, c)
	}
	if c.dead {
		return nil, store.ErrNoMailbox
	}
	if err := g.changeable(c.row.account); err != nil {
		return nil, err
	}
	if c.write != g.write {
		c.write = g.write
		g.touched = append(g.touched, before{c: c, row: c.row, ops: len(c.ops), dead: c.dead})
	}
	return c, nil
}

// count brings n messages of those flags into the counters, or takes them out
// if n is negative; size is that of one.
func (g *group) count(c *change, n int64, f store.SystemFlags, size int64) {
	c.row.messages += n
	c.row.bytes += n * size
	if f&store.Seen == 0 {
		c.row.unseen += n
	}
	if f&store.Deleted != 0 {
		c.row.deleted += n
	}
	g.measure(c.row.account, n*size, n)
}

func (g *group) measure(account, bytes, messages int64) {
	if u := g.usage[account]; u != nil {
		u.Bytes += bytes
		u.Messages += messages
	}
}

// treeChanged notes a change to an account's mailboxes or subscriptions.
func (g *group) treeChanged(account int64) {
	if g.trees == nil {
		g.trees = map[int64]bool{}
	}
	g.trees[account] = true
}

// kill marks a mailbox whose row is being deleted.
func (g *group) kill(c *change) {
	g.measure(c.row.account, -c.row.bytes, -c.row.messages)
	c.row.bytes, c.row.messages, c.dead = 0, 0, true
	clear(g.names)
}

// used is what an account holds, with what the group has done so far.
func (g *group) used(account int64) (*store.Usage, error) {
	if u := g.usage[account]; u != nil {
		return u, nil
	}
	u, err := usage(g.Tx, account)
	if err != nil {
		return nil, err
	}
	for _, c := range g.order {
		if c.row.account == account && !c.dead { // the row of a dead one is no longer in the sum
			u.Bytes += c.row.bytes - c.old.bytes
			u.Messages += c.row.messages - c.old.messages
		}
	}
	g.usage[account] = &u
	return &u, nil
}

// room returns ErrOverQuota unless n more messages of size bytes in all fit.
func (g *group) room(account int64, q store.Quota, size, n int64) error {
	if q.Bytes < 0 && q.Messages < 0 {
		return nil
	}
	u, err := g.used(account)
	if err != nil {
		return err
	}
	if q.Bytes >= 0 && u.Bytes+size > q.Bytes || q.Messages >= 0 && u.Messages+n > q.Messages {
		return store.ErrOverQuota
	}
	if p := q.Crossed(*u, store.Usage{Bytes: u.Bytes + size, Messages: u.Messages + n}, g.s.o.WarnAt); p > 0 {
		g.crossed = append(g.crossed, crossing{account: account, percent: p, quota: q})
	}
	return nil
}

// flush writes the counters of every mailbox that changed.
func (g *group) flush(tx *sqlite.Tx) error {
	for _, c := range g.order {
		if c.dead || c.row == c.old {
			continue
		}
		r := &c.row
		if _, _, err := tx.Exec(`UPDATE mailbox SET uidnext=?, recent=?, modseq=?, gone=?, forgotten=?, messages=?, unseen=?, deleted=?, bytes=? WHERE id=?`,
			int64(r.uidNext), int64(r.recent), int64(r.modSeq), int64(r.gone), int64(r.forgotten), r.messages, r.unseen, r.deleted, r.bytes, c.box.id); err != nil {
			return err
		}
	}
	g.s.o.at("flush")
	return nil
}

// settled tells memory, and who watches, what was committed.
func (g *group) settled(committed bool) {
	if !committed {
		g.forget()
		return
	}
	g.s.o.at("committed")
	g.s.search.commits.Add(1)
	for _, c := range g.order {
		if c.dead || c.reload {
			g.s.boxes.drop(c.box)
		} else {
			g.s.boxes.size.Add(c.box.publish(c.row, c.ops))
		}
		g.s.search.noteChange(c)
		if c.dead || len(c.ops) > 0 {
			g.s.wake(c.box.id)
		}
	}
	for id := range g.trees {
		g.s.wake(treeOf(id))
	}
	clear(g.trees)
	for _, c := range g.crossed {
		select {
		case g.s.warnings <- c:
		default: // nobody reads that many
		}
	}
	g.crossed = g.crossed[:0]
	clear(g.changes)
	clear(g.order)
	g.order = g.order[:0]
	g.s.boxes.trim()
	g.s.o.at("published")
	if len(g.accounts) > knownPlaces || len(g.names) > knownPlaces || len(g.usage) > knownPlaces {
		g.forget()
	}
}
