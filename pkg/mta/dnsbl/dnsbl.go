// Package dnsbl asks lists in the DNS what they know of a client's address
// (RFC 5782): lists of bad ones, and lists of good ones (RFC 8904).
package dnsbl

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Action is what a listing leads to.
type Action string

// The actions.
const (
	Refuse Action = "refuse" // the client is refused at MAIL FROM
	Junk   Action = "junk"   // its messages are filed into Junk
	Vouch  Action = "vouch"  // it is a good one: no other list counts
)

// List is one list.
type List struct {
	// Zone is the list's domain.
	Zone   string
	Action Action
}

// Resolver asks the DNS for address records; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of New.
type Options struct {
	Lists []List
	// Resolver is required.
	Resolver Resolver
	// Timeout bounds all questions about one client, which are asked at the
	// same time; 0: 5 seconds. A list that gives no answer counts for nothing.
	Timeout time.Duration
	Log     *slog.Logger
}

// Check asks the lists. It may be used from many goroutines.
type Check struct{ o Options }

var _ mta.Check = (*Check)(nil)

// New returns a Check.
func New(o Options) *Check {
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	return &Check{o}
}

// Check implements mta.Check.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtSender || !e.Stranger {
		return nil
	}
	listed := c.ask(ctx, e.Session.Client.Addr.Addr().Unmap())
	if i := slices.IndexFunc(listed, func(l List) bool { return l.Action == Vouch }); i >= 0 {
		e.Vouched = true
		e.Note(mta.Finding{Method: "dnswl", Result: "pass", Properties: []mta.Property{{Name: "dns.zone", Value: listed[i].Zone}}})
		return nil
	}
	for _, l := range listed {
		if l.Action == Refuse {
			return mail.Refuse(7, 1, "your address is listed by "+l.Zone)
		}
		e.Suspect("the client is listed by " + l.Zone)
	}
	return nil
}

// ask returns the lists that know the address, in their order.
func (c *Check) ask(ctx context.Context, ip netip.Addr) []List {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	hits := make([]bool, len(c.o.Lists))
	var wg sync.WaitGroup
	for i, l := range c.o.Lists {
		wg.Go(func() {
			answers, err := c.o.Resolver.LookupNetIP(ctx, "ip4", reversed(ip)+"."+l.Zone)
			if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
				return
			}
			if err != nil {
				c.o.Log.Warn("list not asked", "zone", l.Zone, "err", err)
				return
			}
			hits[i] = slices.ContainsFunc(answers, listing)
			if !hits[i] && len(answers) > 0 {
				c.o.Log.Warn("list not asked", "zone", l.Zone, "err", "it answers "+answers[0].String()+", which is no listing")
			}
		})
	}
	wg.Wait()
	var listed []List
	for i, l := range c.o.Lists {
		if hits[i] {
			listed = append(listed, l)
		}
	}
	return listed
}

// listing tells an entry (127.0.0.0/8, RFC 5782 §2.1) from what a list says to
// those it does not serve (127.255.255.0/24), and from a lost domain's new owner.
func listing(a netip.Addr) bool {
	b := a.Unmap().As4()
	return b[0] == 127 && (b[1] != 255 || b[2] != 255)
}

// reversed is an address as lists name it (RFC 5782 §2.1, §2.4).
func reversed(ip netip.Addr) string {
	var labels []string
	if ip.Is4() {
		for _, b := range ip.As4() {
			labels = append(labels, strconv.Itoa(int(b)))
		}
	} else {
		b := ip.As16()
		labels = strings.Split(hex.EncodeToString(b[:]), "")
	}
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}
