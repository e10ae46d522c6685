package iprev

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// dns answers by name; "?" is an outage.
type dns struct {
	names map[string][]string
	addrs map[string][]string
	asked atomic.Int64
}

func (d *dns) LookupAddr(_ context.Context, addr string) ([]string, error) {
	d.asked.Add(1)
	return answer(d.names[addr], addr)
}

func (d *dns) LookupNetIP(_ context.Context, network, host string) (out []netip.Addr, err error) {
	d.asked.Add(1)
	found, err := answer(d.addrs[host], host)
	for _, f := range found {
		if a := netip.MustParseAddr(f); a.Is4() == (network == "ip4") {
			out = append(out, a)
		}
	}
	return out, err
}

func answer(list []string, name string) ([]string, error) {
	switch {
	case slices.Contains(list, "?"):
		return nil, errors.New("server failure")
	case len(list) == 0:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return list, nil
}

func world() *dns {
	return &dns{
		names: map[string][]string{"192.0.2.1": {"bad.test.", "mx.good.test."}, "192.0.2.2": {"mx.good.test."}, "192.0.2.3": {"?"}, "192.0.2.5": {"lost.test."}, "2001:db8::1": {"mx.good.test."}},
		addrs: map[string][]string{"mx.good.test.": {"192.0.2.1", "2001:db8::1"}, "bad.test.": {"192.0.2.99"}, "lost.test.": {"?"}},
	}
}

func evidence(ip, helo string) *mta.Evidence {
	return &mta.Evidence{Stranger: true, Session: &mta.Session{Helo: helo, Client: auth.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), 4000)}}}
}

func TestNames(t *testing.T) {
	tests := []struct{ ip, helo, reverse, name string }{
		{"192.0.2.1", "MX.good.test", "pass", "pass"},
		{"2001:db8::1", "mx.good.test", "pass", "pass"},
		{"::ffff:192.0.2.1", "mx.good.test.", "pass", "pass"},
		{"192.0.2.2", "mx.good.test", "fail", "fail"},
		{"192.0.2.3", "lost.test", "temperror", "temperror"},
		{"192.0.2.4", "nobody.test", "permerror", "fail"},
		{"192.0.2.5", "[192.0.2.5]", "temperror", "pass"},
		{"2001:db8::1", "[IPv6:2001:db8:0::1]", "pass", "pass"},
		{"192.0.2.1", "[192.0.2.2]", "pass", "fail"},
		{"192.0.2.1", "mx.us.test", "pass", "fail"},
		{"192.0.2.1", "localhost", "pass", "fail"},
		{"192.0.2.1", "", "pass", "fail"},
	}
	for _, tt := range tests {
		e := evidence(tt.ip, tt.helo)
		c := New(Options{Reverse: Note, Helo: Note, Hostname: "mx.us.test", Resolver: world()})
		if err := c.Check(t.Context(), mta.AtSender, e); err != nil {
			t.Fatal(err)
		}
		got := []string{e.Findings[0].Method + " " + e.Findings[0].Result, e.Findings[1].Method + " " + e.Findings[1].Result}
		if diff := cmp.Diff([]string{"iprev " + tt.reverse, "x-helo " + tt.name}, got); diff != "" || e.Junk != "" {
			t.Errorf("%s %q: %s %s", tt.ip, tt.helo, diff, e.Junk)
		}
	}
}

func TestActions(t *testing.T) {
	tests := []struct {
		name          string
		reverse, helo Action
		ip, hello     string
		findings      int
		refused, junk string
	}{
		{"off", Off, Off, "192.0.2.4", "x", 0, "", ""},
		{"reverse alone", Note, Off, "192.0.2.4", "x", 1, "", ""},
		{"junk", Junk, Note, "192.0.2.2", "mx.good.test", 2, "", "the name of your address does not lead back to it"},
		{"refused by its address", Refuse, Note, "192.0.2.4", "x", 1, "550 5.7.25 your address has no name", ""},
		{"refused by its greeting", Note, Refuse, "192.0.2.1", "mx.us.test", 2, "550 5.7.1 you call yourself by our name", ""},
		{"an outage is nobody's fault", Refuse, Refuse, "192.0.2.3", "lost.test", 2, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := evidence(tt.ip, tt.hello)
			err := New(Options{Reverse: tt.reverse, Helo: tt.helo, Hostname: "mx.us.test", Resolver: world()}).Check(t.Context(), mta.AtSender, e)
			refused := ""
			if err != nil {
				refused = mail.StatusOf(err).Reply()
			}
			if refused != tt.refused || e.Junk != tt.junk || len(e.Findings) != tt.findings {
				t.Errorf("refused %q, junk %q, %d findings", refused, e.Junk, len(e.Findings))
			}
		})
	}
}

func TestOnlyStrangersAreAskedAbout(t *testing.T) {
	d := world()
	c := New(Options{Reverse: Refuse, Helo: Refuse, Resolver: d})
	for _, change := range []func(*mta.Evidence){
		func(e *mta.Evidence) { e.Stranger = false },
		func(e *mta.Evidence) { e.Vouched = true },
		func(e *mta.Evidence) { e.Session.Client.Addr = netip.AddrPort{} },
	} {
		e := evidence("192.0.2.4", "x")
		change(e)
		if err := c.Check(t.Context(), mta.AtSender, e); err != nil || d.asked.Load() > 0 {
			t.Errorf("%v, %d questions", err, d.asked.Load())
		}
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	d, now := world(), time.Now()
	c := New(Options{Reverse: Note, Helo: Note, Resolver: d, Now: func() time.Time { return now }})
	ask := func(ip, helo string) int64 {
		before := d.asked.Load()
		if err := c.Check(t.Context(), mta.AtSender, evidence(ip, helo)); err != nil {
			t.Fatal(err)
		}
		return d.asked.Load() - before
	}
	first := ask("192.0.2.1", "mx.good.test")
	if again := ask("192.0.2.1", "mx.good.test"); first == 0 || again != 0 {
		t.Errorf("%d questions, then %d", first, again)
	}
	if n := ask("192.0.2.3", "x.test") + ask("192.0.2.3", "x.test"); n < 4 {
		t.Errorf("an outage was remembered: %d questions", n)
	}
	now = now.Add(memory + time.Second)
	if ask("192.0.2.1", "mx.good.test") == 0 {
		t.Error("remembered for ever")
	}
	for i := range remembered + 10 {
		c.remember(&entry{client: client{helo: strconv.Itoa(i)}})
	}
	if len(c.known) != remembered || c.order.Len() != remembered {
		t.Errorf("%d clients are remembered", len(c.known))
	}
}
