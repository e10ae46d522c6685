package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/trigram"
)

// The index lags behind by less than these: so much a search looks through
// itself.
const (
	fillMessages = 64
	fillBytes    = 1 << 20
)

const (
	// calm is how long nothing is committed before the index is filled, unless
	// that takes longer than patience.
	calm     = 100 * time.Millisecond
	patience = 10 * time.Second
	// restFactor is how many times as long as it worked the filling rests
	// while others commit.
	restFactor = 4
	// sweepIndex is how often what few removed messages left behind goes.
	sweepIndex = time.Hour
)

// happened notes what is new in a mailbox, or gone from it.
func (x *searchIndex) happened(mailbox int64, added, gone int, bytes int64) {
	if added == 0 && gone == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.noted[mailbox]
	if n == nil {
		n = &note{}
		x.noted[mailbox] = n
	}
	n.added, n.gone, n.bytes = n.added+added, n.gone+gone, n.bytes+bytes
	if n.added >= fillMessages || n.bytes >= fillBytes || n.gone >= fillMessages {
		x.urge(mailbox, n)
	}
}

// noteChange notes what a commit did to a mailbox.
func (x *searchIndex) noteChange(c *change) {
	if c.dead {
		x.happened(c.box.id, 0, fillMessages, 0)
		return
	}
	added, gone, bytes := 0, 0, int64(0)
	if c.reload { // messages came that nobody was told of one by one
		added = fillMessages
	}
	for i := range c.ops {
		o := &c.ops[i]
		gone += len(o.gone)
		added += len(o.added)
		for _, a := range o.added {
			bytes += a.item.size
		}
	}
	x.happened(c.box.id, added, gone, bytes)
}

// urge has a mailbox filled soon. The caller holds x.mu.
func (x *searchIndex) urge(mailbox int64, n *note) {
	if n.due {
		return
	}
	n.due = true
	x.due = append(x.due, mailbox)
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// next takes the mailbox that waits for longest; 0: none does.
func (x *searchIndex) next() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.due) == 0 {
		return 0
	}
	id := x.due[0]
	x.due = x.due[1:]
	delete(x.noted, id)
	return id
}

// sweep has all mailboxes filled that messages were removed from.
func (x *searchIndex) sweep() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, n := range x.noted {
		if n.gone > 0 {
			x.urge(id, n)
		}
	}
}

// loop fills the index until ctx ends, on its own goroutine.
func (x *searchIndex) loop(ctx context.Context) {
	if err := x.compare(ctx); err != nil && ctx.Err() == nil {
		x.s.o.Log.Warn("search index not compared with the store", "err", err)
	}
	sweep := time.NewTicker(sweepIndex)
	defer sweep.Stop()
	for {
		select {
		case <-x.wake:
		case <-sweep.C:
			x.sweep()
		case <-ctx.Done():
			return
		}
		x.awaitCalm(ctx)
		for id := x.next(); id != 0 && ctx.Err() == nil; id = x.next() {
			if err := x.fill(ctx, id, false); err != nil && ctx.Err() == nil {
				x.s.o.Log.Warn("search index not filled", "mailbox_id", id, "err", err)
			}
		}
	}
}

func (x *searchIndex) awaitCalm(ctx context.Context) {
	for begun := time.Now(); time.Since(begun) < patience; {
		before := x.commits.Load()
		if !pause(ctx, calm) || x.commits.Load() == before {
			return
		}
	}
}

// rest gives way to those who commit.
func (x *searchIndex) rest(ctx context.Context, commits int64, worked time.Duration) {
	if x.commits.Load() != commits {
		pause(ctx, min(restFactor*worked, patience))
	}
}

// pause reports whether ctx has not ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// compare notes where the index and the store differ, which begins with the first start.
func (x *searchIndex) compare(ctx context.Context) error {
	type has struct {
		upto store.UID
		docs int64
	}
	covered := map[int64]has{}
	if err := x.read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query(`SELECT mailbox, coalesce(max(upto), 0), sum(docs) FROM
			(SELECT mailbox, 0 AS upto, docs FROM segment UNION ALL SELECT mailbox, upto, 0 FROM covered) GROUP BY mailbox`, nil, func(scan func(...any) error) error {
			var id int64
			var h has
			err := scan(&id, &h.upto, &h.docs)
			covered[id] = h
			return err
		})
	}); err != nil {
		return err
	}
	if err := x.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT id, uidnext, messages FROM mailbox WHERE NOT noselect", nil, func(scan func(...any) error) error {
			var id, messages int64
			var next store.UID
			err := scan(&id, &next, &messages)
			h := covered[id]
			x.happened(id, max(0, int(next)-1-int(h.upto)), max(0, int(h.docs-messages)), 0)
			delete(covered, id)
			return err
		})
	}); err != nil {
		return err
	}
	for id := range covered { // deleted
		x.happened(id, 0, fillMessages, 0)
	}
	return nil
}

// Index brings the search index up to the last message of every mailbox.
func (s *Store) Index(ctx context.Context) error {
	var ids []int64
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		ids = ids[:0]
		return tx.Query("SELECT id FROM mailbox WHERE NOT noselect", nil, func(scan func(...any) error) error {
			var id int64
			err := scan(&id)
			ids = append(ids, id)
			return err
		})
	}); err != nil {
		return failure(err)
	}
	for _, id := range ids {
		if err := s.search.fill(ctx, id, true); err != nil {
			return failure(err)
		}
	}
	return nil
}

// fill brings the index of a mailbox up to its last message, and takes out what
// is gone from it: all of it, or only where it is much.
func (x *searchIndex) fill(ctx context.Context, id int64, all bool) error {
	x.filling.Lock()
	defer x.filling.Unlock()
	var live []store.UID
	var r row
	err := x.s.view(ctx, id, func(now row, l *list) { r, live = now, slices.Clone(l.uids) })
	if errors.Is(err, store.ErrNoMailbox) {
		return x.drop(ctx, id)
	}
	if err != nil {
		return err
	}
	var in indexed
	if err := x.read(ctx, func(tx *sqlite.Tx) (err error) {
		in, err = readIndexed(tx, id)
		return err
	}); err != nil {
		if ctx.Err() != nil {
			return err
		}
		x.s.o.Log.Warn("search index is made anew", "mailbox_id", id, "err", err)
		in = indexed{}
	}
	if in.uidValidity != r.uidValidity || in.upto >= r.uidNext { // also if it was never covered, or half dropped
		if err := x.drop(ctx, id); err != nil {
			return err
		}
		in = indexed{}
	}
	f := filling{x: x, m: &mailbox{s: x.s, id: id, account: r.account}, row: r, live: live, all: all}
	if !f.covers(&in) { // messages came below others, as from another store
		if err := x.drop(ctx, id); err != nil {
			return err
		}
		in = indexed{}
	}
	if in.segments, err = f.compact(ctx, in.segments); err != nil {
		return err
	}
	first, _ := slices.BinarySearch(live, in.upto+1)
	return f.append(ctx, in.segments, live[first:])
}

// drop takes a mailbox out of the index. Once it is not covered the rest is not
// looked at, and goes in commits of bearable size.
func (x *searchIndex) drop(ctx context.Context, id int64) error {
	if err := x.write(ctx, func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec("DELETE FROM covered WHERE mailbox=?", id)
		return err
	}); err != nil {
		return err
	}
	for {
		var segments []int64
		if err := x.write(ctx, func(tx *sqlite.Tx) error {
			segments = segments[:0]
			if err := tx.Query("SELECT id FROM segment WHERE mailbox=? LIMIT 16", []any{id}, func(scan func(...any) error) error {
				var id int64
				err := scan(&id)
				segments = append(segments, id)
				return err
			}); err != nil {
				return err
			}
			for _, id := range segments {
				if err := dropSegment(tx, id); err != nil {
					return err
				}
			}
			return nil
		}); err != nil || len(segments) == 0 {
			return err
		}
	}
}

// filling is the work on one mailbox.
type filling struct {
	x    *searchIndex
	m    *mailbox
	row  row
	live []store.UID // ascending
	all  bool
}

func (f *filling) isLive(u store.UID) bool {
	_, found := slices.BinarySearch(f.live, u)
	return found
}

// count is how many messages of a segment are there.
func (f *filling) count(g *segment) (n int) {
	at, _ := slices.BinarySearch(f.live, g.uids[0])
	for _, u := range g.uids {
		for at < len(f.live) && f.live[at] < u {
			at++
		}
		if at < len(f.live) && f.live[at] == u {
			n++
		}
	}
	return n
}

// compact puts segments together that fit into one, and writes those anew that
// hold many messages which are gone.
func (f *filling) compact(ctx context.Context, old []segment) (kept []segment, err error) {
	for i := 0; i < len(old); {
		run, docs, size := i, 0, int64(0)
		dead := 0
		for ; i < len(old); i++ {
			n := f.count(&old[i])
			if i > run && (docs+n > trigram.MaxDocs || size+old[i].size > maxPairs) {
				break
			}
			docs, size, dead = docs+n, size+old[i].size, dead+len(old[i].uids)-n
		}
		joined := old[run:i]
		if len(joined) == 1 && (dead == 0 || !f.all && dead*8 < len(joined[0].uids)) {
			kept = append(kept, joined[0])
			continue
		}
		b := &f.x.builder
		b.reset()
		for n := range joined {
			if err := f.takeSegment(ctx, &joined[n]); err != nil {
				return nil, err
			}
		}
		if err := f.write(ctx, joined, 0); err != nil {
			return nil, err
		}
		if len(b.uids) > 0 {
			kept = append(kept, segment{uids: slices.Clone(b.uids)}) // id and size follow
		}
	}
	return f.reread(ctx, kept)
}

// reread reads the segments again after some were written.
func (f *filling) reread(ctx context.Context, kept []segment) ([]segment, error) {
	if !slices.ContainsFunc(kept, func(g segment) bool { return g.id == 0 }) {
		return kept, nil
	}
	var in indexed
	err := f.x.read(ctx, func(tx *sqlite.Tx) (err error) {
		in, err = readIndexed(tx, f.m.id)
		return err
	})
	return in.segments, err
}

func (f *filling) takeSegment(ctx context.Context, g *segment) error {
	return f.x.read(ctx, func(tx *sqlite.Tx) error { return f.x.builder.take(tx, g, f.isLive) })
}

// append brings new messages in, the first of them into the last segment if it
// has room.
func (f *filling) append(ctx context.Context, segments []segment, pending []store.UID) error {
	for len(pending) > 0 {
		begun, commits := time.Now(), f.x.commits.Load()
		b := &f.x.builder
		b.reset()
		var old []segment
		if n := len(segments); n > 0 && len(segments[n-1].uids) < trigram.MaxDocs && segments[n-1].size < maxPairs {
			old = segments[n-1:]
			if err := f.takeSegment(ctx, &old[0]); err != nil {
				return err
			}
		}
		segments = nil // whatever comes is full or the last
		upto, err := f.read(ctx, pending)
		if err != nil {
			return err
		}
		if err := f.write(ctx, old, upto); err != nil {
			return err
		}
		n, _ := slices.BinarySearch(pending, upto+1)
		pending = pending[n:]
		f.x.rest(ctx, commits, time.Since(begun))
	}
	return nil
}

// read brings messages into the builder until it is full or all are there, and
// returns the last UID up to which that is so.
func (f *filling) read(ctx context.Context, pending []store.UID) (upto store.UID, err error) {
	b := &f.x.builder
	some := pending[:min(len(pending), trigram.MaxDocs-len(b.uids))]
	fields := store.FieldHeader | store.FieldParts | store.FieldText
	for m, err := range f.m.Messages(ctx, store.UIDSet(appendRanges(nil, some)), fields) {
		if err != nil {
			return 0, err
		}
		if err := f.add(ctx, m); err != nil {
			return 0, err
		}
		if b.full() {
			return m.UID, nil
		}
	}
	return some[len(some)-1], nil
}

// add brings a message in, from its file if it lies in one.
func (f *filling) add(ctx context.Context, m *store.Message) error {
	if m.Text != nil {
		f.x.builder.add(m, bytes.NewReader(m.Text))
		return nil
	}
	body, err := f.m.Body(ctx, m.UID)
	if errors.Is(err, store.ErrNoMessage) {
		return nil // gone meanwhile
	}
	if err != nil {
		f.x.s.o.Log.Warn("message not indexed", "mailbox_id", f.m.id, "uid", m.UID, "err", err)
		f.x.builder.add(m, bytes.NewReader(nil))
		return ctx.Err()
	}
	defer body.Close()
	f.x.builder.add(m, body)
	return nil
}

// write writes what was built in place of old segments; upto is the last message
// that the index covers now, 0: as before.
func (f *filling) write(ctx context.Context, old []segment, upto store.UID) error {
	if err := f.x.write(ctx, func(tx *sqlite.Tx) error {
		if err := f.x.builder.store(tx, f.m.id, old); err != nil || upto == 0 {
			return err
		}
		_, _, err := tx.Exec("INSERT OR REPLACE INTO covered (mailbox, uidvalidity, upto) VALUES (?,?,?)", f.m.id, int64(f.row.uidValidity), int64(upto))
		return err
	}); err != nil {
		return fmt.Errorf("writing the search index: %w", err)
	}
	return nil
}
