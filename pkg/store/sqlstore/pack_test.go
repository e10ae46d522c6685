package sqlstore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// packLimit lets large() into a pack, and sends twice that to a file.
const packLimit = 1500

func wholeBody(t *testing.T, m *mailbox, uid store.UID) []byte {
	t.Helper()
	b, err := m.Body(t.Context(), uid)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// places lists where in packs the database has bodies.
func places(t *testing.T, s *Store) (list []blob.Place) {
	t.Helper()
	if err := s.db.Read(t.Context(), func(tx *sqlite.Tx) error {
		return tx.Query("SELECT pack, place FROM body WHERE pack IS NOT NULL ORDER BY pack, place", nil, func(scan func(...any) error) error {
			var p blob.Place
			err := scan(&p.Pack, &p.Offset)
			list = append(list, p)
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// zeros reports whether a place was freed. A file system without holes keeps
// its bytes: then nothing is to be seen.
func zeros(t *testing.T, s *Store, at blob.Place) bool {
	t.Helper()
	b, err := s.packs.Open(at, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	all, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(all, make([]byte, 1000))
}

// TestPackedBodies: come back, are kept once, and go when they are purged, with
// no harm to others or to who reads them; and what was never committed goes at
// the next start.
func TestPackedBodies(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	s, m := clockedPacks(t, dir, packLimit, &now)
	file := append(large("file@x"), make([]byte, 1000)...)
	put(t, m, large("1@x"), large("2@x"), large("1@x"), file, storetest.Message("small@x", "small"))
	if err := errors.Join(s.Deliver(t.Context(), mail.NewTraceID(), large("2@x"), []store.Target{{Account: "a@x", Quota: store.NoQuota()}})...); err != nil {
		t.Fatal(err)
	}
	if got := places(t, s); len(got) != 2 || files(t, s) != 1 {
		t.Fatalf("places %v, %d files", got, files(t, s))
	}
	for uid, want := range map[store.UID]mail.Bytes{1: large("1@x"), 2: large("2@x"), 3: large("1@x"), 4: file, 6: append([]byte("Return-Path: <>\r\n"), large("2@x")...)} {
		if !bytes.Equal(wholeBody(t, m, uid), want) {
			t.Errorf("message %d has other bytes", uid)
		}
	}
	if lines, tally := verify(t, s.Verify); len(lines) > 0 || tally.Files != 3 {
		t.Errorf("verify: %q, %d outside the database", lines, tally.Files)
	}
	at := places(t, s)
	held, err := m.Body(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Remove(t.Context(), store.UIDsOf(1, 3, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.purge(t.Context(), now.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(io.NewSectionReader(held, 0, held.Size())); err != nil || !bytes.Equal(all, large("1@x")) {
		t.Errorf("a body changed under its reader: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if got := places(t, s); !slices.Equal(got, at[1:]) || files(t, s) != 0 {
		t.Errorf("places %v, %d files; want %v and none", got, files(t, s), at[1:])
	}
	orphan, err := s.packs.Append(large("orphan@x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, m = clockedPacks(t, dir, packLimit, &now)
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	punched, kept := zeros(t, s, at[0]), zeros(t, s, orphan)
	if punched != kept {
		t.Errorf("freed %v, swept %v", punched, kept)
	}
	if !bytes.Equal(wholeBody(t, m, 2), large("2@x")) {
		t.Error("a neighbour of what was freed has other bytes")
	}
	if lines, _ := verify(t, s.Verify); len(lines) > 0 {
		t.Errorf("verify: %q", lines)
	}
}

// TestDamagedPack: what is not there any more is refused by name and found.
func TestDamagedPack(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	s, m := clockedPacks(t, dir, packLimit, &now)
	put(t, m, large("1@x"), large("2@x"))
	pack := filepath.Join(dir, "packs", "00000001.pack")
	f, err := os.OpenFile(pack, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 1050); err != nil { // within the first
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(5000), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Body(t.Context(), 2); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "mailsrv verify") {
		t.Errorf("a body that was cut off: %v", err)
	}
	lines, _ := verify(t, s.Verify)
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "message 1: body does not have its hash") || !strings.Contains(text, "message 2: file of the body is missing") {
		t.Errorf("verify: %q", lines)
	}
}

// TestBackupOfPacks: a backup has each body in a file of its own, also those
// that are removed while it runs, and a store restored from it is whole.
func TestBackupOfPacks(t *testing.T) {
	now := time.Now()
	s, m := clockedPacks(t, t.TempDir(), packLimit, &now)
	put(t, m, large("1@x"), large("2@x"), storetest.Message("small@x", "small"))
	at := places(t, s)
	backup, restored := t.TempDir(), filepath.Join(t.TempDir(), "store")
	for range 2 {
		if tally, err := s.Backup(t.Context(), backup); err != nil || tally.Files != 2 {
			t.Fatal(tally, err)
		}
	}
	s.naming.Lock()
	s.backups++ // as if one began here
	s.naming.Unlock()
	if _, err := m.Remove(t.Context(), store.UIDsOf(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.purge(t.Context(), now.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if zeros(t, s, at[0]) {
		t.Error("a body went while a backup ran")
	}
	if err := RestoreWhole(t.Context(), backup, restored); err != nil {
		t.Fatal(err)
	}
	r, box := clockedPacks(t, restored, packLimit, &now)
	if lines, tally := verify(t, r.Verify); len(lines) > 0 || tally.Messages != 3 || len(places(t, r)) != 0 {
		t.Errorf("verify: %q %+v", lines, tally)
	}
	if !bytes.Equal(wholeBody(t, box, 1), large("1@x")) {
		t.Error("a restored message has other bytes")
	}
	put(t, box, large("1@x"), large("3@x")) // one is there in its file, the other goes to a pack
	if got := places(t, r); len(got) != 1 || files(t, r) != 2 {
		t.Errorf("places %v, %d files", got, files(t, r))
	}
}
