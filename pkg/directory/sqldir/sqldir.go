// Package sqldir is the directory's engine: general LDAP entries in SQLite,
// indexed by normalised value.
//
// It checks what a directory must hold to be one (parents exist, values are
// unique where mail needs it, passwords are hashed); what attributes mean is
// the business of directory.View.
package sqldir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

var _ directory.Editor = (*Dir)(nil)

// migrations: an entry's dn is kept reversed (root first) with a separator
// that cannot occur in a DN, so that a subtree is a range of the index.
func migrations() []string {
	return []string{`
CREATE TABLE entry (
	id      INTEGER PRIMARY KEY,
	path    TEXT NOT NULL UNIQUE,
	parent  TEXT NOT NULL,
	content BLOB NOT NULL
);
CREATE INDEX entry_parent ON entry (parent);
CREATE TABLE value (
	attr  TEXT NOT NULL,
	value TEXT NOT NULL,
	entry INTEGER NOT NULL REFERENCES entry (id) ON DELETE CASCADE,
	PRIMARY KEY (attr, value, entry)
) WITHOUT ROWID;
CREATE INDEX value_entry ON value (entry)`}
}

// Dir is an open directory. It may be used from many goroutines.
type Dir struct {
	db     *sqlite.DB
	key    [32]byte      // of the bind cache; new at every start
	hashes chan struct{} // bounds password hashes at work: each takes a core and 19 MiB

	mu      sync.Mutex
	proved  map[string][sha256.Size]byte // DN -> MAC of stored values and password
	entries map[string]stored            // path -> entry, emptied by every write
	pairs   map[pair][]stored            // who has a value; emptied by every write
	version uint64                       // counts writes: a read older than one is not cached
}

// stored is an entry as it lies in the database. Its entry is shared by the
// caches and their readers, who must not change it.
type stored struct {
	id    int64
	path  string
	entry directory.Entry
}

// maxCached bounds the entries and the proved passwords kept in memory.
const maxCached = 20_000

// Options of Open.
type Options struct {
	Log     *slog.Logger
	OnFatal func(error)
}

// Open opens the directory in the SQLite file at path. The caller closes it.
func Open(ctx context.Context, path string, o Options) (*Dir, error) {
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations(), OnFatal: o.OnFatal, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("opening directory: %w", err)
	}
	d := &Dir{db: db, hashes: make(chan struct{}, runtime.GOMAXPROCS(0)),
		proved: map[string][sha256.Size]byte{}, entries: map[string]stored{}, pairs: map[pair][]stored{}}
	_, _ = rand.Read(d.key[:]) // never fails since Go 1.24
	return d, nil
}

// Close frees the directory.
func (d *Dir) Close() error { return d.db.Close() }

// pathOf is the key of an entry: its normalised RDNs, root first, each ended
// by a NUL, which no RDN's text holds.
func pathOf(dn directory.DN) string {
	var b strings.Builder
	for _, rdn := range slices.Backward(dn.RDNs) {
		b.WriteString(rdn.Normal())
		b.WriteByte(0)
	}
	return b.String()
}

type content struct {
	DN         string
	Attributes []directory.Attribute
}

func encode(e directory.Entry) ([]byte, error) {
	return json.Marshal(content{e.DN.String(), e.Attributes})
}

func decode(b []byte) (directory.Entry, error) {
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return directory.Entry{}, fmt.Errorf("decoding entry: %w", err)
	}
	dn, err := directory.ParseDN(c.DN)
	return directory.Entry{DN: dn, Attributes: c.Attributes}, err
}

// load returns the entry of that DN, from memory if it was read since the last write.
func (d *Dir) load(ctx context.Context, dn directory.DN) (s stored, found bool, err error) {
	path := pathOf(dn)
	d.mu.Lock()
	s, found = d.entries[path]
	version := d.version
	d.mu.Unlock()
	if found {
		return s, true, nil
	}
	err = d.db.Read(ctx, func(tx *sqlite.Tx) error {
		s, found, err = get(tx, path)
		return err
	})
	if err != nil {
		return s, false, unavailable(err)
	}
	if found {
		d.keep(path, s, version)
	}
	return s, found, nil
}

func (d *Dir) keep(path string, s stored, version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if version != d.version {
		return
	}
	if len(d.entries) >= maxCached {
		clear(d.entries)
	}
	d.entries[path] = s
}

func get(tx *sqlite.Tx, path string) (s stored, found bool, err error) {
	s.path = path
	var raw []byte
	found, err = tx.Get("SELECT id, content FROM entry WHERE path=?", []any{path}, &s.id, &raw)
	if err == nil && found {
		s.entry, err = decode(raw)
	}
	return s, found, err
}

func unavailable(err error) error {
	if _, ok := errors.AsType[*directory.ResultError](err); ok {
		return err
	}
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
}
