package smtpclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Bounds of what the DNS can make us try.
const (
	maxHosts = 5 // MX of a domain
	maxAddrs = 3 // addresses of a host
)

// hop is one address to try.
type hop struct {
	name     string // of the host, without trailing dot
	addr     string // ip:port
	security Security
	auth     *SmartHost // log in as it says; nil: do not
	// protection is what the domain's policy demands; nil: nothing.
	protection *mta.Protection
}

// route finds the addresses to try for a domain, best first. Its error is a
// *mail.Status.
func (c *Client) route(ctx context.Context, domain string) ([]hop, error) {
	switch {
	case c.relay != nil:
		return c.relayHops(ctx)
	case strings.HasPrefix(domain, "["):
		return c.literalHop(domain)
	}
	names, err := c.exchangers(ctx, domain)
	if err != nil {
		return nil, err
	}
	var hops []hop
	refused := false
	for _, name := range names {
		var protection *mta.Protection
		if protection, err = c.protect(ctx, domain, name); err != nil {
			continue
		}
		var addrs []netip.Addr
		if addrs, err = c.addresses(ctx, name); err != nil {
			continue
		}
		for _, a := range addrs {
			if !c.mayConnect(a) {
				refused = true
				continue
			}
			hops = append(hops, hop{name: name, addr: netip.AddrPortFrom(a, uint16(c.o.Port)).String(), security: Opportunistic, protection: protection})
		}
	}
	forbidden, isStatus := errors.AsType[*mail.Status](err)
	switch {
	case len(hops) > 0:
		return hops, nil
	case isStatus:
		return nil, forbidden
	case refused:
		return nil, &mail.Status{Code: 550, Enhanced: [3]int{5, 4, 6}, Text: "the mail host of " + domain + " is this very host"}
	case err != nil && isNotFound(err) && len(names) == 1 && names[0] == domain:
		return nil, &mail.Status{Code: 550, Enhanced: [3]int{5, 1, 2}, Text: "domain " + domain + " does not exist", Err: err}
	case err != nil && isNotFound(err):
		// A dangling MX is more often a mistake of the hour than a farewell.
		return nil, mail.TryLater(4, 4, "the mail host of "+domain+" has no address", err)
	}
	return nil, c.dnsTrouble(ctx, domain, err)
}

// protect asks the policies what host has to prove; the first that demands
// something decides.
func (c *Client) protect(ctx context.Context, domain, host string) (*mta.Protection, error) {
	for _, p := range c.o.Policies {
		protection, err := p.Protect(ctx, domain, host)
		if err != nil {
			return nil, mail.StatusOf(err)
		}
		if protection != nil {
			return protection, nil
		}
	}
	return nil, nil
}

// exchangers lists the hosts of the domain's MX records by preference, hosts of
// one preference shuffled; without MX records, the domain itself (RFC 5321 §5.1).
func (c *Client) exchangers(ctx context.Context, domain string) ([]string, error) {
	asking, cancel := context.WithTimeout(ctx, c.o.Timeouts.DNS)
	defer cancel()
	mxs, err := c.o.Resolver.LookupMX(asking, domain+".")
	if len(mxs) == 0 {
		if err != nil && !isNotFound(err) {
			return nil, c.dnsTrouble(ctx, domain, err)
		}
		return []string{domain}, nil
	}
	if len(mxs) == 1 && (mxs[0].Host == "." || mxs[0].Host == "") { // RFC 7505
		return nil, &mail.Status{Code: 556, Enhanced: [3]int{5, 1, 10}, Text: "domain " + domain + " takes no mail"}
	}
	mxs = slices.Clone(mxs)
	rand.Shuffle(len(mxs), func(i, j int) { mxs[i], mxs[j] = mxs[j], mxs[i] })
	slices.SortStableFunc(mxs, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	var names []string
	for _, mx := range mxs {
		name := strings.ToLower(strings.TrimSuffix(mx.Host, "."))
		if strings.EqualFold(name, c.o.Hostname) {
			break // RFC 5321 §5.1: we are that MX; those behind it would only give it back to us
		}
		if name != "" && !slices.Contains(names, name) && len(names) < maxHosts {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "mail for " + domain + " leads back to this host"}
	}
	return names, nil
}

func (c *Client) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeouts.DNS)
	defer cancel()
	found, err := c.o.Resolver.LookupIPAddr(ctx, strings.TrimSuffix(name, ".")+".")
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, f := range found {
		if a, ok := netip.AddrFromSlice(f.IP); ok && len(addrs) < maxAddrs {
			addrs = append(addrs, a.Unmap().WithZone(f.Zone))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: name, IsNotFound: true}
	}
	return addrs, nil
}

// relayHops is the route through a host that our own configuration names: it
// may well be on this machine.
func (c *Client) relayHops(ctx context.Context) ([]hop, error) {
	host, port, err := net.SplitHostPort(withPort(c.relay.Addr, 587))
	if err != nil {
		return nil, mail.TryLater(3, 5, "the relay is misconfigured", err)
	}
	addrs, err := c.addresses(ctx, host)
	if err != nil {
		return nil, c.dnsTrouble(ctx, host, err)
	}
	var hops []hop
	for _, a := range addrs {
		h := hop{name: host, addr: net.JoinHostPort(a.String(), port), security: c.relay.TLS}
		if c.relay.Username != "" {
			h.auth = c.relay
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// literalHop is the route to an address literal (RFC 5321 §4.1.3).
func (c *Client) literalHop(domain string) ([]hop, error) {
	text := strings.TrimPrefix(strings.Trim(domain, "[]"), "IPv6:")
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil, &mail.Status{Code: 550, Enhanced: [3]int{5, 1, 2}, Text: "bad address literal", Err: err}
	}
	if !c.mayConnect(a) {
		return nil, &mail.Status{Code: 550, Enhanced: [3]int{5, 4, 6}, Text: "that address is this very host"}
	}
	return []hop{{name: a.String(), addr: netip.AddrPortFrom(a, uint16(c.o.Port)).String(), security: Opportunistic}}, nil
}

// secure leaves the hops whose name a policy or our own configuration vouches
// for, and whose certificate is verified: what REQUIRETLS asks of a next hop
// (RFC 8689 §4.2.1).
func secure(hops []hop) []hop {
	return slices.DeleteFunc(slices.Clone(hops), func(h hop) bool { return !h.insists() })
}

// mayConnect keeps a stranger's DNS from leading us to ourselves.
func (c *Client) mayConnect(a netip.Addr) bool {
	a = a.Unmap()
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return false
	case c.o.AllowLoopback:
		return true
	case a.IsLoopback():
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true // the loop would still end at the bound on Received fields
	}
	return !slices.ContainsFunc(own, func(o net.Addr) bool {
		p, err := netip.ParsePrefix(o.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

func isNotFound(err error) bool {
	d, ok := errors.AsType[*net.DNSError](err)
	return ok && d.IsNotFound
}

// dnsTrouble is every failure of the DNS that is no answer: never a bounce. One
// who has nothing to say of the root either is out of service himself.
func (c *Client) dnsTrouble(ctx context.Context, name string, err error) error {
	ctx, cancel := context.WithTimeout(ctx, min(c.o.Timeouts.DNS, 2*time.Second))
	defer cancel()
	if _, dead := c.o.Resolver.LookupMX(ctx, "."); dead != nil && !isNotFound(dead) {
		err = fmt.Errorf("%w: %w", mail.ErrOutage, err)
	}
	return mail.TryLater(4, 3, "the DNS gave no answer about "+name, err)
}

// withPort completes host to host:port.
func withPort(host string, port int) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}
