package dmarc_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dmarc"
)

// zone is a DNS: TXT records by name, and the names that have an address.
type zone struct {
	txt   map[string]string
	hosts map[string]bool
	asked []string
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	z.asked = append(z.asked, name)
	switch v, ok := z.txt[name]; {
	case v == "no answer":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	case ok:
		return strings.Split(v, "\n"), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z *zone) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	if z.hosts[name] {
		return []net.IPAddr{{IP: net.IPv4(192, 0, 2, 1)}}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func spf(result, domain string) mta.Finding {
	return mta.Finding{Method: "spf", Result: result, Domain: domain}
}

func dkim(result, domain string) mta.Finding {
	return mta.Finding{Method: "dkim", Result: result, Domain: domain}
}

func TestCheck(t *testing.T) {
	txt := map[string]string{
		"_dmarc.us.example":     "v=DMARC1; p=reject",
		"_dmarc.quar.example":   "v=DMARC1;p=quarantine;",
		"_dmarc.none.example":   "v=DMARC1; p=none",
		"_dmarc.strict.example": "v=DMARC1; p=reject; adkim=s; aspf=s",
		"_dmarc.sub.example":    "v=DMARC1; p=none; sp=reject; np=quarantine",
		"_dmarc.test.example":   "v=DMARC1; p=reject; t=y",
		"_dmarc.pct.example":    "v=DMARC1; p=quarantine; pct=0",
		"_dmarc.two.example":    "v=DMARC1; p=reject\nv=DMARC1; p=none",
		"_dmarc.rua.example":    "v=DMARC1; p=whatever; rua=mailto:d@rua.example",
		"_dmarc.other.example":  "some other text\nv=DMARC1; p=reject",
		"_dmarc.dead.example":   "no answer",
		"_dmarc.co.uk":          "v=DMARC1; p=reject",
		"_dmarc.bank":           "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y",
		"_dmarc.top.example":    "v=DMARC1; p=none",
		"_dmarc.a.top.example":  "v=DMARC1; p=reject; psd=n",
	}
	tests := []struct {
		name     string
		from     string
		findings []mta.Finding
		want     string // "result policy code junk", as far as they are there
	}{
		{"aligned by DKIM", "us.example", []mta.Finding{spf("fail", "us.example"), dkim("pass", "us.example")}, "pass reject"},
		{"aligned by SPF", "us.example", []mta.Finding{spf("pass", "us.example"), dkim("none", "")}, "pass reject"},
		{"aligned by organisation", "us.example", []mta.Finding{dkim("pass", "mail.us.example")}, "pass reject"},
		{"organisation of a subdomain's author", "news.us.example", []mta.Finding{dkim("pass", "us.example")}, "pass reject"},
		{"somebody else's signature", "us.example", []mta.Finding{spf("pass", "evil.test"), dkim("pass", "evil.test")}, "fail reject 550"},
		{"look-alike", "us.example", []mta.Finding{dkim("pass", "evilus.example")}, "fail reject 550"},
		{"author in capitals and with a dot", "US.Example", []mta.Finding{dkim("pass", "us.example")}, "pass reject"},
		{"nothing passed", "quar.example", nil, "fail quarantine junk"},
		{"policy none", "none.example", nil, "fail none"},
		{"no record", "far.test", nil, "none"},
		{"strict, same domain", "strict.example", []mta.Finding{dkim("pass", "strict.example")}, "pass reject"},
		{"strict, same organisation", "strict.example", []mta.Finding{dkim("pass", "m.strict.example"), spf("pass", "m.strict.example")}, "fail reject 550"},
		{"subdomain that exists", "host.sub.example", nil, "fail reject 550"},
		{"subdomain that does not", "nowhere.sub.example", nil, "fail quarantine junk"},
		{"tested", "test.example", nil, "fail quarantine junk"},
		{"pct of nothing", "pct.example", nil, "fail none"},
		{"two records are none", "two.example", nil, "none"},
		{"malformed policy with reports", "rua.example", nil, "fail none"},
		{"another TXT record beside", "other.example", nil, "fail reject 550"},
		{"no answer", "dead.example", []mta.Finding{dkim("pass", "dead.example")}, "temperror 451"},
		{"the signature could not be checked", "us.example", []mta.Finding{dkim("temperror", "us.example")}, "temperror reject 451"},
		{"another's could not be checked", "us.example", []mta.Finding{dkim("temperror", "far.test")}, "fail reject 550"},
		{"a public suffix is no organisation", "one.co.uk", []mta.Finding{dkim("pass", "two.co.uk")}, "fail reject 550"},
		{"a registry's own policy", "shop.bank", nil, "fail reject 550"},
		{"organisations below a registry", "shop.bank", []mta.Finding{dkim("pass", "www.shop.bank")}, "pass reject"},
		{"the top of an organisation says so", "x.a.top.example", []mta.Finding{dkim("pass", "b.top.example")}, "fail reject 550"},
		{"and vouches for what is below it", "x.a.top.example", []mta.Finding{dkim("pass", "y.a.top.example")}, "pass reject"},
		{"malformed author", "..", nil, "permerror"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := &zone{txt: txt, hosts: map[string]bool{"host.sub.example": true, "news.us.example": true}}
			e := &mta.Evidence{Stranger: true, Findings: tt.findings, Header: &mta.Header{From: []mime.Address{{Kind: mime.Mailbox, Domain: tt.from}}}}
			err := dmarc.New(dmarc.Options{Resolver: z}).Check(t.Context(), mta.AtMessage, e)
			f := e.Findings[len(e.Findings)-1]
			got := []string{f.Result}
			for _, p := range f.Properties {
				if p.Name == "policy.dmarc" {
					got = append(got, p.Value)
				}
			}
			if st, ok := errors.AsType[*mail.Status](err); ok {
				got = append(got, st.Reply()[:3])
			}
			if e.Junk != "" {
				got = append(got, "junk")
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff, f.Reason, z.asked)
			}
		})
	}
}

func TestObedience(t *testing.T) {
	tests := []struct {
		o       dmarc.Obedience
		refused bool
		junk    bool
	}{{dmarc.Obey, true, false}, {dmarc.ObeyGently, false, true}, {dmarc.Observe, false, false}}
	for _, tt := range tests {
		z := &zone{txt: map[string]string{"_dmarc.us.example": "v=DMARC1; p=reject"}}
		e := &mta.Evidence{Stranger: true, Header: &mta.Header{From: []mime.Address{{Kind: mime.Mailbox, Domain: "us.example"}}}}
		err := dmarc.New(dmarc.Options{Resolver: z, Obedience: tt.o}).Check(t.Context(), mta.AtMessage, e)
		if (err != nil) != tt.refused || (e.Junk != "") != tt.junk {
			t.Errorf("%s: %v, junk %q", tt.o, err, e.Junk)
		}
	}
}

// TestLongNamesCostEightQuestions is the bound of the tree walk.
func TestLongNamesCostEightQuestions(t *testing.T) {
	z := &zone{}
	author := strings.Repeat("a.", 100) + "us.example"
	e := &mta.Evidence{Stranger: true, Header: &mta.Header{From: []mime.Address{{Kind: mime.Mailbox, Domain: author}}}}
	if err := dmarc.New(dmarc.Options{Resolver: z}).Check(t.Context(), mta.AtMessage, e); err != nil {
		t.Fatal(err)
	}
	if len(z.asked) != 8 {
		t.Errorf("%d questions: %q", len(z.asked), z.asked)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=reject; sp=none; np=quarantine; psd=y; t=y", "v=DMARC1", "v=DMARC1;;=;p", "v=DMARC1; rua=mailto:a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := dmarc.ParseRecord(s)
		if err == nil && (r.Policy == "" || r.Subdomain == "" || r.Missing == "") {
			t.Errorf("%q: %+v", s, r)
		}
	})
}

// TestA6Alignment is row A6 of hardening.md: names are compared as lower-case
// A-labels without a final dot, and what the public suffix list, or a record,
// calls a suffix is nobody's.
func TestA6Alignment(t *testing.T) {
	z := &zone{txt: map[string]string{
		"_dmarc.xn--mnchen-3ya.example": "v=DMARC1; p=reject",
		"_dmarc.us.example":             "v=DMARC1; p=reject",
		"_dmarc.one.co.uk":              "v=DMARC1; p=reject",
		"_dmarc.one.github.io":          "v=DMARC1; p=reject",
	}}
	for _, tt := range []struct{ from, signed, want string }{
		{"münchen.example", "xn--mnchen-3ya.example", "pass"},
		{"MÜNCHEN.example", "xn--mnchen-3ya.example", "pass"},
		{"XN--MNCHEN-3YA.example.", "xn--mnchen-3ya.example", "pass"},
		{"post.münchen.example", "xn--mnchen-3ya.example", "pass"},
		{"münchen.example", "munchen.example", "fail"},
		{"us.example.", "us.example", "pass"},
		{"US.EXAMPLE", "mail.us.example", "pass"},
		{"us.example", "example", "fail"},
		{"us.example", "us.example.evil.test", "fail"},
		{"us.example", "xus.example", "fail"},
		{"one.co.uk", "two.co.uk", "fail"},
		{"one.co.uk", "co.uk", "fail"},
		{"one.co.uk", "m.one.co.uk", "pass"},
		{"one.github.io", "two.github.io", "fail"},
	} {
		e := &mta.Evidence{Stranger: true, Findings: []mta.Finding{dkim("pass", tt.signed)},
			Header: &mta.Header{From: []mime.Address{{Kind: mime.Mailbox, Domain: tt.from}}}}
		err := dmarc.New(dmarc.Options{Resolver: z}).Check(t.Context(), mta.AtMessage, e)
		if got := e.Findings[len(e.Findings)-1].Result; got != tt.want || (err != nil) != (tt.want == "fail") {
			t.Errorf("From %s, signed by %s: %s, %v; want %s", tt.from, tt.signed, got, err, tt.want)
		}
	}
}
