package sqlstore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// someList is a list with all that a listing has to keep.
func someList() *list {
	l := &list{seq: 9}
	flags := []store.Flags{{}, {System: store.Seen}, {System: store.Seen, Keywords: []string{"a", "b"}}, {Keywords: []string{"$Junk"}}}
	for i := range 50 {
		l.add(store.ModSeq(9-i%5), added{uid: store.UID(3*i + 1), flags: flags[i%len(flags)],
			item: item{size: int64(i) << (i % 40), internal: int64(1e9 - i*i), saved: int64(i), zone: int16(60 * (i%25 - 12))}})
	}
	return l
}

func TestListingKeepsAll(t *testing.T) {
	l := someList()
	r := row{messages: int64(len(l.uids)), uidNext: 1000, modSeq: 9}
	b := l.encode(nil)
	got, err := decodeList(b, r)
	if err != nil || !got.equal(l) || got.seq != 9 {
		t.Fatalf("%+v %v", got, err)
	}
	got.add(10, added{uid: 999, flags: store.Flags{Keywords: []string{"$Junk"}}})
	if n := len(got.sets.sets); n != len(l.sets.sets) {
		t.Errorf("%d combinations of flags, want %d", n, len(l.sets.sets))
	}
	for _, wrong := range []row{{messages: 49, uidNext: 1000, modSeq: 9}, {messages: 50, uidNext: 100, modSeq: 9}, {messages: 50, uidNext: 1000, modSeq: 8}} {
		if _, err := decodeList(b, wrong); err == nil {
			t.Errorf("taken for a mailbox of %+v", wrong)
		}
	}
	for i := range b {
		harmed := slices.Clone(b)
		harmed[i] ^= 0x10
		if _, err := decodeList(harmed, r); err == nil {
			t.Errorf("octet %d was harmed, and not found", i)
		}
		if _, err := decodeList(b[:i], r); err == nil {
			t.Errorf("%d octets were taken for all", i)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add(someList().encode(nil), uint16(50))
	f.Add([]byte{listVersion, 0, 0}, uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		r := row{messages: int64(n), uidNext: 1 << 31, modSeq: 1 << 40}
		if l, err := decodeList(b, r); err == nil {
			if again, err := decodeList(l.encode(nil), r); err != nil || !again.equal(l) {
				t.Errorf("%+v became %+v, %v", l, again, err)
			}
		}
	})
}

// TestListingIsOfTheStateItSays: one that was written is used after a start, and
// none that is older than the mailbox; with rows changed behind its back verify
// says so.
func TestListingIsOfTheStateItSays(t *testing.T) {
	dir := t.TempDir()
	open := func() (*Store, *mailbox) {
		s, err := Open(t.Context(), Options{Dir: dir, Keep: time.Hour, listFrom: 3})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
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
	state := func(s *Store, m *mailbox) (listed, now store.ModSeq) {
		t.Helper()
		if err := s.view(t.Context(), m.id, func(r row, _ *list) { now = r.modSeq }); err != nil {
			t.Fatal(err)
		}
		b := s.boxes.get(m.id)
		b.mu.RLock()
		defer b.mu.RUnlock()
		return b.listed, now
	}
	s, m := open()
	put(t, m, storetest.Message("1@x", "one"), storetest.Message("2@x", "two"))
	state(s, m)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, m = open()
	if listed, _ := state(s, m); listed != 0 {
		t.Error("a small mailbox was listed")
	}
	put(t, m, storetest.Message("3@x", "three"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, m = open()
	if listed, now := state(s, m); listed != now {
		t.Errorf("listed at %d, now %d", listed, now)
	}
	if lines, _ := verify(t, s.Verify); len(lines) > 0 {
		t.Errorf("verify: %q", lines)
	}
	// A crash leaves the listing that was written before.
	put(t, m, storetest.Message("4@x", "four"))
	s.boxes.drop(s.boxes.get(m.id))
	if listed, now := state(s, m); listed == now {
		t.Error("a listing from before the last message was used")
	}
	// One that was left alone is listed by the second look.
	for i := range 2 {
		if err := s.saveListings(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if listed, now := state(s, m); (listed == now) != (i == 1) {
			t.Errorf("look %d: listed at %d, now %d", i, listed, now)
		}
	}
	s.boxes.drop(s.boxes.get(m.id))
	if err := s.db.Write(t.Context(), func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec("UPDATE message SET flags=2 WHERE mailbox=? AND uid=2", m.id)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	state(s, m)
	if lines, _ := verify(t, s.Verify); !slices.ContainsFunc(lines, func(l string) bool { return l == "a@x: INBOX: what memory has of the mailbox is not what its rows say" }) {
		t.Errorf("verify: %q", lines)
	}
	_, _ = verify(t, s.Reconstruct)
	if lines, _ := verify(t, s.Verify); len(lines) > 0 {
		t.Errorf("verify, once mended: %q", lines)
	}
	a := &account{s: s, id: m.account}
	if err := errors.Join(a.Create(t.Context(), "X", ""), a.Rename(t.Context(), "INBOX", "Y"), a.Delete(t.Context(), "Y")); err != nil {
		t.Fatal(err)
	}
	if n := number(t, s, "SELECT count(*) FROM listing WHERE mailbox NOT IN (SELECT id FROM mailbox)"); n != 0 {
		t.Errorf("%d listings of mailboxes that are gone", n)
	}
}
