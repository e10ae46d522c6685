package sqlstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// box is a mailbox in memory: its row, and once somebody asked for them the
// flags, dates and sizes of its messages. It is as the last commit left it.
type box struct {
	id   int64
	used atomic.Int64 // when somebody last looked, for boxes.trim

	loading sync.Mutex // one load at a time

	mu    sync.RWMutex
	row   row
	known bool // row was read
	list  *list
	pins  int // list must stay
	// missed is what was published while a load read the database.
	missed   []publication
	watching bool
	// listed is the MODSEQ of the listing on disk, looked that of the last look
	// for mailboxes that want one.
	listed, looked store.ModSeq
}

type publication struct {
	row row
	ops []op
}

// list is the messages of a mailbox, ascending by UID. It costs itemSize bytes
// a message.
type list struct {
	uids  []store.UID
	seqs  []store.ModSeq
	flags []store.FlagRef
	items []item
	sets  flagSets
	// seq: the list has all changes up to it.
	seq store.ModSeq
}

type item struct {
	size            int64
	internal, saved int64 // seconds since 1970
	zone            int16 // minutes east of Greenwich
}

const itemSize = 4 + 8 + 4 + 32

// read returns the mailbox's row, if it is known.
func (b *box) read() (row, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.row, b.known
}

// since counts the messages that are recent by r, if memory has them in that
// state, and reports whether it does.
func (b *box) since(r row, n *uint32) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.list == nil || b.row != r {
		return false
	}
	*n = uint32(len(b.list.uids) - b.list.find(r.recent))
	return true
}

// publish takes over what a commit did, and returns by how many bytes that
// made the list longer.
func (b *box) publish(r row, ops []op) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watching {
		b.missed = append(b.missed, publication{r, ops})
	}
	size := b.list.size()
	b.take(r, ops)
	return b.list.size() - size
}

// take takes over a commit, unless what was read from the database has it already.
func (b *box) take(r row, ops []op) {
	if !b.known || r.modSeq >= b.row.modSeq {
		b.row, b.known = r, true
	}
	if b.list == nil {
		return
	}
	for _, o := range ops {
		if o.seq > b.list.seq {
			b.list.apply(o)
		}
	}
	b.list.seq = max(b.list.seq, r.modSeq)
}

// errUnlisted: a mailbox was let go between load and use; to be loaded again.
var errUnlisted = errors.New("mailbox is not in memory")

// view calls fn with the row and the messages of a mailbox, which fn may read
// until it returns. It must not wait for anything.
func (s *Store) view(ctx context.Context, id int64, fn func(row, *list)) error {
	for {
		b := s.boxes.get(id)
		b.mu.RLock()
		if b.known && b.list != nil {
			fn(b.row, b.list)
			b.mu.RUnlock()
			return nil
		}
		b.mu.RUnlock()
		if err := s.load(ctx, b, true); err != nil {
			return failure(err)
		}
	}
}

// row returns a mailbox's row. ErrNoMailbox.
func (s *Store) row(ctx context.Context, id int64) (row, error) {
	for {
		b := s.boxes.get(id)
		if r, known := b.read(); known {
			return r, nil
		}
		if err := s.load(ctx, b, false); err != nil {
			return row{}, failure(err)
		}
	}
}

// writeListed is write for what works on the messages of a mailbox: fn finds
// them in c.list, as they were before the group.
func (s *Store) writeListed(ctx context.Context, id int64, fn func(*group, *change) error) error {
	for {
		b := s.boxes.get(id)
		b.mu.Lock()
		b.pins++
		b.mu.Unlock()
		err := s.load(ctx, b, true)
		if err == nil {
			err = s.write(ctx, func(g *group) error {
				c, err := g.mailbox(id)
				if err != nil {
					return err
				}
				c.box.mu.RLock()
				c.list = c.box.list // which only this goroutine changes
				c.box.mu.RUnlock()
				if c.list == nil {
					return errUnlisted
				}
				return fn(g, c)
			})
		}
		b.mu.Lock()
		b.pins--
		b.mu.Unlock()
		if !errors.Is(err, errUnlisted) {
			return failure(err)
		}
	}
}

// load reads a mailbox from the database: its row, and its messages if all is set.
func (s *Store) load(ctx context.Context, b *box, all bool) error {
	b.loading.Lock()
	defer b.loading.Unlock()
	b.mu.Lock()
	if b.known && (b.list != nil || !all) {
		b.mu.Unlock()
		return nil
	}
	b.watching, b.missed = true, nil
	b.mu.Unlock()
	var r row
	var l *list
	listed := false
	err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		if r, err = readRow(tx, b.id); err != nil || !all {
			return err
		}
		if r.messages >= int64(s.o.listFrom) {
			if l, err = readListing(tx, b.id, r); err != nil || l != nil {
				listed = l != nil
				return err
			}
		}
		l, err = readList(tx, b.id, r)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	missed := b.missed
	b.watching, b.missed = false, nil
	if err != nil {
		return err
	}
	if l != nil {
		if b.list = l; listed {
			b.listed = r.modSeq
		}
		s.boxes.size.Add(l.size())
	}
	if !b.known || r.modSeq > b.row.modSeq {
		b.row, b.known = r, true
	}
	for _, p := range missed {
		b.take(p.row, p.ops)
	}
	return nil
}

// readList reads the messages of a mailbox, row by row.
func readList(tx *sqlite.Tx, id int64, r row) (*list, error) {
	n := int(r.messages)
	l := &list{uids: make([]store.UID, 0, n), seqs: make([]store.ModSeq, 0, n), flags: make([]store.FlagRef, 0, n), items: make([]item, 0, n), seq: r.modSeq}
	err := tx.Query("SELECT uid, modseq, flags, keywords, internal, zone, saved, size FROM message WHERE mailbox=? ORDER BY uid", []any{id},
		func(scan func(...any) error) error {
			var a added
			var seq store.ModSeq
			var flags uint8
			var keywords string
			if err := scan(&a.uid, &seq, &flags, &keywords, &a.item.internal, &a.item.zone, &a.item.saved, &a.item.size); err != nil {
				return err
			}
			a.flags = flagsOf(flags, keywords)
			l.add(seq, a)
			return nil
		})
	return l, err
}

func (l *list) size() int64 {
	if l == nil {
		return 0
	}
	return int64(len(l.uids)) * itemSize
}

func (l *list) add(seq store.ModSeq, a added) {
	l.uids, l.seqs = append(l.uids, a.uid), append(l.seqs, seq)
	l.flags, l.items = append(l.flags, l.sets.ref(a.flags)), append(l.items, a.item)
}

// find returns the index of the first message whose UID is not below uid.
func (l *list) find(uid store.UID) int {
	i, _ := slices.BinarySearch(l.uids, uid)
	return i
}

func (l *list) apply(o op) {
	at := 0
	for _, st := range o.flags { // ascending, and often one beside the other
		if at >= len(l.uids) || l.uids[at] != st.UID {
			at = l.find(st.UID)
		}
		if at < len(l.uids) && l.uids[at] == st.UID {
			l.seqs[at], l.flags[at] = st.ModSeq, l.sets.ref(st.Flags)
			at++
		}
	}
	if len(o.gone) > 0 {
		l.remove(o.gone)
	}
	for _, a := range o.added {
		l.add(o.seq, a)
	}
}

// remove takes messages out, whose UIDs ascend.
func (l *list) remove(gone []store.UID) {
	to := l.find(gone[0])
	for from := to; from < len(l.uids); from++ {
		for len(gone) > 0 && gone[0] < l.uids[from] {
			gone = gone[1:]
		}
		if len(gone) > 0 && gone[0] == l.uids[from] {
			continue
		}
		l.uids[to], l.seqs[to], l.flags[to], l.items[to] = l.uids[from], l.seqs[from], l.flags[from], l.items[from]
		to++
	}
	l.uids, l.seqs, l.flags, l.items = l.uids[:to], l.seqs[:to], l.flags[:to], l.items[:to]
}

// date is the message's internal date in its own zone.
func (it *item) date() time.Time {
	t := time.Unix(it.internal, 0)
	if it.zone == 0 {
		return t.UTC()
	}
	return t.In(time.FixedZone("", int(it.zone)*60))
}

// flagSets gives each combination with keywords that occurs in a mailbox a number.
type flagSets struct {
	sets []store.Flags
	refs map[string]store.FlagRef
	key  []byte
}

func (t *flagSets) get(ref store.FlagRef) store.Flags {
	if ref < store.FirstSet {
		return store.Flags{System: store.SystemFlags(ref)}
	}
	return t.sets[ref-store.FirstSet]
}

func (t *flagSets) ref(f store.Flags) store.FlagRef {
	if len(f.Keywords) == 0 {
		return store.FlagRef(f.System)
	}
	t.key = append(t.key[:0], byte(f.System))
	for _, k := range f.Keywords {
		t.key = append(binary.AppendUvarint(t.key, uint64(len(k))), k...)
	}
	if ref, ok := t.refs[string(t.key)]; ok {
		return ref
	}
	if t.refs == nil {
		t.refs = map[string]store.FlagRef{}
	}
	ref := store.FirstSet + store.FlagRef(len(t.sets))
	t.refs[string(t.key)], t.sets = ref, append(t.sets, f)
	return ref
}

// boxes is the mailboxes in memory.
type boxes struct {
	budget int64        // of all lists, in bytes
	size   atomic.Int64 // of all lists, about
	clock  atomic.Int64

	mu   sync.Mutex
	byID map[int64]*box
}

// rowsKept bounds the mailboxes whose row is kept.
const rowsKept = 1 << 16

func (bs *boxes) get(id int64) *box {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	b := bs.byID[id]
	if b == nil {
		b = &box{id: id}
		bs.byID[id] = b
	}
	b.used.Store(bs.clock.Add(1))
	return b
}

func (bs *boxes) drop(b *box) {
	bs.mu.Lock()
	delete(bs.byID, b.id)
	bs.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	bs.size.Add(-b.list.size())
	b.known, b.list = false, nil
}

// trim lets go what was not looked at for longest, beyond the bounds. Only the
// writer calls it, so that nothing is published to a mailbox that is let go.
func (bs *boxes) trim() {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.size.Load() <= bs.budget && len(bs.byID) <= rowsKept {
		return
	}
	all := make([]*box, 0, len(bs.byID))
	size := int64(0)
	for _, b := range bs.byID {
		all = append(all, b)
		b.mu.RLock()
		size += b.list.size()
		b.mu.RUnlock()
	}
	slices.SortFunc(all, func(x, y *box) int { return cmp.Compare(x.used.Load(), y.used.Load()) })
	for _, b := range all {
		if size <= bs.budget*9/10 && len(bs.byID) <= rowsKept*9/10 {
			break
		}
		b.mu.Lock()
		if b.pins == 0 && !b.watching {
			size -= b.list.size()
			b.list = nil
			if len(bs.byID) > rowsKept*9/10 {
				delete(bs.byID, b.id)
			}
		}
		b.mu.Unlock()
	}
	bs.size.Store(size)
}
