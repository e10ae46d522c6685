package sqldir

import (
	"fmt"
	"path/filepath"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/mail"
)

func openDir(t testing.TB) *Dir {
	t.Helper()
	d, err := Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestTree(t *testing.T) {
	directorytest.RunTree(t, func(t *testing.T) directory.Editor { return openDir(t) })
}

func TestDirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) directory.Editor { return openDir(t) })
}

func BenchmarkRecipient(b *testing.B) {
	d := openDir(b)
	o := directory.ViewOptions{Base: directorytest.Base(), DefaultDomain: "example.com"}
	p := directory.NewProvisioner(d, o)
	if err := p.EnsureBase(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := p.AddDomain(b.Context(), "example.com", ""); err != nil {
		b.Fatal(err)
	}
	const n = 1000
	hash := directory.HashPassword("x")
	for i := range n {
		if err := p.AddUser(b.Context(), fmt.Sprintf("u%04d@example.com", i), "", hash, ""); err != nil {
			b.Fatal(err)
		}
	}
	v := directory.NewView(d, o)
	i := 0
	for b.Loop() {
		i = (i + 1) % n
		if _, err := v.Recipient(b.Context(), mail.Address{Local: fmt.Sprintf("u%04d", i), Domain: "example.com"}); err != nil {
			b.Fatal(err)
		}
	}
}
