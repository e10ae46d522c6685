package dane_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/dane"
)

// resolver is a validating resolver on loopback. Names in unsigned have no
// signature, names in bogus a wrong one.
type resolver struct {
	addr            string
	mu              sync.Mutex
	records         map[string][]string // by "name TYPE"
	unsigned, bogus map[string]bool
}

func newResolver(t *testing.T) *resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{addr: conn.LocalAddr().String(), records: map[string][]string{}, unsigned: map[string]bool{}, bogus: map[string]bool{}}
	ready := make(chan struct{})
	s := &dns.Server{PacketConn: conn, Handler: r, NotifyStartedFunc: func() { close(ready) }}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		s.Shutdown()
		<-done
	})
	return r
}

func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name := strings.TrimSuffix(q.Question[0].Name, ".")
	kind := dns.TypeToString[q.Question[0].Qtype]
	for _, text := range r.records[name+" "+kind] {
		rr, err := dns.NewRR(q.Question[0].Name + " 60 IN " + kind + " " + text)
		if err == nil {
			m.Answer = append(m.Answer, rr)
		}
	}
	m.AuthenticatedData = !r.unsigned[name]
	if r.bogus[name] {
		m.Rcode, m.Answer, m.AuthenticatedData = dns.RcodeServerFailure, nil, false
	}
	_ = w.WriteMsg(m)
}

// chain is a certificate for mx.far.test, and its authority's.
func chain(t *testing.T) (leaf, authority *x509.Certificate) {
	t.Helper()
	make := func(name string, ca bool, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: ca,
			BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		if parent == nil {
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	authority, key := make("ca.far.test", true, nil, nil)
	leaf, _ = make("mx.far.test", false, authority, key)
	return leaf, authority
}

func tlsa(t *testing.T, usage, selector, matching int, c *x509.Certificate) string {
	t.Helper()
	r := &dns.TLSA{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeTLSA, Class: dns.ClassINET}}
	if err := r.Sign(usage, selector, matching, c); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(r.String(), r.Hdr.String())
}

func TestProtect(t *testing.T) {
	leaf, ca := chain(t)
	other, otherCA := chain(t)
	const name = "_25._tcp.mx.far.test"
	with := func(records ...string) func(*resolver) {
		return func(r *resolver) { r.records[name+" TLSA"] = records }
	}
	tests := []struct {
		name   string
		change func(*resolver)
		want   string // "free", "no", or what the certificate meets
	}{
		{"no records", func(*resolver) {}, "free"},
		{"the certificate's key", with(tlsa(t, 3, 1, 1, leaf)), "good"},
		{"the whole certificate", with(tlsa(t, 3, 0, 2, leaf)), "good"},
		{"the certificate in full", with(tlsa(t, 3, 0, 0, leaf)), "good"},
		{"another certificate", with(tlsa(t, 3, 1, 1, other)), "bad"},
		{"one of several", with(tlsa(t, 3, 1, 1, other), tlsa(t, 3, 1, 1, leaf)), "good"},
		{"the authority", with(tlsa(t, 2, 0, 1, ca)), "good"},
		{"another authority", with(tlsa(t, 2, 0, 1, otherCA)), "bad"},
		{"usages that are not for SMTP", with(tlsa(t, 1, 1, 1, other)), "good"},
		{"records are not signed", func(r *resolver) { with(tlsa(t, 3, 1, 1, other))(r); r.unsigned[name] = true }, "free"},
		{"addresses are not signed", func(r *resolver) { with(tlsa(t, 3, 1, 1, other))(r); r.unsigned["mx.far.test"] = true }, "free"},
		{"MX is not signed", func(r *resolver) { with(tlsa(t, 3, 1, 1, other))(r); r.unsigned["far.test"] = true }, "free"},
		{"records are bogus", func(r *resolver) { r.bogus[name] = true }, "no"},
		{"addresses are bogus", func(r *resolver) { r.bogus["mx.far.test"] = true }, "no"},
		{"MX is bogus", func(r *resolver) { r.bogus["far.test"] = true }, "no"},
		{"the resolver does not validate", func(r *resolver) { with(tlsa(t, 3, 1, 1, other))(r); r.unsigned[""] = true }, "free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newResolver(t)
			r.mu.Lock()
			r.records["far.test MX"] = []string{"10 mx.far.test."}
			r.records["mx.far.test A"] = []string{"192.0.2.1"}
			tt.change(r)
			r.mu.Unlock()
			p := dane.New(dane.Options{Server: r.addr, Log: slog.New(slog.DiscardHandler)})
			protection, err := p.Protect(t.Context(), "far.test", "mx.far.test")
			got := "free"
			switch {
			case err != nil && !mail.IsPermanent(err):
				got = "no"
			case err != nil:
				t.Fatal(err)
			case protection == nil:
			case protection.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, ca}}) == nil:
				got = "good"
			default:
				got = "bad"
			}
			if got != tt.want {
				t.Errorf("%s, want %s (%v)", got, tt.want, err)
			}
		})
	}
}

// TestAuthorityDoesNotVouchForOtherNames: with DANE-TA the name counts.
func TestAuthorityDoesNotVouchForOtherNames(t *testing.T) {
	leaf, ca := chain(t)
	r := newResolver(t)
	r.mu.Lock()
	r.records["other.test MX"] = []string{"10 mail.other.test."}
	r.records["mail.other.test A"] = []string{"192.0.2.1"}
	r.records["_25._tcp.mail.other.test TLSA"] = []string{tlsa(t, 2, 0, 1, ca)}
	r.mu.Unlock()
	p := dane.New(dane.Options{Server: r.addr, Log: slog.New(slog.DiscardHandler)})
	protection, err := p.Protect(t.Context(), "other.test", "mail.other.test")
	if err != nil || protection == nil {
		t.Fatal(protection, err)
	}
	if protection.Verify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf, ca}}) == nil {
		t.Error("a certificate for mx.far.test was taken for mail.other.test's")
	}
}

// TestOnlyALocalResolverIsBelieved: the AD bit can be set by whoever is in between.
func TestOnlyALocalResolverIsBelieved(t *testing.T) {
	var log bytes.Buffer
	p := dane.New(dane.Options{Server: "192.0.2.53:53", Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 3 {
		if protection, err := p.Protect(t.Context(), "far.test", "mx.far.test"); protection != nil || err != nil {
			t.Error(protection, err)
		}
	}
	if n := strings.Count(log.String(), "DANE is off"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
