package sqlstore

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// tally is a mailbox's counters.
type tally struct {
	Messages, Unseen, Deleted, Bytes int64
}

// checkCounters holds the counters of every mailbox against its messages.
func checkCounters(t *testing.T, s *Store) {
	t.Helper()
	read := func(query string) map[int64]tally {
		got := map[int64]tally{}
		if err := s.db.Read(t.Context(), func(tx *sqlite.Tx) error {
			return tx.Query(query, nil, func(scan func(...any) error) error {
				var id int64
				var c tally
				err := scan(&id, &c.Messages, &c.Unseen, &c.Deleted, &c.Bytes)
				got[id] = c
				return err
			})
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := read(`SELECT id, count(uid), coalesce(sum(flags & 1 = 0), 0), coalesce(sum(flags & 8 <> 0), 0), coalesce(sum(size), 0)
		FROM mailbox LEFT JOIN message ON mailbox=id GROUP BY id`)
	if diff := cmp.Diff(want, read("SELECT id, messages, unseen, deleted, bytes FROM mailbox")); diff != "" {
		t.Error("counters (-messages +counted):\n" + diff)
	}
}

// exercise takes an account through everything that moves its counters.
func exercise(t *testing.T, s *Store) {
	t.Helper()
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		f := store.Flags{System: []store.SystemFlags{0, store.Seen, store.Deleted}[i%3]}
		if _, err := m.Append(t.Context(), storetest.Message("m@x", strings.Repeat("s", i)), f, time.Time{}, store.NoQuota()); err != nil {
			t.Fatal(err)
		}
	}
	_, err1 := m.StoreFlags(t.Context(), store.UIDsOf(1, 2, 3), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen | store.Flagged}}, 0)
	_, err2 := m.Copy(t.Context(), store.UIDsOf(1, 2, 3, 4), "Archive", store.NoQuota())
	_, err3 := m.Move(t.Context(), store.UIDsOf(5, 6), "Trash")
	_, err4 := m.Expunge(t.Context(), store.AllUIDs())
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
}

func TestCountersAgreeWithMessages(t *testing.T) {
	s := openStore(t, t.TempDir())
	exercise(t, s)
	checkCounters(t, s)
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Delete(t.Context(), "Trash"), a.Rename(t.Context(), "INBOX", "Old/INBOX")); err != nil {
		t.Fatal(err)
	}
	checkCounters(t, s)
}

// TestMigrationCountsWhatWasThere opens a database of the first schema.
func TestMigrationCountsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "store.db"), sqlite.Options{Migrations: schema()[:1]})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Write(t.Context(), func(tx *sqlite.Tx) error {
		for _, q := range []string{"INSERT INTO account VALUES (1, 'a@x')",
			"INSERT INTO mailbox (id, account, name, uidvalidity, uidnext) VALUES (1, 1, 'INBOX', 1, 3), (2, 1, 'Archive', 2, 1), (3, 1, 'Trash', 3, 1)",
			"INSERT INTO body VALUES (1, x'00', 5, '', '', '', '', '', '', 'hello')",
			"INSERT INTO message VALUES (1, 1, 1, 0, '', '', 0, 5, 1, '', 0), (1, 2, 1, 9, '', '', 0, 7, 1, '', 0)"} {
			if _, _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir)
	checkCounters(t, s)
	exercise(t, s)
	checkCounters(t, s)
}

// TestRefusedDeliveryLeavesNoFile: what nobody took lies in no file, and what
// somebody has stays when it comes again.
func TestRefusedDeliveryLeavesNoFile(t *testing.T) {
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), InlineLimit: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files := func() (n int) {
		for _, err := range s.bodies.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	body, trace := storetest.Message("big@x", "large"), mail.NewTraceID()
	full := store.Target{Account: "full@x", Quota: store.Quota{Bytes: 1, Messages: -1}}
	if err := s.Deliver(t.Context(), trace, body, []store.Target{full})[0]; !errors.Is(err, store.ErrOverQuota) || files() != 0 {
		t.Fatalf("%v, %d files", err, files())
	}
	for range 2 {
		errs := s.Deliver(t.Context(), trace, body, []store.Target{full, {Account: "a@x", Quota: store.NoQuota()}})
		if !errors.Is(errs[0], store.ErrOverQuota) || errs[1] != nil || files() != 1 {
			t.Fatalf("%v, %d files", errs, files())
		}
	}
}

// TestRenameInboxIsOne: a rename that cannot be done changes nothing.
func TestRenameInboxIsOne(t *testing.T) {
	s := openStore(t, t.TempDir())
	exercise(t, s)
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	before, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Rename(t.Context(), "INBOX", "Sent"); !errors.Is(err, store.ErrMailboxExists) {
		t.Errorf("rename to a mailbox that exists: %v", err)
	}
	after, err := m.Status(t.Context())
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
