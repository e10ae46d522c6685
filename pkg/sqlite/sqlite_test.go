package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var schema = []string{`CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)`}

func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(context.Background(), path, Options{Migrations: schema})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func insert(v string) func(*Tx) error {
	return func(tx *Tx) error {
		_, _, err := tx.Exec("INSERT INTO t (v) VALUES (?)", v)
		return err
	}
}

func count(t testing.TB, db *DB) (n int) {
	t.Helper()
	if err := db.Read(context.Background(), func(tx *Tx) error {
		_, err := tx.Get("SELECT count(*) FROM t", nil, &n)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWriteGroupsAndIsolates(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	var wg sync.WaitGroup
	errs := make([]error, 100)
	for i := range errs {
		wg.Go(func() {
			// Every value is tried twice: one of the two must fail alone.
			errs[i] = db.Write(t.Context(), func(tx *Tx) error {
				if err := insert(fmt.Sprint("first", i))(tx); err != nil {
					return err
				}
				return insert(strconv.Itoa(i / 2))(tx)
			})
		})
	}
	wg.Wait()
	for i := 0; i < len(errs); i += 2 {
		a, b := errs[i], errs[i+1]
		if (a == nil) == (b == nil) || !IsUnique(errors.Join(a, b)) && !IsUnique(a) && !IsUnique(b) {
			t.Errorf("pair %d: %v, %v; want one success and one unique error", i, a, b)
		}
	}
	if n := count(t, db); n != 100 {
		t.Errorf("%d rows, want 100: a failed write left something behind, or took another with it", n)
	}
}

func TestWriteSurvivesPanic(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	if err := db.Write(t.Context(), func(*Tx) error { panic("boom") }); err == nil {
		t.Fatal("a panic is no success")
	}
	if err := db.Write(t.Context(), insert("a")); err != nil {
		t.Fatal(err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	if err := db.Read(t.Context(), insert("a")); err == nil {
		t.Fatal("a reader wrote")
	}
}

func TestOpenRefusesSecondAndNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path)
	if _, err := Open(t.Context(), path, Options{Migrations: schema}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v, want ErrLocked", err)
	}
	db.Close()
	if err := db.Write(t.Context(), insert("a")); !errors.Is(err, ErrClosed) {
		t.Errorf("write after close: %v, want ErrClosed", err)
	}
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("older program: %v, want ErrNewer", err)
	}
	if n := count(t, open(t, path)); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// Hashes of passwords and everybody's mail lie in these files, and the folder
// may be one that a service manager made for all to enter.
func TestFilesAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.db")
	old := filepath.Join(dir, "old.db")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(old, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	db := open(t, path)
	if err := db.Write(t.Context(), insert("a")); err != nil {
		t.Fatal(err)
	}
	if err := db.CopyTo(t.Context(), filepath.Join(dir, "copy.db")); err != nil {
		t.Fatal(err)
	}
	if err := open(t, old).Write(t.Context(), insert("a")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		st, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s can be read by everybody: %v", f.Name(), st.Mode())
		}
	}
	if len(files) < 9 { // two databases with WAL, shared memory and lock, and the copy
		t.Errorf("only %d files", len(files))
	}
}

func TestFullIsRecoverable(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "x.db"))
	pages := func(n int) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx *Tx) error {
			return tx.Query("PRAGMA max_page_count="+strconv.Itoa(n), nil, func(func(...any) error) error { return nil })
		}); err != nil {
			t.Fatal(err)
		}
	}
	pages(10)
	big := string(make([]byte, 100<<10))
	if err := db.Write(t.Context(), insert(big)); !errors.Is(err, ErrFull) {
		t.Fatalf("%v, want ErrFull", err)
	}
	pages(1 << 20)
	if err := db.Write(t.Context(), insert(big)); err != nil {
		t.Fatalf("after room came: %v", err)
	}
}

// TestKilledWriterLosesNothing kills a child that reports each write once it
// was acknowledged, and looks for every reported one.
func TestKilledWriterLosesNothing(t *testing.T) {
	if path := os.Getenv("SQLITE_TEST_CHILD"); path != "" {
		db := open(t, path)
		var mu sync.Mutex
		for g := range 4 {
			go func() {
				for i := 0; ; i++ {
					v := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
					if db.Write(context.Background(), insert(v)) == nil {
						mu.Lock()
						fmt.Println("ack", v)
						mu.Unlock()
					}
				}
			}()
		}
		select {}
	}
	path := filepath.Join(t.TempDir(), "x.db")
	acked := map[string]bool{}
	for cycle := range 5 {
		child := exec.Command(os.Args[0], "-test.run=TestKilledWriterLosesNothing$")
		child.Env = append(os.Environ(), "SQLITE_TEST_CHILD="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if v, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
				acked[v] = true
			}
			if n == 20+40*cycle {
				child.Process.Kill()
			}
		}
		child.Wait()
	}
	db := open(t, path)
	for v := range acked {
		found, err := false, error(nil)
		if e := db.Read(t.Context(), func(tx *Tx) error {
			var id int
			found, err = tx.Get("SELECT id FROM t WHERE v=?", []any{v}, &id)
			return err
		}); e != nil {
			t.Fatal(e)
		}
		if !found {
			t.Errorf("acknowledged write %s was lost", v)
		}
	}
	if len(acked) < 100 {
		t.Errorf("only %d writes were acknowledged in all cycles", len(acked))
	}
}

// TestHooksFollowTheGroup: what BeforeCommit writes is part of the commit, and
// Settled hears of each transaction's end, also of one that is run again.
func TestHooksFollowTheGroup(t *testing.T) {
	var settled []bool
	pending := 0
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), Options{Migrations: schema,
		BeforeCommit: func(tx *Tx) error {
			if pending == 0 {
				return nil
			}
			return insert(fmt.Sprint("hook", len(settled)))(tx)
		},
		Settled: func(committed bool) { settled, pending = append(settled, committed), 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	pool, err := sql.Open("sqlite", dsn(db.path, "immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tx, err := newTx(t.Context(), pool) // stands in for the writer, of which nobody knows what it groups
	if err != nil {
		t.Fatal(err)
	}
	defer tx.close()
	group := func(fns ...func(*Tx) error) (out []*write) {
		for _, fn := range fns {
			out = append(out, &write{ctx: t.Context(), fn: func(tx *Tx) error { pending++; return fn(tx) }})
		}
		return out
	}
	refused := errors.New("refused")
	good := group(insert("a"), insert("b"))
	mixed := group(insert("c"), func(*Tx) error { return refused }, insert("d"))
	bad := group(func(tx *Tx) error { return errors.Join(insert("e")(tx), refused) })
	for _, g := range [][]*write{good, mixed, bad} {
		if err := db.commitGroup(tx, g); err != nil {
			t.Fatal(err)
		}
	}
	if !errors.Is(mixed[1].err, refused) || !errors.Is(bad[0].err, refused) || mixed[0].err != nil || mixed[2].err != nil {
		t.Errorf("%v %v %v %v", mixed[0].err, mixed[1].err, mixed[2].err, bad[0].err)
	}
	if want := []bool{true, false, true, false}; !slices.Equal(settled, want) {
		t.Errorf("settled %v, want %v", settled, want)
	}
	if n := count(t, db); n != 6 { // a, b, c, d and two of the hook
		t.Errorf("%d rows, want 6", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			db := open(b, filepath.Join(b.TempDir(), "x.db"))
			next := make(chan int)
			go func() {
				for i := range b.N {
					next <- i
				}
				close(next)
			}()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := range next {
						if err := db.Write(b.Context(), insert(strconv.Itoa(i))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}
