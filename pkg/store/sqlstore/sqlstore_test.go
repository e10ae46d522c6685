package sqlstore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Dir: dir, Mailboxes: DefaultMailboxes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openStore(t, t.TempDir()) })
}

// TestKilledStoreKeepsItsWord kills a child that delivers and expunges, and
// holds what it acknowledged against the store.
func TestKilledStoreKeepsItsWord(t *testing.T) {
	if dir := os.Getenv("SQLSTORE_TEST_CHILD"); dir != "" {
		s := openStore(t, dir)
		a, err := s.Account(context.Background(), "a@x")
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(context.Background(), "INBOX")
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; ; i++ {
			id := fmt.Sprintf("%d.%d@x", os.Getpid(), i)
			uid, err := m.Append(context.Background(), storetest.Message(id, "crash"), store.Flags{System: store.Deleted}, time.Time{}, store.NoQuota())
			if err != nil {
				continue
			}
			fmt.Println("kept", id)
			if i%3 == 0 {
				if _, err := m.Expunge(context.Background(), store.UIDsOf(uid)); err == nil {
					fmt.Println("gone", id)
				}
			}
		}
	}
	dir := t.TempDir()
	kept := map[string]bool{}
	for cycle := range 5 {
		child := exec.Command(os.Args[0], "-test.run=TestKilledStoreKeepsItsWord$")
		child.Env = append(os.Environ(), "SQLSTORE_TEST_CHILD="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if id, ok := strings.CutPrefix(lines.Text(), "kept "); ok {
				kept[id] = true
			} else if id, ok := strings.CutPrefix(lines.Text(), "gone "); ok {
				kept[id] = false
			}
			if n == 10+7*cycle {
				child.Process.Kill()
			}
		}
		child.Wait()
	}
	s := openStore(t, dir)
	a, err := s.Account(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for msg, err := range m.Messages(t.Context(), store.AllUIDs(), store.FieldHeader) {
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(string(msg.Header), "Message-ID: <")
		id, _, _ = strings.Cut(id, ">")
		found[id]++
	}
	for id, want := range kept {
		switch n := found[id]; {
		case want && n == 0:
			// Every third is expunged at once: the kill may come between that
			// and its acknowledgement. The others must be there.
			if n, _ := strconv.Atoi(id[strings.IndexByte(id, '.')+1 : strings.IndexByte(id, '@')]); n%3 != 0 {
				t.Errorf("acknowledged %s was lost", id)
			}
		case !want && n > 0:
			t.Errorf("expunged %s came back", id)
		case n > 1:
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if len(kept) < 30 {
		t.Errorf("only %d acknowledged", len(kept))
	}
}
