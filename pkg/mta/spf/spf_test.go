package spf_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/spf"
)

// zone is a DNS of TXT and A records; names in fails do not answer.
type zone struct {
	txt   map[string][]string
	a     map[string]string
	fails map[string]bool
	asked int
	mx    int  // hosts of every domain's MX
	mute  bool // no question is answered
}

func (z *zone) LookupTXT(ctx context.Context, name string) ([]string, error) {
	z.asked++
	if z.mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	name = strings.TrimSuffix(name, ".")
	if z.fails[name] {
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	}
	if r, ok := z.txt[name]; ok {
		return r, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	z.asked++
	if r, ok := z.a[strings.TrimSuffix(name, ".")]; ok {
		return []net.IPAddr{{IP: net.ParseIP(r)}}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	z.asked++
	var out []*net.MX
	for i := range z.mx {
		out = append(out, &net.MX{Host: fmt.Sprintf("mx%d.%s", i, name)})
	}
	if out != nil {
		return out, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupAddr(_ context.Context, addr string) ([]string, error) {
	z.asked++
	return nil, &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true}
}

func TestCheck(t *testing.T) {
	txt := map[string][]string{
		"good.test":   {"v=spf1 ip4:192.0.2.0/24 -all"},
		"bad.test":    {"v=spf1 ip4:198.51.100.0/24 -all"},
		"soft.test":   {"v=spf1 ~all"},
		"two.test":    {"v=spf1 +all", "v=spf1 -all"},
		"self.test":   {"v=spf1 include:self.test -all"},
		"a.test":      {"v=spf1 a:mail.a.test -all"},
		"v6.test":     {"v=spf1 ip6:2001:db8::/32 -all"},
		"mailer.test": {"v=spf1 ip4:192.0.2.7 -all"},
	}
	tests := []struct {
		name, ip, helo, from string
		want, domain         string
	}{
		{"allowed", "192.0.2.7", "x.test", "u@good.test", "pass", "good.test"},
		{"denied", "192.0.2.7", "x.test", "u@bad.test", "fail", "bad.test"},
		{"doubted", "192.0.2.7", "x.test", "u@soft.test", "softfail", "soft.test"},
		{"no record", "192.0.2.7", "x.test", "u@none.test", "none", "none.test"},
		{"by address record", "192.0.2.9", "x.test", "u@a.test", "pass", "a.test"},
		{"IPv6", "2001:db8::1", "x.test", "u@v6.test", "pass", "v6.test"},
		{"IPv4 in IPv6", "::ffff:192.0.2.7", "x.test", "u@good.test", "pass", "good.test"},
		{"null reverse-path goes by HELO", "192.0.2.7", "mailer.test.", "", "pass", "mailer.test"},
		{"null reverse-path and a literal", "192.0.2.7", "[192.0.2.7]", "", "none", ""},
		{"two records", "192.0.2.7", "x.test", "u@two.test", "permerror", "two.test"},
		{"includes itself", "192.0.2.7", "x.test", "u@self.test", "permerror", "self.test"},
		{"no answer", "192.0.2.7", "x.test", "u@dead.test", "temperror", "dead.test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := &zone{txt: txt, a: map[string]string{"mail.a.test": "192.0.2.9"}, fails: map[string]bool{"dead.test": true}}
			e := &mta.Evidence{Stranger: true, Session: &mta.Session{Helo: tt.helo, Client: auth.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(tt.ip), 25)}}}
			if tt.from != "" {
				a, err := mail.ParseAddress(tt.from)
				if err != nil {
					t.Fatal(err)
				}
				e.Sender.From = a
			}
			if err := spf.New(spf.Options{Resolver: z}).Check(t.Context(), mta.AtMessage, e); err != nil {
				t.Fatal(err)
			}
			f := e.Findings[0]
			if f.Result != tt.want || f.Domain != tt.domain {
				t.Errorf("%s for %q (%s), want %s for %q", f.Result, f.Domain, f.Reason, tt.want, tt.domain)
			}
			if z.asked > 12 {
				t.Errorf("%d questions", z.asked)
			}
		})
	}
}

func TestOurOwnAreNotAsked(t *testing.T) {
	e := &mta.Evidence{Session: &mta.Session{Submission: true}}
	if err := spf.New(spf.Options{Resolver: &zone{}}).Check(t.Context(), mta.AtMessage, e); err != nil || len(e.Findings) != 0 {
		t.Errorf("%v, %v", err, e.Findings)
	}
}

// TestA3Amplification is row A3 of hardening.md: a record that would have us
// ask for ever is an error, after few questions and in bounded time.
func TestA3Amplification(t *testing.T) {
	includes, voids := "v=spf1", "v=spf1"
	txt := map[string][]string{
		"self.test":  {"v=spf1 include:self.test -all"},
		"ring.test":  {"v=spf1 include:ring2.test -all"},
		"ring2.test": {"v=spf1 redirect=ring.test"},
		"mx.test":    {"v=spf1 mx -all"},
		"macro.test": {"v=spf1 exists:%{l1r-}.%{d2}.%{i}.macro.test include:%{d}.macro.test -all"},
	}
	for i := range 11 {
		includes += fmt.Sprintf(" include:i%d.test", i)
		txt[fmt.Sprintf("i%d.test", i)] = []string{"v=spf1 ?all"}
		voids += fmt.Sprintf(" a:void%d.test", i)
	}
	txt["many.test"], txt["void.test"] = []string{includes + " -all"}, []string{voids + " -all"}
	for domain, want := range map[string]string{
		"many.test": "permerror", "self.test": "permerror", "ring.test": "permerror", "mx.test": "permerror", "void.test": "permerror", "macro.test": "permerror",
	} {
		z := &zone{txt: txt, mx: 111}
		if got := result(t, z, domain); got != want || z.asked > 14 {
			t.Errorf("%s: %s after %d questions, want %s", domain, got, z.asked, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if got := result(t, &zone{mute: true}, "mute.test"); got != "temperror" || time.Since(start) > 20*time.Second {
			t.Errorf("a mute DNS: %s after %v", got, time.Since(start))
		}
	})
}

func result(t *testing.T, z *zone, domain string) string {
	t.Helper()
	e := &mta.Evidence{Stranger: true, Session: &mta.Session{Helo: "x.test", Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.7:25")}},
		Sender: mta.Sender{From: mail.Address{Local: "u", Domain: domain}}}
	if err := spf.New(spf.Options{Resolver: z}).Check(t.Context(), mta.AtMessage, e); err != nil {
		t.Fatal(err)
	}
	return e.Findings[0].Result
}
