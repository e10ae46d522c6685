package dmarc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error)
}

// maxLabels is from how many labels on the walk leaves out the middle, so that
// a long name costs no more than eight questions.
const maxLabels = 8

// place is a record and the domain that publishes it.
type place struct {
	domain string
	record Record
}

// walk asks for the records of domain and of the domains above it, as far as
// the public suffix, lowest first. A record that says what it is ends the walk.
func walk(ctx context.Context, dns Resolver, domain string) ([]place, error) {
	suffix, _ := publicsuffix.PublicSuffix(domain)
	var found []place
	for name := domain; ; {
		r, ok, err := lookup(ctx, dns, name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, place{name, r})
			if r.PSD != 'u' {
				return found, nil
			}
		}
		labels := strings.Split(name, ".")
		switch {
		case name == suffix || len(labels) == 1:
			return found, nil
		case len(labels) > maxLabels:
			name = strings.Join(labels[len(labels)-maxLabels+1:], ".")
		default:
			name = strings.Join(labels[1:], ".")
		}
		if len(name) < len(suffix) {
			name = suffix
		}
	}
}

// lookup asks for the record of one domain. Several records, or a malformed
// one, are none.
func lookup(ctx context.Context, dns Resolver, domain string) (Record, bool, error) {
	texts, err := dns.LookupTXT(ctx, "_dmarc."+domain)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("looking up the DMARC record of %s: %w", domain, err)
	}
	var record Record
	n := 0
	for _, t := range texts {
		r, err := ParseRecord(t)
		if errors.Is(err, errNoRecord) {
			continue
		}
		n++
		if record = r; err != nil {
			return Record{}, false, nil
		}
	}
	return record, n == 1, nil
}

// organisation is the top domain of the organisation that domain belongs to,
// after the records found on its walk. A public suffix is nobody's
// organisation unless its record says so.
func organisation(domain string, found []place) string {
	for i, p := range found {
		switch {
		case p.record.PSD == 'n':
			return p.domain
		case p.record.PSD == 'y' && (i > 0 || p.domain != domain):
			return below(domain, p.domain)
		}
	}
	if len(found) == 0 {
		return registered(domain)
	}
	top := found[len(found)-1].domain
	if suffix, _ := publicsuffix.PublicSuffix(domain); top == suffix && top != domain {
		return below(domain, top)
	}
	return top
}

// below is the domain one label below top on the way to domain.
func below(domain, top string) string {
	rest := strings.TrimSuffix(domain, "."+top)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + top
}

// registered is the public suffix and one label: the organisation by the list.
func registered(domain string) string {
	if d, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return d
	}
	return domain
}

// exists reports whether a domain could be the origin of mail at all: it has
// an MX or an address.
func exists(ctx context.Context, dns Resolver, domain string) (bool, error) {
	missing := func(err error) bool {
		e, ok := errors.AsType[*net.DNSError](err)
		return ok && e.IsNotFound
	}
	_, err := dns.LookupMX(ctx, domain)
	if missing(err) {
		_, err = dns.LookupIPAddr(ctx, domain)
	}
	switch {
	case missing(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking up %s: %w", domain, err)
	}
	return true, nil
}
