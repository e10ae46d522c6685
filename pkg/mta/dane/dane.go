// Package dane asks the DNS, where it is signed, which certificates the mail
// hosts of a domain have (DANE for SMTP, RFC 7672). A host with such records is
// never spoken to without TLS, nor with another certificate.
//
// It believes a validating resolver on this very machine and nobody else: an
// answer's AD bit is worth no more than the way it came.
package dane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Options of New.
type Options struct {
	// Server is the resolver, host:port; empty: the first of /etc/resolv.conf.
	Server string
	// Port of the mail hosts; 0: 25.
	Port int
	// Timeout bounds each question; 0: 10 seconds.
	Timeout time.Duration
	Log     *slog.Logger
}

// Policy is an mta.TLSPolicy. It may be used from many goroutines.
type Policy struct {
	o Options

	mu      sync.Mutex
	probed  time.Time
	trusted bool
}

var _ mta.TLSPolicy = (*Policy)(nil)

// reprobe is how long it is believed that the resolver validates, or not.
const reprobe = 10 * time.Minute

// errBogus: the resolver could not answer; for a signed name that may be an attack.
var errBogus = errors.New("no valid answer")

// New returns a Policy.
func New(o Options) *Policy {
	if o.Server == "" {
		if c, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil && len(c.Servers) > 0 {
			o.Server = net.JoinHostPort(c.Servers[0], c.Port)
		}
	}
	o.Port = cmp.Or(o.Port, 25)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return &Policy{o: o}
}

// Protect implements mta.TLSPolicy: the steps of RFC 7672 §2.2.
func (p *Policy) Protect(ctx context.Context, domain, host string) (*mta.Protection, error) {
	if !p.validates(ctx) {
		return nil, nil
	}
	later := func(err error) error {
		return mail.TryLater(7, 10, "the DNS gave no valid answer about the mail hosts of "+domain, err)
	}
	if domain != host {
		mx, err := p.ask(ctx, domain, dns.TypeMX)
		if err != nil {
			return nil, later(err)
		}
		if !mx.AuthenticatedData {
			return nil, nil
		}
	}
	signed, err := p.signedAddress(ctx, host)
	if err != nil {
		return nil, later(err)
	}
	if !signed {
		return nil, nil
	}
	answer, err := p.ask(ctx, fmt.Sprintf("_%d._tcp.%s", p.o.Port, host), dns.TypeTLSA)
	if err != nil {
		return nil, later(err)
	}
	var records []*dns.TLSA
	for _, rr := range answer.Answer {
		if r, ok := rr.(*dns.TLSA); ok {
			records = append(records, r)
		}
	}
	if !answer.AuthenticatedData || len(records) == 0 {
		return nil, nil
	}
	return &mta.Protection{By: "dane", Verify: judge(usable(records), host, domain)}, nil
}

// signedAddress reports whether the host's addresses are signed: records for
// one whose addresses are not prove nothing (RFC 7672 §2.2.2).
func (p *Policy) signedAddress(ctx context.Context, host string) (bool, error) {
	a, err := p.ask(ctx, host, dns.TypeA)
	if err != nil {
		return false, err
	}
	if len(a.Answer) == 0 {
		if a, err = p.ask(ctx, host, dns.TypeAAAA); err != nil {
			return false, err
		}
	}
	return a.AuthenticatedData, nil
}

// validates reports whether the resolver is one to be believed: it is on this
// machine, and the root zone is signed in its eyes.
func (p *Policy) validates(ctx context.Context) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.probed) < reprobe {
		return p.trusted
	}
	was, first := p.trusted, p.probed.IsZero()
	reason := ""
	if a, err := netip.ParseAddrPort(p.o.Server); err != nil || !a.Addr().Unmap().IsLoopback() {
		reason = "the resolver is not on this machine"
	} else if r, err := p.ask(ctx, ".", dns.TypeSOA); err != nil {
		reason = err.Error()
	} else if !r.AuthenticatedData {
		reason = "the resolver does not validate"
	}
	if ctx.Err() != nil {
		return was // it is the caller who gave up
	}
	p.probed, p.trusted = time.Now(), reason == ""
	switch {
	case !p.trusted && (was || first):
		p.o.Log.Info("DANE is off", "resolver", p.o.Server, "err", reason)
	case p.trusted && !was:
		p.o.Log.Info("DANE is on", "resolver", p.o.Server)
	}
	return p.trusted
}

// ask puts one question. NXDOMAIN is an answer; whatever is none is errBogus.
func (p *Policy) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(1232, true)
	q.AuthenticatedData = true
	for _, network := range []string{"udp", "tcp"} {
		r, _, err := (&dns.Client{Net: network}).ExchangeContext(ctx, q, p.o.Server)
		switch {
		case err != nil:
			return nil, fmt.Errorf("asking for %s %s: %w: %w", dns.TypeToString[kind], name, errBogus, err)
		case r.Truncated && network == "udp":
		case r.Rcode == dns.RcodeSuccess, r.Rcode == dns.RcodeNameError:
			return r, nil
		default:
			return nil, fmt.Errorf("asking for %s %s: %w: %s", dns.TypeToString[kind], name, errBogus, dns.RcodeToString[r.Rcode])
		}
	}
	return nil, fmt.Errorf("asking for %s %s: %w: truncated", dns.TypeToString[kind], name, errBogus)
}
