package sqldir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/password"
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

func TestSecrets(t *testing.T) {
	directorytest.RunSecrets(t, func(t *testing.T) directory.Editor { return openDir(t) })
}

func TestAppPasswords(t *testing.T) {
	directorytest.RunAppPasswords(t, func(t *testing.T) directory.Editor { return openDir(t) })
}

// populated returns a directory with n users of example.com.
func populated(b *testing.B, n int) (*Dir, *directory.View) {
	b.Helper()
	d := openDir(b)
	return d, fill(b, d, n)
}

// fill adds example.com with n users.
func fill(b *testing.B, d *Dir, n int) *directory.View {
	b.Helper()
	o := directory.ViewOptions{Base: directorytest.Base(), DefaultDomain: "example.com"}
	p := directory.NewProvisioner(d, o)
	if err := p.EnsureBase(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := p.AddDomain(b.Context(), "example.com", ""); err != nil {
		b.Fatal(err)
	}
	hash := password.Hash("x")
	var g errgroup.Group
	g.SetLimit(100) // they share commits
	for i := range n {
		g.Go(func() error { return p.AddUser(b.Context(), address(i), "", hash, "") })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return directory.NewView(d, o)
}

func address(i int) string { return fmt.Sprintf("u%04d@example.com", i) }

// cpu reports what the process computed, which others on the machine do not change.
func cpu(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") }
}

func BenchmarkRecipient(b *testing.B) {
	const n = 10_000
	d, v := populated(b, n)
	for name, forget := range map[string]bool{"cached": false, "changed": false, "read": true} {
		b.Run(name, func(b *testing.B) {
			defer cpu(b)()
			i := 0
			for b.Loop() {
				if i++; name != "cached" {
					d.cache.writes.Add(1) // as if something else had changed
				}
				if forget {
					d.cache.holders = generations[pair, []*stored]{}
				}
				a, _ := mail.ParseAddress(address(i % 100))
				if _, err := v.Recipient(b.Context(), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("equality", func(b *testing.B) {
		defer cpu(b)()
		i := 0
		for b.Loop() {
			i++
			d.cache.holders = generations[pair, []*stored]{}
			q := directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, Filter: directory.Equal("mail", address(i%n))}
			for _, err := range d.Search(b.Context(), q) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("substring", func(b *testing.B) {
		defer cpu(b)()
		i := 0
		for b.Loop() {
			i++
			q := directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, Filter: directory.Filter{Kind: directory.Substrings, Attribute: "mail", Any: []string{fmt.Sprintf("u%04d@ex", i%n)}}}
			found := 0
			for _, err := range d.Search(b.Context(), q) {
				if found++; err != nil {
					b.Fatal(err)
				}
			}
			if found != 1 {
				b.Fatal(found)
			}
		}
	})
	b.Run("bind", func(b *testing.B) {
		defer cpu(b)()
		dn := directory.MustParseDN("uid=u0001,ou=People,o=example.com,o=mail")
		for b.Loop() {
			if err := d.Bind(b.Context(), dn, "x"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen is how long a directory of so many entries takes from its start to
// its first answer: MAILSRV_ENTRIES, or 2,000.
func BenchmarkOpen(b *testing.B) {
	n := 2000
	if s := os.Getenv("MAILSRV_ENTRIES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "directory.db")
	d, err := Open(b.Context(), path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, d, n)
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	defer cpu(b)()
	for b.Loop() {
		d, err := Open(b.Context(), path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		found := 0
		for _, err := range d.Search(b.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, Filter: directory.Equal("mail", address(n/2))}) {
			if found++; err != nil {
				b.Fatal(err)
			}
		}
		if err := d.Close(); err != nil || found != 1 {
			b.Fatal(found, err)
		}
	}
}

// TestSuffixOfSeveralLevels: the first entry is the suffix, and the only one.
func TestSuffixOfSeveralLevels(t *testing.T) {
	d := openDir(t)
	o := directory.ViewOptions{Base: directory.MustParseDN("dc=mail,dc=example,dc=com")}
	p := directory.NewProvisioner(d, o)
	for range 2 {
		if err := p.EnsureBase(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AddDomain(t.Context(), "example.com", ""); err != nil {
		t.Fatal(err)
	}
	other := directory.Entry{DN: directory.MustParseDN("o=x"), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}
	if err := d.Add(t.Context(), other); !errors.Is(err, directory.ErrNotFound) {
		t.Errorf("a second suffix: %v", err)
	}
}

// TestWritesAreSeenAtOnce: no cache outlives a change of what it holds.
func TestWritesAreSeenAtOnce(t *testing.T) {
	d := openDir(t)
	p := directory.NewProvisioner(d, directory.ViewOptions{Base: directorytest.Base()})
	ctx := t.Context()
	for _, err := range []error{p.EnsureBase(ctx), p.AddDomain(ctx, "example.com", ""), p.AddUser(ctx, "a@example.com", "", "one", "")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a := mail.Address{Local: "b", Domain: "example.com"}
	for range 3 {
		if _, err := p.Recipient(ctx, a); !errors.Is(err, directory.ErrNotFound) {
			t.Fatalf("before: %v", err)
		}
		if err := p.AddAlias(ctx, "b@example.com", "a@example.com"); err != nil {
			t.Fatal(err)
		}
		if r, err := p.Recipient(ctx, a); err != nil || r.User.UID != "a" {
			t.Fatalf("after: %v", err)
		}
		if err := p.DeleteAlias(ctx, "b@example.com"); err != nil {
			t.Fatal(err)
		}
	}
}
