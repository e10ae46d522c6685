// Package sqlite opens a database the way all of ours are: WAL with
// synchronous=FULL, one writer with group commit, read-only readers, pragmas
// read back, numbered migrations and a lock that keeps other processes out.
//
// It knows no schema. Only engines (sqldir, sqlstore, queue) import it.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	modernc "modernc.org/sqlite" // registers the driver "sqlite" with database/sql
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of Open and of a DB.
var (
	// ErrLocked: another process has the database open.
	ErrLocked = errors.New("in use by another process")
	// ErrNewer: the file was written by a newer version of this program.
	ErrNewer = errors.New("schema is newer than this program")
	// ErrClosed: the DB was closed.
	ErrClosed = errors.New("database is closed")
	// ErrFull: the disk or the database is full; the change was undone, and
	// later ones may succeed.
	ErrFull = errors.New("no space left for the database")
	// ErrFailed: an earlier commit failed in a way that leaves its outcome
	// unknown; nothing is written any more until the process starts again.
	ErrFailed = errors.New("database failed, a restart is needed")
)

// Options of Open.
type Options struct {
	// Migrations are SQL scripts, run once each, in order. They are never
	// edited after a release, only appended to.
	Migrations []string
	// Readers is how many reads run at once; 0: one a core, at least 2.
	Readers int
	// OnFatal is called once, on its own goroutine, after a commit failed with
	// an unknown outcome: the process must stop accepting and start again.
	OnFatal func(error)
	// BeforeCommit is called on the writer's goroutine before each commit, with
	// the transaction that is to be committed; nil: not wanted. It may write.
	BeforeCommit func(*Tx) error
	// Settled is called on the writer's goroutine after each transaction, with
	// true once it is durable and before its Writes return; nil: not wanted.
	Settled func(committed bool)
	// Reserve is how many bytes of the WAL are laid out on disk when the
	// database is opened: a commit that overwrites waits for less than one that
	// makes the file longer.
	Reserve int
	// CacheKiB is the page cache of each connection in KiB; 0: 32 MiB.
	CacheKiB int
	// Log gets what the database has to say; nil: nothing.
	Log *slog.Logger
}

// DB is an open database. Its methods may be called from many goroutines.
type DB struct {
	path    string
	pool    *sql.DB // both kinds of connection come from DSNs of their own
	readers *sql.DB
	lock    *os.File
	o       Options

	writes chan *write
	quit   chan struct{}
	done   chan struct{} // the writer has ended
	once   sync.Once
	// commits counts what the checkpointer may bring home.
	commits atomic.Int64
	checks  sync.WaitGroup

	idle chan *Tx // free readers
}

// Open opens the database at path, and makes it if it is missing. The folder
// must exist. The caller closes the DB.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	lock, err := Lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db := &DB{path: path, lock: lock, o: o,
		writes: make(chan *write, 256), quit: make(chan struct{}), done: make(chan struct{})}
	if err := private(path); err != nil {
		db.free()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := db.open(ctx); err != nil {
		db.free()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) error {
	o := db.o
	// A commit waits for the data and the size of the WAL, not for its times.
	if _, err := modernc.Fdatasync(true); err != nil && !errors.Is(err, modernc.ErrFdatasyncUnavailable) {
		return err
	}
	if err := reserve(db.path+"-wal", o.Reserve); err != nil {
		return err
	}
	var err error
	if db.pool, err = sql.Open("sqlite", dsn(db.path, "immediate", o.cache()...)); err != nil {
		return err
	}
	db.pool.SetMaxOpenConns(1)
	writer, err := newTx(ctx, db.pool)
	if err != nil {
		return err
	}
	if err := checkPragmas(ctx, writer.conn, map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"}); err != nil {
		return err
	}
	if err := migrate(ctx, writer.conn, o.Migrations); err != nil {
		return err
	}
	n := o.Readers
	if n <= 0 {
		n = max(2, runtime.GOMAXPROCS(0))
	}
	if db.readers, err = sql.Open("sqlite", dsn(db.path, "deferred", append(o.cache(), "query_only(1)")...)); err != nil {
		return err
	}
	db.readers.SetMaxOpenConns(n + 1) // and the checkpointer's
	db.idle = make(chan *Tx, n)
	for range n {
		r, err := newTx(ctx, db.readers)
		if err != nil {
			return err
		}
		if err := checkPragmas(ctx, r.conn, map[string]string{"query_only": "1"}); err != nil {
			return err
		}
		db.idle <- r
	}
	checker, err := newTx(ctx, db.readers)
	if err != nil {
		return err
	}
	go db.writeLoop(writer)
	db.checks.Go(func() { db.checkpointLoop(checker) })
	return nil
}

// checkpointEvery is how often what lies in the WAL is brought home beside the
// writer, so that the writer seldom has to do it between two commits.
const checkpointEvery = 2 * time.Second

func (db *DB) checkpointLoop(tx *Tx) {
	defer tx.close()
	ticker := time.NewTicker(checkpointEvery)
	defer ticker.Stop()
	seen := int64(0)
	for {
		select {
		case <-ticker.C:
		case <-db.quit:
			return
		}
		if n := db.commits.Load(); n != seen {
			seen = n
			var busy, pages, home int
			if _, err := tx.Get("PRAGMA wal_checkpoint(PASSIVE)", nil, &busy, &pages, &home); err != nil && db.o.Log != nil {
				db.o.Log.Warn("checkpoint failed", "database", db.path, "err", err)
			}
		}
	}
}

// reserve fills a WAL that is not there with zeros, which SQLite takes for an
// empty one.
func reserve(path string, size int) error {
	if st, err := os.Stat(path); size <= 0 || err == nil && st.Size() > 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for n := 0; n < size && err == nil; n += len(zeros) {
		_, err = f.Write(zeros)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("reserving %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// dsn names the file with our pragmas. The path must begin with "file:" for
// its parameters to be read at all.
func dsn(path, lock string, pragmas ...string) string {
	v := url.Values{"_txlock": {lock}}
	for _, p := range append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		"wal_autocheckpoint(8000)", "journal_size_limit(67108864)", "cache_size(-32768)", "temp_store(MEMORY)"}, pragmas...) {
		v.Add("_pragma", p)
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + v.Encode()
}

// cache is a pragma that comes after that of dsn.
func (o *Options) cache() []string {
	if o.CacheKiB <= 0 {
		return nil
	}
	return []string{fmt.Sprintf("cache_size(-%d)", o.CacheKiB)}
}

// checkPragmas reads pragmas back: the driver ignores what it cannot set.
func checkPragmas(ctx context.Context, c *sql.Conn, want map[string]string) error {
	for name, value := range want {
		var got string
		if err := c.QueryRowContext(ctx, "PRAGMA "+name).Scan(&got); err != nil {
			return fmt.Errorf("reading pragma %s: %w", name, err)
		}
		if !strings.EqualFold(got, value) {
			return fmt.Errorf("pragma %s is %s and not %s", name, got, value)
		}
	}
	return nil
}

// migrate brings the schema to the newest version, each step in one transaction.
func migrate(ctx context.Context, c *sql.Conn, steps []string) error {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("reading schema version: %w", err)
	}
	if version > len(steps) {
		return fmt.Errorf("%w: version %d, known up to %d", ErrNewer, version, len(steps))
	}
	for ; version < len(steps); version++ {
		script := fmt.Sprintf("BEGIN IMMEDIATE;\n%s;\nPRAGMA user_version=%d;\nCOMMIT", steps[version], version+1)
		if _, err := c.ExecContext(ctx, script); err != nil {
			_, _ = c.ExecContext(ctx, "ROLLBACK")
			return fmt.Errorf("migrating to schema version %d: %w", version+1, err)
		}
	}
	return nil
}

// private makes an empty file that only its owner may read, and takes one that
// is there from everybody else; SQLite gives its WAL the same mode. Nobody may
// have the database open yet: closing the file would drop SQLite's locks.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		st, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if mode := st.Mode().Perm(); mode&0o007 != 0 {
			if err := os.Chmod(name, mode&^0o007); err != nil {
				return err
			}
		}
	}
	return nil
}

// Lock takes the lock that keeps a second process out, until the file is closed:
// ErrLocked. It is a file of its own: opening and closing the database file
// itself would drop SQLite's locks.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// Read runs fn in a read transaction: it sees one state of the database,
// whatever is committed meanwhile. fn must not call Write.
func (db *DB) Read(ctx context.Context, fn func(*Tx) error) error {
	var tx *Tx
	select {
	case tx = <-db.idle:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.quit:
		return ErrClosed
	}
	defer func() { db.idle <- tx }()
	if _, _, err := tx.Exec("BEGIN"); err != nil {
		return fmt.Errorf("beginning read: %w", err)
	}
	defer tx.Exec("ROLLBACK") //nolint:errcheck // nothing was written
	return guard(tx, fn)
}

// Close waits for the writes that have begun, and frees the database. Further
// calls do nothing.
func (db *DB) Close() (err error) {
	db.once.Do(func() {
		close(db.quit)
		<-db.done
		db.checks.Wait()
		for range cap(db.idle) {
			(<-db.idle).close()
		}
		err = db.free()
	})
	return err
}

func (db *DB) free() error {
	var errs []error
	for _, p := range []*sql.DB{db.readers, db.pool} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(append(errs, db.lock.Close())...)
}

// isFull reports whether err says that there is no room.
func isFull(err error) bool {
	var c interface{ Code() int }
	return errors.As(err, &c) && c.Code()&0xff == sqlite3.SQLITE_FULL
}

// IsDamaged reports whether err says that the database file is not what it was
// when it was written.
func IsDamaged(err error) bool {
	var c interface{ Code() int }
	return errors.As(err, &c) && (c.Code()&0xff == sqlite3.SQLITE_CORRUPT || c.Code()&0xff == sqlite3.SQLITE_NOTADB)
}

// IsUnique reports whether err says that a value which must be unique was there before.
func IsUnique(err error) bool {
	var c interface{ Code() int }
	return errors.As(err, &c) && (c.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || c.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// CopyTo writes a consistent copy of the database to a file that is not there,
// durably, while reads and writes go on. It holds all that was committed
// before it began.
func (db *DB) CopyTo(ctx context.Context, path string) error {
	empty, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // SQLite writes into an empty file, too
	if err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	if err := empty.Close(); err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	pool, err := sql.Open("sqlite", dsn(db.path, "deferred"))
	if err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	defer pool.Close()
	if _, err := pool.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", db.path, err)
	}
	return nil
}
