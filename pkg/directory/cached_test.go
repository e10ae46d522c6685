package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

// counting is a tree of one domain with one user, that can be away.
type counting struct {
	searches, binds int
	away            bool
	host            string
}

func (c *counting) Bind(context.Context, DN, string) error {
	c.binds++
	if c.away {
		return fmt.Errorf("%w: away", ErrUnavailable)
	}
	return nil
}

func (c *counting) Search(_ context.Context, q Query) iter.Seq2[Entry, error] {
	c.searches++
	return func(yield func(Entry, error) bool) {
		base := MustParseDN("o=x,o=mail")
		domain := entry(base, attr("objectClass", "mailDomain"), attr("sunPreferredDomain", "x.test"))
		alice := entry(base.Child("uid", "alice"), attr("objectClass", "inetLocalMailRecipient", "inetMailUser"), attr("uid", "alice"),
			attr("mail", "alice@x.test"), attr("mailHost", c.host), attr("mailAlternateAddress", "info@x.test"))
		if c.away {
			yield(Entry{}, fmt.Errorf("%w: away", ErrUnavailable))
			return
		}
		for _, e := range []Entry{domain, alice} {
			if q.Filter.holds(e) && (q.Scope != ScopeBase || e.DN.Equal(q.Base)) && !yield(e, nil) {
				return
			}
		}
	}
}

func (c *counting) Add(context.Context, Entry) error                 { return nil }
func (c *counting) Modify(context.Context, DN, []Change) error       { return nil }
func (c *counting) Delete(context.Context, DN) error                 { return nil }
func (c *counting) Rename(context.Context, DN, RDN, bool, *DN) error { return nil }
func cachedView(o CacheOptions) (*View, *counting, *time.Duration, Tree) {
	c, passed := &counting{host: "one"}, new(time.Duration)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return start.Add(*passed) }
	tree := NewCached(c, o)
	return NewView(tree, ViewOptions{Base: MustParseDN("o=mail")}), c, passed, tree
}

// TestCacheTimes: an answer counts for its time, and no longer; a change made here
// ends it.
func TestCacheTimes(t *testing.T) {
	v, c, passed, tree := cachedView(CacheOptions{Positive: time.Minute, Negative: 10 * time.Second})
	ctx := t.Context()
	alice, nobody := mail.Address{Local: "alice", Domain: "x.test"}, mail.Address{Local: "nobody", Domain: "x.test"}
	asks := func(what string, a mail.Address, wantErr error, want int) {
		t.Helper()
		before := c.searches
		if _, err := v.Recipient(ctx, a); !errors.Is(err, wantErr) {
			t.Errorf("%s: %v", what, err)
		}
		if got := c.searches - before; got != want {
			t.Errorf("%s: %d searches, want %d", what, got, want)
		}
	}
	asks("first", alice, nil, 2) // the domain, the user
	asks("again", alice, nil, 0)
	asks("nobody", nobody, ErrNotFound, 2) // by address, by domain
	asks("nobody again", nobody, ErrNotFound, 0)
	*passed = 11 * time.Second
	asks("alice after the negative time", alice, nil, 0)
	asks("nobody after the negative time", nobody, ErrNotFound, 2)
	*passed = 61 * time.Second
	asks("alice after the positive time", alice, nil, 2)
	c.host = "two"
	if r, err := v.Recipient(ctx, alice); err != nil || r.User.MailHost != "one" {
		t.Errorf("within the time: %v %v", r, err)
	}
	if err := tree.(Editor).Modify(ctx, MustParseDN("o=mail"), nil); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Recipient(ctx, alice); err != nil || r.User.MailHost != "two" {
		t.Errorf("after a change: %v %v", r, err)
	}
}

// TestCacheOutage: what is known routes mail while the directory is away, and logs
// nobody in.
func TestCacheOutage(t *testing.T) {
	v, c, passed, _ := cachedView(CacheOptions{Stale: time.Hour})
	ctx := t.Context()
	alice := mail.Address{Local: "alice", Domain: "x.test"}
	if _, err := v.Recipient(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(ctx, "alice@x.test", "secret"); err != nil || c.binds != 1 {
		t.Fatal(err)
	}
	c.away = true
	if r, err := v.Recipient(ctx, alice); err != nil || r.User.UID != "alice" {
		t.Errorf("mail to alice: %v", err)
	}
	if _, err := v.Domain(ctx, "x.test"); err != nil {
		t.Errorf("the domain: %v", err)
	}
	for what, err := range map[string]error{
		"an unknown address": func() error { _, err := v.Recipient(ctx, mail.Address{Local: "info", Domain: "x.test"}); return err }(),
		"a login":            func() error { _, err := v.Verify(ctx, "alice@x.test", "secret"); return err }(),
		"a user":             func() error { _, err := v.User(ctx, "alice@x.test"); return err }(),
		"a SCRAM secret":     func() error { _, _, err := v.SCRAM(ctx, "alice@x.test"); return err }(),
	} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s while the directory is away: %v", what, err)
		}
	}
	*passed = time.Hour + time.Second
	if _, err := v.Recipient(ctx, alice); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after an hour: %v", err)
	}
}

// TestCacheKeepsNoSecrets: passwords and SCRAM secrets are asked for each time.
func TestCacheKeepsNoSecrets(t *testing.T) {
	v, c, _, tree := cachedView(CacheOptions{Positive: time.Hour, Negative: time.Hour, Stale: time.Hour})
	ctx := t.Context()
	for range 2 {
		if _, err := v.Verify(ctx, "alice@x.test", "secret"); err != nil {
			t.Fatal(err)
		}
	}
	if c.binds != 2 {
		t.Errorf("%d binds of 2 logins", c.binds)
	}
	for _, name := range []string{"userPassword", "AUTHPASSWORD", "+"} {
		before := c.searches
		for range 2 {
			for range tree.Search(ctx, Query{Base: MustParseDN("uid=alice,o=x,o=mail"), Attributes: []string{"cn", name}}) {
			}
		}
		if c.searches-before != 2 {
			t.Errorf("%s is remembered", name)
		}
	}
}
