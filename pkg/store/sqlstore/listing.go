package sqlstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// A listing is what memory knows of a large mailbox's messages, kept in one
// piece beside their rows: whoever selects the mailbox after a restart need not
// wait until all rows are read. It counts only while the mailbox's MODSEQ is
// the one it was written at; every change of a row moves that on.

const (
	// listFrom is how many messages make a listing worth it.
	listFrom = 1000
	// listEvery is how often listings are written of mailboxes that changed, and
	// how long they must have been left alone.
	listEvery = 10 * time.Minute
	// listAtClose bounds what is written when the store is closed, in bytes.
	listAtClose = 64 << 20
	// listVersion begins each listing.
	listVersion = 1
)

var errListing = errors.New("listing cannot be read")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// encode appends the list to dst, column by column.
func (l *list) encode(dst []byte) []byte {
	start := len(dst)
	dst = binary.AppendUvarint(append(dst, listVersion), uint64(len(l.uids)))
	dst = binary.AppendUvarint(dst, uint64(len(l.sets.sets)))
	for _, f := range l.sets.sets {
		dst = binary.AppendUvarint(append(dst, byte(f.System)), uint64(len(f.Keywords)))
		for _, k := range f.Keywords {
			dst = append(binary.AppendUvarint(dst, uint64(len(k))), k...)
		}
	}
	column := func(value func(i int) int64) {
		last := int64(0)
		for i := range l.uids {
			v := value(i)
			dst = binary.AppendVarint(dst, v-last)
			last = v
		}
	}
	column(func(i int) int64 { return int64(l.uids[i]) })
	column(func(i int) int64 { return int64(l.seqs[i]) })
	column(func(i int) int64 { return int64(l.flags[i]) })
	column(func(i int) int64 { return l.items[i].internal })
	column(func(i int) int64 { return l.items[i].saved - l.items[i].internal })
	column(func(i int) int64 { return int64(l.items[i].zone) })
	column(func(i int) int64 { return l.items[i].size })
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

// listReader reads what encode wrote; after an error it reads zeros.
type listReader struct {
	b   []byte
	err error
}

func (r *listReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.err, r.b = errListing, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *listReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.err, r.b = errListing, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that take an octet each at the least.
func (r *listReader) count() int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)) {
		r.err, r.b = errListing, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// decodeList reads a listing of a mailbox whose row is r.
func decodeList(b []byte, r row) (*list, error) {
	end := len(b) - 4
	if end < 1 || b[0] != listVersion || crc32.Checksum(b[:end], castagnoli()) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, errListing
	}
	in := &listReader{b: b[1:end]}
	n := in.count()
	if int64(n) != r.messages {
		return nil, errListing
	}
	l := &list{uids: make([]store.UID, n), seqs: make([]store.ModSeq, n), flags: make([]store.FlagRef, n), items: make([]item, n), seq: r.modSeq}
	sets := in.count()
	for range sets {
		var f store.Flags
		if b := in.take(1); b != nil {
			f.System = store.SystemFlags(b[0])
		}
		for range in.count() {
			f.Keywords = append(f.Keywords, string(in.take(in.count())))
		}
		if l.sets.ref(f) != store.FirstSet+store.FlagRef(len(l.sets.sets)-1) {
			return nil, errListing
		}
	}
	column := func(set func(i int, v int64)) {
		last := int64(0)
		for i := range n {
			last += in.varint()
			set(i, last)
		}
	}
	column(func(i int, v int64) { l.uids[i] = store.UID(v) })
	column(func(i int, v int64) { l.seqs[i] = store.ModSeq(v) })
	column(func(i int, v int64) { l.flags[i] = store.FlagRef(v) })
	column(func(i int, v int64) { l.items[i].internal = v })
	column(func(i int, v int64) { l.items[i].saved = v + l.items[i].internal })
	column(func(i int, v int64) { l.items[i].zone = int16(v) })
	column(func(i int, v int64) { l.items[i].size = v })
	if in.err != nil || len(in.b) > 0 {
		return nil, errListing
	}
	for i, ref := range l.flags {
		if ref >= store.FirstSet+store.FlagRef(sets) || i > 0 && l.uids[i] <= l.uids[i-1] || l.uids[i] >= r.uidNext || l.seqs[i] > r.modSeq {
			return nil, errListing
		}
	}
	return l, nil
}

// readListing reads the listing of a mailbox; nil if there is none of its
// present state.
func readListing(tx *sqlite.Tx, id int64, r row) (l *list, err error) {
	var b []byte
	found, err := tx.Get("SELECT list FROM listing WHERE mailbox=? AND modseq=?", []any{id, int64(r.modSeq)}, &b)
	if err != nil || !found {
		return nil, err
	}
	if l, err = decodeList(b, r); err != nil {
		return nil, nil // the rows say it as well
	}
	return l, nil
}

// saveListing writes the listing of a mailbox, and returns its size.
func (s *Store) saveListing(ctx context.Context, b *box) (int, error) {
	b.mu.RLock()
	l, seq := b.list, b.row.modSeq
	var data []byte
	if l != nil && l.seq == seq {
		data = l.encode(make([]byte, 0, 16*len(l.uids)))
	}
	b.mu.RUnlock()
	if data == nil {
		return 0, nil
	}
	err := s.db.Write(ctx, func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec("INSERT OR REPLACE INTO listing (mailbox, modseq, list) SELECT id, modseq, ? FROM mailbox WHERE id=? AND modseq=?", data, b.id, int64(seq))
		return err
	})
	if err == nil {
		b.mu.Lock()
		b.listed = seq
		b.mu.Unlock()
	}
	return len(data), err
}

// saveListings writes the listings of large mailboxes that changed since theirs
// was written, those used last first: all, up to a bound, or only those that
// were left alone since the call before.
func (s *Store) saveListings(ctx context.Context, all bool) error {
	s.boxes.mu.Lock()
	var due []*box
	for _, b := range s.boxes.byID {
		b.mu.Lock()
		if b.known && b.list != nil && len(b.list.uids) >= s.o.listFrom && b.listed != b.row.modSeq && (all || b.looked == b.row.modSeq) {
			due = append(due, b)
		}
		b.looked = b.row.modSeq
		b.mu.Unlock()
	}
	s.boxes.mu.Unlock()
	slices.SortFunc(due, func(x, y *box) int { return cmp.Compare(y.used.Load(), x.used.Load()) })
	written := 0
	for _, b := range due {
		n, err := s.saveListing(ctx, b)
		if err != nil {
			return err
		}
		if written += n; written > listAtClose {
			break
		}
	}
	return nil
}
