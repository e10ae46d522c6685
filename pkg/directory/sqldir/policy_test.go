package sqldir

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/directory"
)

// clock is a clock that a test sets.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func TestPasswordPolicy(t *testing.T) {
	var c clock
	d, err := Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), Options{
		Policy: Policy{MinLength: 6, History: 2, MaxAge: 30 * 24 * time.Hour}, Now: c.now})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	ctx := t.Context()
	add(d, "o=x", attr("objectClass", "organization"))(t)
	ann := directory.MustParseDN("cn=ann,o=x")
	person := []directory.Attribute{attr("objectClass", "person"), attr("sn", "ann")}
	if err := d.Add(ctx, directory.Entry{DN: ann, Attributes: append(person, attr("userPassword", "äöüäö"))}); !errors.Is(err, directory.ErrPasswordTooShort) {
		t.Errorf("five letters: %v", err)
	}
	must(t, d.Add(ctx, directory.Entry{DN: ann, Attributes: append(person, attr("userPassword", "first one"))}))
	modify := func(p string) error {
		return d.Modify(ctx, ann, []directory.Change{{Kind: directory.ReplaceValues, Attribute: attr("userPassword", p)}})
	}
	for i, change := range []struct {
		set  func(string) error
		to   string
		want error
	}{
		{modify, "first one", directory.ErrPasswordUsed},
		{modify, "second one", nil},
		{modify, "first one", directory.ErrPasswordUsed},
		{modify, "short", directory.ErrPasswordTooShort},
		{func(p string) error { return d.ChangePassword(ctx, ann, p) }, "second one", directory.ErrPasswordUsed},
		{func(p string) error { return d.ChangePassword(ctx, ann, p) }, "{SSHA}third", nil},
		{modify, "first one", nil}, // two former ones are kept
	} {
		if err := change.set(change.to); !errors.Is(err, change.want) || err != nil && code(err) != directory.ConstraintViolation {
			t.Errorf("change %d to %s: %v, want %v", i, change.to, err, change.want)
		}
	}
	must(t, d.Bind(ctx, ann, "first one"))
	c.offset.Store(int64(31 * 24 * time.Hour))
	for range 2 {
		if err := d.Bind(ctx, ann, "first one"); !errors.Is(err, directory.ErrPasswordExpired) || !errors.Is(err, directory.ErrBadCredentials) {
			t.Errorf("after a month: %v", err)
		}
	}
	if err := d.Bind(ctx, ann, "wrong"); errors.Is(err, directory.ErrPasswordExpired) {
		t.Error("a wrong password is told to be expired")
	}
	must(t, d.ChangePassword(ctx, ann, "a new month"))
	must(t, d.Bind(ctx, ann, "a new month"))
	for e, err := range d.Search(ctx, directory.Query{Base: ann, Attributes: []string{"*", "+"}}) {
		if err != nil || e.Values("pwdHistory") != nil || e.Values(directory.SCRAMAttribute) != nil {
			t.Errorf("%v %v", e.Attributes, err)
		}
	}
}

// TestRehash: a weak hash is replaced when its password is used, and the SCRAM
// secret comes with it.
func TestRehash(t *testing.T) {
	const ssha = "{SSHA}FKOsvRGyvJmFtyBme/+y7/2fl6kwMTIzYWJjZA=="
	path := filepath.Join(t.TempDir(), "directory.db")
	ann := directory.MustParseDN("cn=ann,o=x")
	for _, keep := range []bool{true, false} {
		d, err := Open(t.Context(), path, Options{KeepHashes: keep})
		must(t, err)
		if keep {
			add(d, "o=x", attr("objectClass", "organization"))(t)
			add(d, "cn=ann,o=x", attr("objectClass", "person"), attr("sn", "ann"), attr("userPassword", ssha))(t)
		}
		must(t, d.Bind(t.Context(), ann, "secret"))
		d.background.Wait()
		s, err := d.load(t.Context(), ann)
		must(t, err)
		if hash := s.entry.Value("userPassword"); strings.HasPrefix(hash, "{ARGON2ID}") == keep || keep == (s.entry.Value(directory.SCRAMAttribute) != "") {
			t.Errorf("keep %v: %.12s, %.20s", keep, hash, s.entry.Value(directory.SCRAMAttribute))
		}
		must(t, d.Bind(t.Context(), ann, "secret"))
		if err := d.Bind(t.Context(), ann, "Secret"); !errors.Is(err, directory.ErrBadCredentials) {
			t.Error(err)
		}
		must(t, d.Close())
	}
}
