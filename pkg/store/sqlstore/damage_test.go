package sqlstore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// TestDamageIsFoundAndNamed overwrites each page of the database in turn:
// either the store does not open and says what to run, or verify finds it, and
// nothing panics on the way.
func TestDamageIsFoundAndNamed(t *testing.T) {
	now := time.Now()
	sound := t.TempDir()
	s, m := clocked(t, sound, &now)
	for range 20 {
		put(t, m, storetest.Message("1@x", strings.Repeat("subject ", 20)))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(sound, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := 0; at < len(whole); at += page {
		dir := t.TempDir()
		harmed := bytes.Clone(whole)
		copy(harmed[at:], bytes.Repeat([]byte{0xa5}, page))
		if bytes.Equal(harmed[at:at+page], whole[at:at+page]) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "store.db"), harmed, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Options{Dir: dir, Keep: time.Hour})
		if err != nil {
			if !strings.Contains(err.Error(), "mailsrv re") {
				t.Errorf("page %d: %v", at/page, err)
			}
			continue
		}
		faults := 0
		_, err = s.Verify(t.Context(), func(store.Fault) { faults++ })
		if faults == 0 && (err == nil || !strings.Contains(err.Error(), "mailsrv re")) {
			t.Errorf("page %d: not found: %v", at/page, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("page %d: %v", at/page, err)
		}
	}
}

// TestDamagedFile: a body whose file is gone or cut is refused by name, and
// other messages are not.
func TestDamagedFile(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	_, m := clocked(t, dir, &now)
	put(t, m, large("1@x"), storetest.Message("2@x", "two"))
	found, err := filepath.Glob(filepath.Join(dir, "bodies", "??", "*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	for _, harm := range []struct {
		name string
		do   func() error
	}{{"cut", func() error { return os.Truncate(found[0], 10) }}, {"gone", func() error { return os.Remove(found[0]) }}} {
		if err := harm.do(); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Body(t.Context(), 1); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "mailsrv verify") {
			t.Errorf("%s: %v", harm.name, err)
		}
		b, err := m.Body(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size())); err != nil || string(all) != string(storetest.Message("2@x", "two")) {
			t.Errorf("%s harmed another message: %v", harm.name, err)
		}
		b.Close()
	}
}
