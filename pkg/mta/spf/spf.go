// Package spf asks whether a client may send mail for the domain that it named
// (RFC 7208), and notes the answer. It refuses nothing: DMARC and the admin
// decide what an answer is worth.
package spf

import (
	"cmp"
	"context"
	"net"
	"strings"
	"time"

	spflib "blitiri.com.ar/go/spf"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver = spflib.DNSResolver

// Options of New.
type Options struct {
	// Resolver is required.
	Resolver Resolver
	// Timeout bounds one evaluation; 0: 20 seconds (RFC 7208 §4.6.4).
	Timeout time.Duration
}

// Check is the SPF check. It may be used from many goroutines.
type Check struct{ o Options }

var _ mta.Check = (*Check)(nil)

// New returns a Check.
func New(o Options) *Check {
	o.Timeout = cmp.Or(o.Timeout, 20*time.Second)
	return &Check{o}
}

// Check implements mta.Check. It judges the reverse-path's domain, and for the
// null reverse-path the HELO name (RFC 7208 §2.4).
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage || !e.Stranger {
		return nil
	}
	from, helo := e.Sender.From, strings.TrimSuffix(e.Session.Helo, ".")
	f := mta.Finding{Method: "spf", Domain: from.Domain,
		Properties: []mta.Property{{Name: "smtp.mailfrom", Value: from.String()}}}
	if from.IsNull() {
		domain, err := mail.ParseDomain(helo)
		if err != nil || strings.HasPrefix(domain, "[") {
			return note(e, f, spflib.None, "no domain to ask about")
		}
		f.Domain, f.Properties[0] = domain, mta.Property{Name: "smtp.helo", Value: domain}
		from = mail.Address{Local: "postmaster", Domain: domain}
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	ip := net.IP(e.Session.Client.Addr.Addr().Unmap().AsSlice())
	result, err := spflib.CheckHostWithSender(ip, helo, from.String(), spflib.WithContext(ctx), spflib.WithResolver(c.o.Resolver))
	if ctx.Err() != nil { // RFC 7208 §4.6.4: time ran out, which says nothing of the record
		result = spflib.TempError
	}
	reason := ""
	if err != nil && result != spflib.Pass {
		reason = err.Error()
	}
	return note(e, f, result, reason)
}

func note(e *mta.Evidence, f mta.Finding, result spflib.Result, reason string) error {
	f.Result, f.Reason = string(result), reason
	e.Note(f)
	return nil
}
