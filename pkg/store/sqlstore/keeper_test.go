package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// verify returns what is wrong, a line each.
func verify(t *testing.T, inspect func(context.Context, func(store.Fault)) (store.Tally, error)) (lines []string, tally store.Tally) {
	t.Helper()
	tally, err := inspect(t.Context(), func(f store.Fault) { lines = append(lines, f.String()) })
	if err != nil {
		t.Fatal(err)
	}
	return lines, tally
}

func put(t *testing.T, m store.Mailbox, bodies ...mail.Bytes) {
	t.Helper()
	for _, b := range bodies {
		if _, err := m.Append(t.Context(), b, store.Flags{System: store.Flagged, Keywords: []string{"k"}}, time.Unix(1e9, 0), store.NoQuota()); err != nil {
			t.Fatal(err)
		}
	}
}

func large(id string) mail.Bytes {
	return append(storetest.Message(id, "large"), make([]byte, 1000)...)
}

// TestVerifyFindsWhatWasHarmed harms one thing after the other, and has each
// found and mended, or named.
func TestVerifyFindsWhatWasHarmed(t *testing.T) {
	const mendable = "(mended)"
	tests := []struct{ name, harm, want, after string }{
		{"counter", "UPDATE mailbox SET messages=7 WHERE name='INBOX'", "a@x: INBOX: counters are 7 messages", mendable},
		{"bytes", "UPDATE mailbox SET bytes=bytes+1 WHERE name='INBOX'", "a@x: INBOX: counters", mendable},
		{"uidnext", "UPDATE mailbox SET uidnext=2 WHERE name='INBOX'", "UIDNEXT is 2 and the last UID 3", mendable},
		{"modseq", "UPDATE message SET modseq=99 WHERE uid=1", "HIGHESTMODSEQ", mendable},
		{"resurrected", "INSERT INTO expunged SELECT mailbox, 1, uid FROM message WHERE uid=1", "1 UIDs were expunged", mendable},
		{"envelope", "UPDATE outline SET envelope='()' WHERE body=1", "outline of body 1", mendable},
		{"outline", "DELETE FROM outline WHERE body=2", "outline of body 2", mendable},
		{"size", "UPDATE message SET size=1 WHERE uid=1", "message 1: size is 1", mendable},
		{"orphan", "INSERT INTO body (size, messageid, digest, header, text) VALUES (0, '', x'00', '', '')", "belongs to no message", mendable},
		{"text", "UPDATE body SET text='x' WHERE id=1", "a@x: INBOX: message 1: body has", ""},
		{"same size", "UPDATE body SET text=replace(text, 'Hello', 'Jello') WHERE id=1", "message 1: body does not have its hash", ""},
		{"body", "DELETE FROM body WHERE id=1", "message 1: body is missing", mendable},
		{"file", "", "message 3: file of the body is missing", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			dir := t.TempDir()
			s, m := clocked(t, dir, &now)
			put(t, m, storetest.Message("1@x", "Hello one"), storetest.Message("2@x", "two"), large("3@x"))
			if lines, tally := verify(t, s.Verify); len(lines) > 0 || tally.Messages != 3 || tally.Files != 1 {
				t.Fatal(lines, tally)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			harm(t, dir, tt.harm)
			s, _ = clocked(t, dir, &now)
			lines, tally := verify(t, s.Verify)
			if !strings.Contains(strings.Join(lines, "\n"), tt.want) || tally.Left == 0 {
				t.Errorf("verify: %q; want %q", lines, tt.want)
			}
			lines, _ = verify(t, s.Reconstruct)
			if tt.after == "" == slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, mendable) }) {
				t.Errorf("reconstruct: %q", lines)
			}
			if lines, tally = verify(t, s.Verify); (tt.after == mendable) != (len(lines) == 0) {
				t.Errorf("afterwards: %q, %+v", lines, tally)
			}
		})
	}
}

// harm runs SQL on a closed store's database; none removes the bodies' files.
func harm(t *testing.T, dir, query string) {
	t.Helper()
	if query == "" {
		found, err := filepath.Glob(filepath.Join(dir, "bodies", "??", "*"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		if err := os.Remove(found[0]); err != nil {
			t.Fatal(err)
		}
		return
	}
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "store.db"), sqlite.Options{Migrations: schema()})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Write(t.Context(), func(tx *sqlite.Tx) error { _, _, err := tx.Exec(query); return err }), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestUndelete(t *testing.T) {
	now := time.Now()
	s, m := clocked(t, t.TempDir(), &now)
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	put(t, m, storetest.Message("1@x", "one"), large("2@x"), storetest.Message("3@x", "three"))
	if _, err := m.Remove(t.Context(), store.UIDsOf(1, 2)); err != nil {
		t.Fatal(err)
	}
	if u, err := a.Usage(t.Context()); err != nil || u.Messages != 1 {
		t.Errorf("removed messages count: %+v %v", u, err)
	}
	if lines, _ := verify(t, s.Verify); len(lines) > 0 {
		t.Errorf("with removed messages: %q", lines)
	}
	now = now.Add(time.Hour)
	if _, err := m.Remove(t.Context(), store.UIDsOf(3)); err != nil {
		t.Fatal(err)
	}
	var listed []string
	if err := s.Removed(t.Context(), store.Selection{Account: "a@x", Until: now.Add(-time.Minute)}, func(r store.RemovedMessage) {
		listed = append(listed, fmt.Sprint(r.Mailbox, r.UID, r.MessageID))
	}); err != nil || !slices.Equal(listed, []string{"INBOX1<1@x>", "INBOX2<2@x>"}) {
		t.Errorf("%q %v", listed, err)
	}
	for _, step := range []struct {
		q    store.Selection
		want int
	}{{store.Selection{Account: "b@x"}, 0}, {store.Selection{Account: "a@x", Mailbox: "Sent"}, 0}, {store.Selection{MessageID: "<2@x>"}, 1},
		{store.Selection{Account: "a@x", Since: now}, 1}, {store.Selection{Account: "a@x", Mailbox: "inbox"}, 1}, {store.Selection{}, 0}} {
		if n, err := s.Undelete(t.Context(), step.q); err != nil || n != step.want {
			t.Errorf("%+v: %d %v, want %d", step.q, n, err, step.want)
		}
	}
	var got []string
	for msg, err := range m.Messages(t.Context(), store.AllUIDs(), store.FieldMeta|store.FieldText) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(msg.UID, msg.Flags.Names(), msg.InternalDate.Unix(), msg.Size))
	}
	want := []string{fmt.Sprint(4, ` [\Flagged k] 1000000000 `, len(large("2@x"))), fmt.Sprint(5, ` [\Flagged k] 1000000000 `, len(storetest.Message("3@x", "three"))),
		fmt.Sprint(6, ` [\Flagged k] 1000000000 `, len(storetest.Message("1@x", "one")))}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// A mailbox that is gone comes back with its messages.
	if _, err := m.Copy(t.Context(), store.AllUIDs(), "INBOX", store.NoQuota()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Create(t.Context(), "Work/Old", ""), func() error { _, err := m.Move(t.Context(), store.UIDsOf(4), "Work/Old"); return err }(),
		a.Delete(t.Context(), "Work/Old")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Undelete(t.Context(), store.Selection{Account: "a@x"}); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	if old, err := a.Open(t.Context(), "Work/Old"); err != nil {
		t.Error(err)
	} else if st, err := old.Status(t.Context()); err != nil || st.Messages != 1 {
		t.Errorf("%+v %v", st, err)
	}
	if lines, _ := verify(t, s.Verify); len(lines) > 0 {
		t.Error(lines)
	}
}

func TestBackupAndRestore(t *testing.T) {
	now := time.Now()
	s, m := clocked(t, t.TempDir(), &now)
	backup := filepath.Join(t.TempDir(), "backup")
	put(t, m, storetest.Message("1@x", "one"), large("2@x"))
	if tally, err := s.Backup(t.Context(), backup); err != nil || tally.Messages != 2 || tally.Files != 1 {
		t.Fatal(tally, err)
	}
	before, err := filepath.Glob(filepath.Join(backup, "bodies", "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.Stat(before[0])
	if err != nil {
		t.Fatal(err)
	}
	put(t, m, large("3@x"), storetest.Message("4@x", "four"))
	if tally, err := s.Backup(t.Context(), backup); err != nil || tally.Messages != 4 || tally.Files != 2 {
		t.Fatal(tally, err)
	}
	if again, err := os.Stat(before[0]); err != nil || again.ModTime() != written.ModTime() {
		t.Error("a body that was there was written again", err)
	}
	if _, err := m.Remove(t.Context(), store.AllUIDs()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Purge(t.Context(), now.Add(time.Hour)); err != nil || files(t, s) != 0 {
		t.Fatal("not purged", err)
	}
	for _, step := range []struct {
		q    store.Selection
		want int
	}{{store.Selection{Account: "b@x"}, 0}, {store.Selection{MessageID: "<3@x>"}, 1}, {store.Selection{Account: "a@x", Mailbox: "INBOX"}, 3}, {store.Selection{}, 0}} {
		if n, err := s.Restore(t.Context(), backup, step.q); err != nil || n != step.want {
			t.Errorf("%+v: %d %v, want %d", step.q, n, err, step.want)
		}
	}
	if lines, tally := verify(t, s.Verify); len(lines) > 0 || tally.Messages != 4 || tally.Files != 2 {
		t.Error(lines, tally)
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if err := RestoreWhole(t.Context(), backup, whole); err != nil {
		t.Fatal(err)
	}
	other, m2 := clocked(t, whole, &now)
	if lines, tally := verify(t, other.Verify); len(lines) > 0 || tally.Messages != 4 {
		t.Error(lines, tally)
	}
	if st, err := m2.Status(t.Context()); err != nil || st.UIDNext != 5 {
		t.Errorf("%+v %v", st, err)
	}
	if err := RestoreWhole(t.Context(), backup, whole); err == nil {
		t.Error("a store was overwritten")
	}
}
