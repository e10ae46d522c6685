package mta_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// people is a Directory in memory, with the rules of the contract.
type people struct {
	domains []directory.Domain
	users   []*directory.User
	groups  []*directory.Group
	down    bool
	asked   []string // domains, in order
}

var _ directory.Directory = (*people)(nil)

func (p *people) Domain(_ context.Context, name string) (directory.Domain, error) {
	p.asked = append(p.asked, name)
	if p.down {
		return directory.Domain{}, directory.ErrUnavailable
	}
	for _, d := range p.domains {
		if d.Name == name || slices.Contains(d.Aliases, name) {
			return d, nil
		}
	}
	return directory.Domain{}, directory.ErrNotFound
}

func (p *people) canonical(name string) string {
	for _, d := range p.domains {
		if slices.Contains(d.Aliases, name) {
			return d.Name
		}
	}
	return name
}

func (p *people) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	if p.down {
		return directory.Recipient{}, directory.ErrUnavailable
	}
	a = mail.Address{Local: a.Local, Domain: p.canonical(a.Domain)}.Key()
	for _, want := range []mail.Address{a, {Domain: a.Domain}} {
		for _, u := range p.users {
			for _, has := range slices.Concat([]mail.Address{u.Mail}, u.Alternates, u.Equivalents) {
				if !has.IsNull() && has.Key() == want {
					return directory.Recipient{User: u}, nil
				}
			}
		}
		for _, g := range p.groups {
			if g.Mail.Key() == want || slices.ContainsFunc(g.Alternates, func(a mail.Address) bool { return a.Key() == want }) {
				return directory.Recipient{Group: g}, nil
			}
		}
	}
	return directory.Recipient{}, directory.ErrNotFound
}

func (p *people) Member(_ context.Context, dn directory.DN) (directory.Recipient, error) {
	if p.down {
		return directory.Recipient{}, directory.ErrUnavailable
	}
	for _, u := range p.users {
		if u.DN.Equal(dn) {
			return directory.Recipient{User: u}, nil
		}
	}
	for _, g := range p.groups {
		if g.DN.Equal(dn) {
			return directory.Recipient{Group: g}, nil
		}
	}
	return directory.Recipient{}, directory.ErrNotFound
}

func (p *people) User(context.Context, string) (directory.User, error) {
	return directory.User{}, directory.ErrNotFound
}

func (p *people) Verify(context.Context, string, string) (directory.User, error) {
	return directory.User{}, directory.ErrBadCredentials
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	if local, ok := strings.CutPrefix(s, "@"); ok {
		return mail.Address{Domain: local}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addrs(t testing.TB, list ...string) []mail.Address {
	t.Helper()
	var out []mail.Address
	for _, s := range list {
		out = append(out, addr(t, s))
	}
	return out
}

func dn(name string) directory.DN {
	return directory.DN{}.Child("o", "us.example").Child("cn", name)
}

// user adds an active user with a mailbox on host a; change may be nil.
func (p *people) user(t testing.TB, uid string, change func(*directory.User)) {
	t.Helper()
	u := &directory.User{DN: dn(uid), UID: uid, Domain: "us.example", Mail: addr(t, uid+"@us.example"), Status: directory.Active,
		MailHost: "a.us.example", DeliveryOptions: []string{"mailbox"}}
	if change != nil {
		change(u)
	}
	p.users = append(p.users, u)
}

func (p *people) group(t testing.TB, name string, change func(*directory.Group)) {
	t.Helper()
	g := &directory.Group{DN: dn(name), Name: name, Domain: "us.example", Mail: addr(t, name+"@us.example"), Status: directory.Active}
	if change != nil {
		change(g)
	}
	p.groups = append(p.groups, g)
}

// office is the directory that the tests of this package share.
func office(t testing.TB) *people {
	p := &people{domains: []directory.Domain{
		{Name: "us.example", Aliases: []string{"us.test"}, Status: directory.Active},
		{Name: "split.example", Status: directory.Active, SmartHost: "old.split.example"},
		{Name: "catch.example", Status: directory.Active, CatchAll: addr(t, "alice@us.example")},
		{Name: "loop.example", Status: directory.Active, CatchAll: addr(t, "nobody@loop.example")},
		{Name: "far.example", Status: directory.Active, RoutingHosts: []string{"mx.far.example"}},
		{Name: "near.example", Status: directory.Active, RoutingHosts: []string{"MX.us.example"}},
		{Name: "closed.example", Status: directory.Inactive},
		{Name: "held.example", Status: directory.Hold},
		{Name: "gone.example", Status: directory.Deleted},
	}}
	options := func(o ...string) func(*directory.User) {
		return func(u *directory.User) { u.DeliveryOptions = o }
	}
	status := func(s directory.Status) func(*directory.User) {
		return func(u *directory.User) { u.Status = s }
	}
	forward := func(to []mail.Address, o ...string) func(*directory.User) {
		return func(u *directory.User) { u.DeliveryOptions, u.ForwardTo = o, to }
	}
	p.user(t, "alice", func(u *directory.User) {
		u.Alternates, u.Equivalents = addrs(t, "a.smith@us.example", "@vanity.example"), addrs(t, "al@us.example")
	})
	p.domains = append(p.domains, directory.Domain{Name: "vanity.example", Status: directory.Active})
	p.user(t, "bob", func(u *directory.User) { u.MailHost = "b.us.example"; u.MaxMessage = 2000 })
	p.user(t, "plus+real", nil)
	p.user(t, "inactive", status(directory.Inactive))
	p.user(t, "disabled", status(directory.Disabled))
	p.user(t, "deleted", status(directory.Deleted))
	p.user(t, "held", status(directory.Hold))
	p.user(t, "full", status(directory.OverQuota))
	p.user(t, "holdopt", options("mailbox", "hold"))
	p.user(t, "nomail", options("nomail"))
	p.user(t, "program", options("program"))
	p.user(t, "both", forward(addrs(t, "x@far.test", "bob@us.example"), "mailbox", "forward"))
	p.user(t, "away", forward(addrs(t, "x@far.test"), "forward"))
	p.user(t, "self", forward(addrs(t, "self@us.example", "x@far.test"), "forward"))
	p.user(t, "ping", forward(addrs(t, "pong@us.example"), "forward"))
	p.user(t, "pong", forward(addrs(t, "ping@us.example"), "forward"))
	p.user(t, "deadend", forward(addrs(t, "disabled@us.example"), "forward"))
	p.user(t, "routed", func(u *directory.User) { u.RoutingAddress = addr(t, "r@far.test") })
	p.user(t, "homeless", func(u *directory.User) { u.MailHost = "" })
	p.user(t, "splituser", func(u *directory.User) {
		u.MailHost, u.Domain, u.Mail = "", "split.example", addr(t, "splituser@split.example")
	})
	p.group(t, "team", func(g *directory.Group) {
		g.Members = []directory.DN{dn("alice"), dn("bob"), dn("nosuch"), dn("alice"), dn("disabled"), dn("inner"), dn("inactive"), dn("held")}
		g.External = addrs(t, "x@far.test", "bob@us.test")
	})
	p.group(t, "inner", func(g *directory.Group) {
		g.Members = []directory.DN{dn("away"), dn("team"), dn("inner")}
		g.ErrorsTo = addr(t, "owner@us.example")
	})
	p.group(t, "empty", nil)
	p.group(t, "mute", func(g *directory.Group) { g.Status = directory.Disabled; g.Members = []directory.DN{dn("alice")} })
	p.group(t, "small", func(g *directory.Group) { g.Members = []directory.DN{dn("alice"), dn("bob")}; g.MaxMessage = 5000 })
	return p
}
