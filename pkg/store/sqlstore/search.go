package sqlstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/trigram"
)

// searchSchema is that of the search index: a database of its own, which can be
// made again from the store's and so is in no backup. A segment is up to
// trigram.MaxDocs messages of one mailbox.
//
// It is not FTS5: that took 0.7 ms of a processor for a message of 4 KiB where
// this takes 0.05, several times what its delivery costs, and kept the entries
// of all accounts in one list.
func searchSchema() []string {
	return []string{`
CREATE TABLE covered (mailbox INTEGER PRIMARY KEY, uidvalidity INTEGER NOT NULL, upto INTEGER NOT NULL); -- all messages up to this UID are in segments
CREATE TABLE segment (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	mailbox INTEGER NOT NULL,
	first   INTEGER NOT NULL, -- UID
	uids    BLOB NOT NULL,    -- varints, each the distance to the one before
	maybe   BLOB NOT NULL,    -- a bit for each message of which too little is in the index
	docs    INTEGER NOT NULL,
	size    INTEGER NOT NULL  -- of its pages, in bytes
);
CREATE INDEX segment_mailbox ON segment (mailbox, first);
CREATE TABLE page (id INTEGER PRIMARY KEY, grams BLOB NOT NULL); -- segment<<24 | first trigram
CREATE TABLE field ( -- the values of one of store.SearchFields
	id   INTEGER PRIMARY KEY, -- segment<<3 | its number there
	text BLOB NOT NULL
)`}
}

// endOfField and endOfMessage stand behind the values of fields, which are UTF-8
// and so have neither.
const (
	endOfField   = 0xfe
	endOfMessage = 0xff
)

// searchIndex is what the store knows of the texts of messages. Only fill and
// its like write to it, one at a time.
type searchIndex struct {
	s *Store

	opened sync.RWMutex // held for writing while db changes
	db     *sqlite.DB

	filling sync.Mutex
	builder segmentBuilder
	commits atomic.Int64 // of the store

	mu    sync.Mutex
	noted map[int64]*note
	due   []int64
	wake  chan struct{}
}

// note is what happened to a mailbox since its index was last filled.
type note struct {
	added, gone int
	bytes       int64
	due         bool
}

func openSearch(ctx context.Context, s *Store) (*searchIndex, error) {
	x := &searchIndex{s: s, noted: map[int64]*note{}, wake: make(chan struct{}, 1)}
	err := x.open(ctx)
	if err != nil && (sqlite.IsDamaged(err) || errors.Is(err, sqlite.ErrNewer)) {
		s.o.Log.Warn("search index is made anew", "err", err)
		if err = removeSearch(s.o.Dir); err == nil {
			err = x.open(ctx)
		}
	}
	return x, err
}

func (x *searchIndex) open(ctx context.Context) (err error) {
	x.db, err = sqlite.Open(ctx, filepath.Join(x.s.o.Dir, "search.db"), sqlite.Options{Migrations: searchSchema(), CacheKiB: 4 << 10, Log: x.s.o.Log})
	return err
}

// removeSearch removes the index from a store's folder.
func removeSearch(dir string) error {
	for _, end := range [...]string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, "search.db"+end)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the search index: %w", err)
		}
	}
	return nil
}

// renew throws the index away; it is filled again by and by.
func (x *searchIndex) renew(ctx context.Context) error {
	x.opened.Lock()
	defer x.opened.Unlock()
	if err := x.db.Close(); err != nil {
		x.s.o.Log.Warn("search index not closed", "err", err)
	}
	if err := removeSearch(x.s.o.Dir); err != nil {
		return err
	}
	return x.open(ctx)
}

func (x *searchIndex) close() error {
	x.opened.Lock()
	defer x.opened.Unlock()
	return x.db.Close()
}

func (x *searchIndex) read(ctx context.Context, fn func(*sqlite.Tx) error) error {
	x.opened.RLock()
	defer x.opened.RUnlock()
	return x.db.Read(ctx, fn)
}

func (x *searchIndex) write(ctx context.Context, fn func(*sqlite.Tx) error) error {
	x.opened.RLock()
	defer x.opened.RUnlock()
	return x.db.Write(ctx, fn)
}

// segment is a row of that table.
type segment struct {
	id    int64
	uids  []store.UID
	maybe trigram.Set
	size  int64
}

// indexed is what the index has of a mailbox.
type indexed struct {
	uidValidity uint32
	upto        store.UID
	segments    []segment // ascending by UID
}

// readIndexed returns nothing for a mailbox that is not covered.
func readIndexed(tx *sqlite.Tx, mailbox int64) (in indexed, err error) {
	found, err := tx.Get("SELECT uidvalidity, upto FROM covered WHERE mailbox=?", []any{mailbox}, &in.uidValidity, &in.upto)
	if err != nil || !found {
		return in, err
	}
	err = tx.Query("SELECT id, uids, maybe, size FROM segment WHERE mailbox=? ORDER BY first", []any{mailbox}, func(scan func(...any) error) error {
		var g segment
		var uids, maybe []byte
		if err := scan(&g.id, &uids, &maybe, &g.size); err != nil {
			return err
		}
		uid := store.UID(0)
		for len(uids) > 0 {
			d, n := binary.Uvarint(uids)
			if n <= 0 || len(g.uids) == trigram.MaxDocs {
				return fmt.Errorf("segment %d of the search index is damaged", g.id)
			}
			uid += store.UID(d)
			g.uids, uids = append(g.uids, uid), uids[n:]
		}
		if len(g.uids) == 0 {
			return fmt.Errorf("segment %d of the search index is damaged", g.id)
		}
		for i := range min(8*len(maybe), trigram.MaxDocs) {
			if maybe[i>>3]&(1<<(i&7)) != 0 {
				g.maybe.Add(i)
			}
		}
		in.segments = append(in.segments, g)
		return nil
	})
	return in, err
}

// Search implements store.Searcher.
func (m *mailbox) Search(ctx context.Context, keys []store.SearchKey) (hits store.SearchHits, err error) {
	r, err := m.s.row(ctx, m.id)
	if err != nil {
		return hits, err
	}
	find := finder{keys: keys, grams: make([][]trigram.Gram, len(keys))}
	for n, k := range keys {
		if k.Field == store.SearchAnywhere {
			find.grams[n] = trigram.Grams(k.Text)
		}
	}
	err = m.s.search.read(ctx, func(tx *sqlite.Tx) error {
		hits = store.SearchHits{Match: make([][]store.UID, len(keys)), Exact: make([]bool, len(keys))}
		for n, k := range keys {
			hits.Exact[n] = k.Field != store.SearchAnywhere
		}
		in, err := readIndexed(tx, m.id)
		if err != nil || in.uidValidity != r.uidValidity || in.upto >= r.uidNext {
			return err
		}
		var known []store.UIDRange
		for i := range in.segments {
			if err := ctx.Err(); err != nil {
				return err
			}
			g := &in.segments[i]
			known = appendRanges(known, g.uids)
			if err := find.segment(tx, g, &hits); err != nil {
				return err
			}
		}
		hits.Known = store.UIDSet(known)
		return nil
	})
	if err != nil {
		err = fmt.Errorf("reading the search index: %w", err)
	}
	return hits, err
}

// appendRanges appends ascending UIDs to ranges.
func appendRanges(ranges []store.UIDRange, uids []store.UID) []store.UIDRange {
	for _, u := range uids {
		if n := len(ranges) - 1; n >= 0 && ranges[n].Last == u-1 {
			ranges[n].Last = u
		} else {
			ranges = append(ranges, store.UIDRange{First: u, Last: u})
		}
	}
	return ranges
}

// finder looks keys up in one segment after another.
type finder struct {
	keys  []store.SearchKey
	grams [][]trigram.Gram
}

func (f *finder) segment(tx *sqlite.Tx, g *segment, hits *store.SearchHits) error {
	for i, u := range g.uids {
		if g.maybe.Has(i) {
			hits.Maybe = append(hits.Maybe, u)
		}
	}
	for n, k := range f.keys {
		var found trigram.Set
		var err error
		if k.Field == store.SearchAnywhere {
			found, err = f.candidates(tx, g, f.grams[n])
		} else {
			found, err = f.fields(tx, g, slices.Index(store.SearchFields(), k.Field), k.Text)
		}
		if err != nil {
			return err
		}
		for i, u := range g.uids {
			if found.Has(i) || g.maybe.Has(i) {
				hits.Match[n] = append(hits.Match[n], u)
			}
		}
	}
	return nil
}

// candidates are the messages of a segment that hold all grams.
func (f *finder) candidates(tx *sqlite.Tx, g *segment, grams []trigram.Gram) (trigram.Set, error) {
	found := trigram.All(len(g.uids))
	for _, gram := range grams {
		var docs trigram.Set
		var id int64
		var page []byte
		there, err := tx.Get("SELECT id, grams FROM page WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
			[]any{g.id << 24, g.id<<24 | int64(gram)}, &id, &page)
		if err == nil && there {
			docs, err = trigram.Find(trigram.Gram(id&0xffffff), page, gram)
		}
		if err != nil {
			return found, err
		}
		if !found.And(&docs) {
			break
		}
	}
	return found, nil
}

// fields are the messages of a segment that have text in a field.
func (f *finder) fields(tx *sqlite.Tx, g *segment, field int, text []byte) (found trigram.Set, err error) {
	var values []byte
	if _, err := tx.Get("SELECT text FROM field WHERE id=?", []any{g.id<<3 | int64(field)}, &values); err != nil {
		return found, err
	}
	if len(text) == 0 {
		text = []byte{endOfField}
	}
	for i := 0; ; i++ {
		at := bytes.Index(values, text)
		if at < 0 {
			return found, nil
		}
		i += bytes.Count(values[:at], []byte{endOfMessage})
		if i >= len(g.uids) {
			return found, fmt.Errorf("fields of segment %d of the search index are damaged", g.id)
		}
		found.Add(i)
		end := bytes.IndexByte(values[at:], endOfMessage)
		if end < 0 {
			return found, nil
		}
		values = values[at+end+1:]
	}
}
