package smtpclient_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

func TestRoute(t *testing.T) {
	w := newWorld(t)
	w.domain("far.test", "mx1.far.test.", "mx2.far.test.")
	w.address("mx1.far.test", "198.51.100.1", "198.51.100.2")
	w.address("mx2.far.test", "198.51.100.3")
	w.address("nomx.test", "198.51.100.4")
	w.domain("null.test", ".")
	w.domain("self.test", "mx.us.example.", "behind.test.")
	w.domain("second.test", "mx2.far.test.", "MX.us.example.")
	w.domain("loop.test", "local.test.")
	w.address("local.test", "127.0.0.1")
	w.domain("half.test", "local.test.", "mx2.far.test.")
	w.domain("dangling.test", "nowhere.test.")
	w.zones["servfail.test."] = zone{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
	w.zones["timeout.test."] = zone{err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}
	w.domain("mxservfail.test", "servfail.test.")
	tests := []struct {
		domain string
		dials  []string
		want   string
	}{
		{"far.test", []string{"198.51.100.1:25", "198.51.100.2:25", "198.51.100.3:25"}, "451 4.4.1 no connection to mx2.far.test"},
		{"nomx.test", []string{"198.51.100.4:25"}, "451 4.4.1 no connection to nomx.test"},
		{"nosuch.test", nil, "550 5.1.2 domain nosuch.test does not exist"},
		{"null.test", nil, "556 5.1.10 domain null.test takes no mail"},
		{"self.test", nil, "554 5.4.6 mail for self.test leads back to this host"},
		{"second.test", []string{"198.51.100.3:25"}, "451 4.4.1 no connection to mx2.far.test"},
		{"loop.test", nil, "550 5.4.6 the mail host of loop.test is this very host"},
		{"half.test", []string{"198.51.100.3:25"}, "451 4.4.1 no connection to mx2.far.test"},
		{"dangling.test", nil, "451 4.4.4 the mail host of dangling.test has no address"},
		{"servfail.test", nil, "451 4.4.3 the DNS gave no answer about servfail.test"},
		{"timeout.test", nil, "451 4.4.3 the DNS gave no answer about timeout.test"},
		{"mxservfail.test", nil, "451 4.4.3 the DNS gave no answer about mxservfail.test"},
		{"[198.51.100.9]", []string{"198.51.100.9:25"}, "451 4.4.1 no connection to 198.51.100.9"},
		{"[IPv6:2001:db8::1]", []string{"[2001:db8::1]:25"}, "451 4.4.1 no connection to 2001:db8::1"},
		{"[127.0.0.1]", nil, "550 5.4.6 that address is this very host"},
		{"[0.0.0.0]", nil, "550 5.4.6 that address is this very host"},
	}
	for _, tt := range tests {
		t.Run(tt.domain, func(t *testing.T) {
			w.dials = nil
			errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@"+tt.domain, "b@"+tt.domain), mail.Bytes("x"))
			if diff := cmp.Diff([]string{tt.want, tt.want}, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.dials, w.dials); diff != "" {
				t.Errorf("dialled (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRouteShufflesEqualPreferences(t *testing.T) {
	w := newWorld(t)
	w.zones["far.test."] = zone{mx: []*net.MX{{Host: "a.test.", Pref: 1}, {Host: "b.test.", Pref: 1}, {Host: "z.test.", Pref: 0}}}
	for i, h := range []string{"z.test", "a.test", "b.test"} {
		w.address(h, "198.51.100."+string(rune('1'+i)))
	}
	first := map[string]bool{}
	for range 50 {
		w.dials = nil
		once(w.options(), t.Context(), envelope(t, "", "a@far.test"), mail.Bytes("x"))
		if len(w.dials) != 3 || w.dials[0] != "198.51.100.1:25" {
			t.Fatalf("dialled %v", w.dials)
		}
		first[w.dials[1]] = true
	}
	if len(first) != 2 {
		t.Errorf("hosts of one preference are always tried in one order: %v", first)
	}
}

func TestViaRelay(t *testing.T) {
	w := newWorld(t)
	w.address("relay.test", "127.0.0.1")
	c := smtpclient.New(w.options())
	c.Via("relay.test:2525").Deliver(t.Context(), envelope(t, "", "a@far.test", "b@near.test"), mail.Bytes("x"))
	c.Via("198.51.100.8").Deliver(t.Context(), envelope(t, "", "a@far.test"), mail.Bytes("x"))
	if want := []string{"127.0.0.1:2525", "198.51.100.8:25"}; !slices.Equal(w.dials, want) {
		t.Errorf("dialled %v, want %v", w.dials, want)
	}
	if c.Via("") != mail.Deliverer(c) {
		t.Error("no relay is the client itself")
	}
}

func TestEndedContextIsTransient(t *testing.T) {
	w := newWorld(t)
	w.domain("far.test", "mx.far.test.")
	w.address("mx.far.test", "198.51.100.1")
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	w.serve("198.51.100.1:25", func(c net.Conn) {
		close(started)
		c.Read(make([]byte, 1)) // silent until the other side goes
	})
	go func() { <-started; cancel() }()
	errs := once(w.options(), ctx, envelope(t, "", "a@far.test"), mail.Bytes("x"))
	if errs[0] == nil || mail.IsPermanent(errs[0]) {
		t.Errorf("%v", errs)
	}
}

// deadDNS answers nobody; a broken zone is the fault of its owner, and the
// rest of the DNS is there.
type deadDNS struct{ *world }

func (d deadDNS) LookupMX(context.Context, string) ([]*net.MX, error) {
	return nil, &net.DNSError{Err: "connection refused", Server: "192.0.2.53:53"}
}

func (d deadDNS) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true, Server: "192.0.2.53:53"}
}

func TestDeadDNSIsOurOutage(t *testing.T) {
	w := newWorld(t)
	w.zones["servfail.test."] = zone{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
	deliver := func(r smtpclient.Resolver, relay string) error {
		o := w.options()
		o.Resolver = r
		if relay != "" {
			o.SmartHost = &smtpclient.SmartHost{Addr: relay}
		}
		return once(o, t.Context(), envelope(t, "s@us.example", "a@servfail.test"), mail.Bytes("x"))[0]
	}
	if err := deliver(w, ""); errors.Is(err, mail.ErrOutage) || mail.StatusOf(err).Reply() != "451 4.4.3 the DNS gave no answer about servfail.test" {
		t.Errorf("a broken zone: %v", err)
	}
	for _, relay := range []string{"", "relay.test"} {
		if err := deliver(deadDNS{w}, relay); !errors.Is(err, mail.ErrOutage) || mail.IsPermanent(err) {
			t.Errorf("no DNS, by %q: %v", relay, err)
		}
	}
}
