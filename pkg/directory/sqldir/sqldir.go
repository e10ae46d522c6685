// Package sqldir is the directory's engine: general LDAP entries in SQLite,
// indexed by normalised value.
//
// It checks what a directory must hold to be one (parents exist, values are
// unique where mail needs it, passwords are hashed); what attributes mean is
// the business of directory.View.
package sqldir

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	version uint64                       // counts writes: a read older than one is not cached
}

type stored struct {
	id    int64
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
		proved: map[string][sha256.Size]byte{}, entries: map[string]stored{}}
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
		b.WriteString(directory.DN{RDNs: []directory.RDN{rdn}}.Normal())
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

// Bind implements directory.Tree.
func (d *Dir) Bind(ctx context.Context, dn directory.DN, password string) error {
	bad := &directory.ResultError{Code: directory.InvalidCredentials, Text: "invalid credentials"}
	if password == "" {
		return bad
	}
	var values []string
	s, found, err := d.load(ctx, dn)
	if err != nil {
		return err
	}
	if found {
		values = s.entry.Values("userPassword")
	}
	mac := hmac.New(sha256.New, d.key[:])
	fmt.Fprintf(mac, "%q%q", values, password)
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	path := pathOf(dn)
	d.mu.Lock()
	known, ok := d.proved[path]
	d.mu.Unlock()
	// The stored values are part of the MAC: a changed password counts at once.
	if ok && hmac.Equal(known[:], sum[:]) && len(values) > 0 {
		return nil
	}
	if len(values) == 0 {
		values = []string{dummyHash} // an unknown user costs what a wrong password does
	}
	select {
	case d.hashes <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, ctx.Err())
	}
	ok = directory.CheckPassword(values, password)
	<-d.hashes
	if !ok || !found {
		return bad
	}
	d.mu.Lock()
	if len(d.proved) >= maxCached {
		clear(d.proved)
	}
	d.proved[path] = sum
	d.mu.Unlock()
	return nil
}

// dummyHash is of a password that nobody knows.
const dummyHash = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"

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

// Search implements directory.Tree.
func (d *Dir) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		found, err := d.search(ctx, q)
		for _, e := range found {
			if !yield(project(e, q), nil) {
				return
			}
		}
		if err != nil {
			yield(directory.Entry{}, err)
		}
	}
}

// search collects what matches: a reader is held no longer than that takes,
// however slowly the caller takes the entries.
func (d *Dir) search(ctx context.Context, q directory.Query) (out []directory.Entry, err error) {
	if q.Scope == directory.ScopeBase {
		s, found, err := d.load(ctx, q.Base)
		if err != nil || !found {
			return nil, errors.Join(err, missing(found))
		}
		if matches(s.entry, q.Filter) == yes {
			out = append(out, s.entry)
		}
		return out, nil
	}
	base := pathOf(q.Base)
	err = d.db.Read(ctx, func(tx *sqlite.Tx) error {
		if !q.Base.IsRoot() {
			var one int
			if found, err := tx.Get("SELECT 1 FROM entry WHERE path=?", []any{base}, &one); err != nil || !found {
				return errors.Join(err, missing(found))
			}
		}
		c := collector{q: q, base: base, seen: map[int64]bool{}}
		defer func() { out = c.out }()
		if pairs, ok := candidates(q.Filter); ok {
			for _, p := range pairs {
				if err := tx.Query("SELECT id, path, parent, content FROM value JOIN entry ON id=entry WHERE attr=? AND value=?",
					[]any{p.attr, p.value}, c.row); err != nil {
					return err
				}
			}
			return nil
		}
		if q.Scope == directory.ScopeOne {
			return tx.Query("SELECT id, path, parent, content FROM entry WHERE parent=?", []any{base}, c.row)
		}
		return tx.Query("SELECT id, path, parent, content FROM entry WHERE path>=? AND path<?", []any{base, base + "\xff"}, c.row)
	})
	if err != nil {
		return out, unavailable(err)
	}
	return out, nil
}

// collector takes the rows of a search's candidates.
type collector struct {
	q    directory.Query
	base string
	seen map[int64]bool
	out  []directory.Entry
}

func (c *collector) row(scan func(...any) error) error {
	var id int64
	var path, parent string
	var raw sql.RawBytes
	if err := scan(&id, &path, &parent, &raw); err != nil {
		return err
	}
	if c.seen[id] || !strings.HasPrefix(path, c.base) || c.q.Scope == directory.ScopeOne && parent != c.base {
		return nil
	}
	c.seen[id] = true
	e, err := decode(raw)
	if err != nil || matches(e, c.q.Filter) != yes {
		return err
	}
	if c.q.SizeLimit > 0 && len(c.out) == c.q.SizeLimit {
		return &directory.ResultError{Code: directory.SizeLimitExceeded, Text: "size limit exceeded"}
	}
	c.out = append(c.out, e)
	return nil
}

func missing(found bool) error {
	if found {
		return nil
	}
	return &directory.ResultError{Code: directory.NoSuchObject, Text: "no such object"}
}

// operational attributes are returned only when they are asked for.
func operational(name string) bool {
	switch strings.ToLower(name) {
	case "entryuuid", "createtimestamp", "modifytimestamp":
		return true
	}
	return false
}

// project keeps the attributes that were asked for. The values are copied: the
// entry may be in the cache.
func project(e directory.Entry, q directory.Query) directory.Entry {
	users, ops := len(q.Attributes) == 0, false
	for _, a := range q.Attributes {
		users, ops = users || a == "*", ops || a == "+"
	}
	out := directory.Entry{DN: e.DN}
	for _, a := range e.Attributes {
		op := operational(a.Name)
		named := slices.ContainsFunc(q.Attributes, func(n string) bool { return strings.EqualFold(n, a.Name) })
		if !named && !(users && !op) && !(ops && op) {
			continue
		}
		kept := directory.Attribute{Name: a.Name}
		if !q.TypesOnly {
			kept.Values = slices.Clone(a.Values)
		}
		out.Attributes = append(out.Attributes, kept)
	}
	return out
}
