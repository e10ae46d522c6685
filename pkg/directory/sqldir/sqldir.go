// Package sqldir is the directory's engine: general LDAP entries in SQLite,
// checked against a schema, with indexes for equality, presence, order and
// parts of values.
//
// It keeps what makes a directory one: parents exist, entries obey the schema,
// values are unique where mail needs it, members of groups exist, passwords are
// hashed. What attributes mean is the business of directory.View.
package sqldir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/sqlite"
)

var _ directory.Operator = (*Dir)(nil)

// migrations: an entry's path is its DN reversed (root first) with a separator
// that cannot occur in a DN, so that a subtree is a range of the index. value
// has the normal form of every value, shortened; part finds three letters of
// any value that can be searched for parts.
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
CREATE INDEX value_entry ON value (entry)`, `
DROP TABLE value;
CREATE TABLE value (
	attr  TEXT NOT NULL,
	value TEXT NOT NULL,
	entry INTEGER NOT NULL,
	PRIMARY KEY (attr, value, entry)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE part USING fts5(text, content='', contentless_delete=1, tokenize='trigram', detail='none');
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID`}
}

// Dir is an open directory. It may be used from many goroutines.
type Dir struct {
	db     *sqlite.DB
	schema *schema.Schema
	log    *slog.Logger
	key    [32]byte      // of the bind cache; new at every start
	hashes chan struct{} // bounds password hashes at work: each takes a core and 19 MiB
	cache  cache
	// postings are who has rare groups of letters.
	postings postings
	now      func() time.Time

	policy     Policy
	keepHashes bool
	rehashing  chan struct{} // full while a password is hashed anew
	background sync.WaitGroup

	mu     sync.Mutex
	proved map[string][sha256.Size]byte // path -> MAC of stored values and password
}

// maxProved bounds the proved passwords kept in memory.
const maxProved = 20_000

// Options of Open.
type Options struct {
	// Schema is what entries must obey; nil: the built-in schema.
	Schema *schema.Schema
	// Policy is what passwords must be.
	Policy Policy
	// KeepHashes leaves hashes of other schemes as they are. Else a password that
	// proves right is hashed anew, with argon2id, and gets its SCRAM secret.
	KeepHashes bool
	// Now is the clock; nil: time.Now.
	Now     func() time.Time
	Log     *slog.Logger
	OnFatal func(error)
}

// Open opens the directory in the SQLite file at path. If the schema is another
// than last time it makes the indexes anew, which takes a while. The caller
// closes the Dir.
func Open(ctx context.Context, path string, o Options) (*Dir, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Schema == nil {
		var err error
		if o.Schema, err = schema.Load(); err != nil {
			return nil, fmt.Errorf("opening directory: %w", err)
		}
	}
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: migrations(), OnFatal: o.OnFatal, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("opening directory: %w", err)
	}
	d := &Dir{db: db, policy: o.Policy, keepHashes: o.KeepHashes, now: o.Now, rehashing: make(chan struct{}, 1), schema: o.Schema, log: o.Log, hashes: make(chan struct{}, runtime.GOMAXPROCS(0)), proved: map[string][sha256.Size]byte{}}
	_, _ = rand.Read(d.key[:]) // never fails since Go 1.24
	if err := d.reindex(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening directory: %w", err), db.Close())
	}
	return d, nil
}

// Schema is what entries obey.
func (d *Dir) Schema() *schema.Schema { return d.schema }

var _ directory.Versioned = (*Dir)(nil)

// Version implements directory.Versioned.
func (d *Dir) Version() uint64 { return d.cache.version() }

// Close frees the directory.
func (d *Dir) Close() error {
	d.background.Wait()
	return d.db.Close()
}

// load returns the entry of that DN, from memory if it is there.
func (d *Dir) load(ctx context.Context, dn directory.DN) (s *stored, err error) {
	path := d.path(dn)
	if s := d.cache.entry(path); s != nil {
		return s, nil
	}
	version := d.cache.version()
	err = d.db.Read(ctx, func(tx *sqlite.Tx) error {
		s, err = d.get(tx, path)
		return err
	})
	if err != nil {
		return nil, unavailable(err)
	}
	if s != nil {
		d.cache.keepEntry(s, version)
	}
	return s, nil
}

func result(code directory.ResultCode, format string, args ...any) error {
	return &directory.ResultError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// unavailable makes an error of the database an outage; results stay.
func unavailable(err error) error {
	if _, ok := errors.AsType[*directory.ResultError](err); ok || err == nil {
		return err
	}
	if v, ok := errors.AsType[*schema.Violation](err); ok {
		return &directory.ResultError{Code: directory.ResultCode(v.Code), Text: v.Text}
	}
	return fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
}
