package sqlstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// clocked opens a store with small bounds, whose clock stands until it is set.
func clocked(t *testing.T, dir string, now *time.Time) (*Store, *mailbox) {
	t.Helper()
	return clockedPacks(t, dir, 0, now)
}

// clockedPacks is clocked with packs for bodies up to a limit.
func clockedPacks(t *testing.T, dir string, limit int64, now *time.Time) (*Store, *mailbox) {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir, InlineLimit: 300, PackLimit: limit, Keep: 24 * time.Hour, ExpungeLog: 2, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.stop() // the test tidies by itself
	s.tidied.Wait()
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	return s, m.(*mailbox)
}

func number(t *testing.T, s *Store, query string) (n int) {
	t.Helper()
	if err := s.db.Read(t.Context(), func(tx *sqlite.Tx) error {
		_, err := tx.Get(query, nil, &n)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func files(t *testing.T, s *Store) (n int) {
	t.Helper()
	for _, err := range s.bodies.All() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestPurgeFreesWhatWasRemovedLongAgo(t *testing.T) {
	now := time.Now()
	s, m := clocked(t, t.TempDir(), &now)
	large := append(storetest.Message("large@x", "large"), make([]byte, 1000)...)
	for _, body := range []mail.Bytes{storetest.Message("small@x", "small"), large, large} {
		if _, err := m.Append(t.Context(), body, store.Flags{}, time.Time{}, store.NoQuota()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Remove(t.Context(), store.UIDsOf(1, 2)); err != nil {
		t.Fatal(err)
	}
	purge := func(until time.Time, bodies, outlines, left int) {
		t.Helper()
		if _, err := s.purge(t.Context(), until); err != nil {
			t.Fatal(err)
		}
		if b, o, f := number(t, s, "SELECT count(*) FROM body"), number(t, s, "SELECT count(*) FROM outline"), files(t, s); b != bodies || o != outlines || f != left {
			t.Errorf("%d bodies, %d outlines, %d files; want %d, %d, %d", b, o, f, bodies, outlines, left)
		}
	}
	purge(now, 2, 2, 1)                    // too young
	purge(now.Add(2*time.Second), 1, 1, 1) // the large one is still named
	if _, err := m.Remove(t.Context(), store.UIDsOf(3)); err != nil {
		t.Fatal(err)
	}
	purge(now.Add(2*time.Second), 0, 0, 0)
}

// TestSweepRemovesOrphans: files of bodies that were never committed go, and
// those of messages stay.
func TestSweepRemovesOrphans(t *testing.T) {
	now := time.Now()
	s, m := clocked(t, t.TempDir(), &now)
	if _, err := m.Append(t.Context(), append(storetest.Message("large@x", "large"), make([]byte, 1000)...), store.Flags{}, time.Time{}, store.NoQuota()); err != nil {
		t.Fatal(err)
	}
	orphan, err := s.bodies.Put(t.Context(), mail.Bytes("nobody's"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := files(t, s); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
	if err := s.bodies.Remove(orphan); err != nil {
		t.Error(err)
	}
	b, err := m.Body(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
}

func TestTracesAreForgotten(t *testing.T) {
	now := time.Now()
	s, _ := clocked(t, t.TempDir(), &now)
	if err := errors.Join(s.Deliver(t.Context(), mail.NewTraceID(), storetest.Message("1@x", "x"), []store.Target{{Account: "a@x", Quota: store.NoQuota()}})...); err != nil {
		t.Fatal(err)
	}
	if err := s.forgetTraces(t.Context(), now); err != nil || number(t, s, "SELECT count(*) FROM delivered") != 1 {
		t.Fatal("forgotten too early", err)
	}
	if err := s.forgetTraces(t.Context(), now.Add(2*time.Second)); err != nil || number(t, s, "SELECT count(*) FROM delivered") != 0 {
		t.Fatal("not forgotten", err)
	}
}

// TestExpungeLogIsBounded: of a long log the newest stay, and a reader from
// before hears that it does not know all.
func TestExpungeLogIsBounded(t *testing.T) {
	now := time.Now()
	s, m := clocked(t, t.TempDir(), &now)
	expunge := func(n int) {
		t.Helper()
		for range n {
			uid, err := m.Append(t.Context(), storetest.Message("1@x", "x"), store.Flags{}, time.Time{}, store.NoQuota())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Remove(t.Context(), store.UIDsOf(uid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	prune := func(logged int, forgotten bool) {
		t.Helper()
		now = now.Add(graceOfExpunged)
		if err := s.pruneExpunged(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, err := m.Changes(t.Context(), 1)
		if err != nil || len(c.Expunged) != logged || (c.Forgotten > 1) != forgotten || !slices.IsSorted(c.Expunged) {
			t.Errorf("%+v %v; want %d, forgotten %v", c, err, logged, forgotten)
		}
	}
	s.pruned = pruned{}
	expunge(5)
	prune(5, false) // seen for the first time
	expunge(1)
	prune(2, true)
	expunge(3)
	prune(3, true) // which are young
}

// TestCrossingIsToldOnce: and again only after the account came below.
func TestCrossingIsToldOnce(t *testing.T) {
	told := make(chan store.QuotaWarning, 10)
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), WarnAt: []int{50, 90}, Warn: func(_ context.Context, w store.QuotaWarning) { told <- w }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	q := store.Quota{Bytes: -1, Messages: 10}
	fill := func(to int64, want ...int) {
		t.Helper()
		for u, err := a.Usage(t.Context()); u.Messages < to; u, err = a.Usage(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Append(t.Context(), storetest.Message("1@x", "x"), store.Flags{}, time.Time{}, q); err != nil {
				t.Fatal(err)
			}
		}
		for _, percent := range want {
			if w := <-told; w.Percent != percent || w.Account != "a@x" || w.Quota != q || w.Usage.Messages == 0 {
				t.Errorf("%+v, want %d", w, percent)
			}
		}
		if len(told) > 0 {
			t.Errorf("told once more: %+v", <-told)
		}
	}
	fill(4)
	fill(8, 50)
	fill(10, 90)
	if _, err := m.Append(t.Context(), storetest.Message("1@x", "x"), store.Flags{}, time.Time{}, q); !errors.Is(err, store.ErrOverQuota) {
		t.Error(err)
	}
	if _, err := m.Remove(t.Context(), store.NewUIDSet([]store.UIDRange{{First: 1, Last: 4}})); err != nil {
		t.Fatal(err)
	}
	fill(9, 90)
}
