package blob

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"mailsrv/pkg/mail"
)

var (
	_ mail.Body = (*Spool)(nil)
	_ io.Writer = (*Spool)(nil)
)

func read(t *testing.T, b mail.Body) []byte {
	t.Helper()
	r, err := b.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSpoolGivesBackWhatItTook(t *testing.T) {
	for name, memory := range map[string]int{"memory": 1 << 20, "file": 10, "no memory": 0} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := NewSpool(dir, memory)
			var want []byte
			for i := range 100 {
				part := bytes.Repeat([]byte{byte(i)}, i)
				want = append(want, part...)
				if _, err := s.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if got := read(t, s); !bytes.Equal(got, want) || s.Size() != int64(len(want)) {
					t.Fatalf("%d bytes of %d came back", len(got), len(want))
				}
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("the spool shows in its folder: %v", left)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFolderPutsOnceAndForgets(t *testing.T) {
	f, err := OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	body := mail.Bytes(bytes.Repeat([]byte("mail\r\n"), 1000))
	a, err := f.Put(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Put(t.Context(), body)
	if err != nil || a != b {
		t.Fatalf("second put: %v %v", b, err)
	}
	file, err := f.Open(a)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(file)
	file.Close()
	if !bytes.Equal(got, body) {
		t.Error("other bytes came back")
	}
	n := 0
	for d, err := range f.All() {
		if err != nil || d != a {
			t.Errorf("%v %v", d, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d bodies, want 1", n)
	}
	if err := errors.Join(f.Remove(a), f.Remove(a)); err != nil {
		t.Error(err)
	}
	if _, err := f.Open(a); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed body: %v", err)
	}
}

type short struct{ mail.Bytes }

func (s short) Size() int64 { return s.Bytes.Size() + 1 }

func TestFolderLeavesNothingAfterAnError(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Put(t.Context(), short{mail.Bytes("x")}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short body: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
