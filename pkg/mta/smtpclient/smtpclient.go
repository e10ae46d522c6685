// Package smtpclient carries messages to other people's hosts: to the MX of a
// recipient's domain (RFC 5321 §5.1), or through one smart host.
//
// It is a client of strangers. Whatever a host answers, however slowly, costs
// one connection for a bounded time, and what it cannot be understood to have
// refused for good is tried again later. TLS towards an MX is opportunistic
// (RFC 7435), used if offered, and not verified, unless a TLSPolicy demands
// more: then there is no message without. It keeps no queue and retries nothing
// by itself beyond the next address of the same destination.
package smtpclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
}

// Options of New.
type Options struct {
	// Hostname is what EHLO says: our name as the DNS knows it.
	Hostname string
	// Resolver; nil: net.DefaultResolver.
	Resolver Resolver
	// SmartHost takes all messages, if not nil.
	SmartHost *SmartHost
	// Policies are asked, in this order, what an MX has to prove; the first
	// that demands something decides.
	Policies []mta.TLSPolicy
	// Port of an MX; 0: 25.
	Port int
	// TLS is the base of each TLS session: roots, versions. nil: Go's defaults.
	TLS *tls.Config
	// AllowLoopback lets an MX be this very host; else such an address is
	// passed over, as a stranger's DNS must not lead us to our own services.
	AllowLoopback bool
	Timeouts      Timeouts
	// Dial opens connections; nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	Log  *slog.Logger
}

// SmartHost is a relay that takes our mail for all the world.
type SmartHost struct {
	// Addr is host:port, or a host whose port is 587.
	Addr string
	TLS  Security
	// Username and Password log in by PLAIN or LOGIN if Username is not
	// empty, over verified TLS or loopback only.
	Username, Password string
}

// Security is how a connection to a relay is protected.
type Security int

// The kinds of protection. The zero value asks for STARTTLS and a certificate
// of the relay's name, and delivers nothing without.
const (
	RequireSTARTTLS Security = iota
	ImplicitTLS              // TLS from the first byte, certificate verified
	Opportunistic            // STARTTLS if offered, not verified
)

// Timeouts bound each stage; zero values are those of RFC 5321 §4.5.3.2.
type Timeouts struct {
	Connect time.Duration // TCP, and then TLS; 0: 30 s
	Command time.Duration // greeting and each reply; 0: 5 min
	Data    time.Duration // the reply to DATA; 0: 2 min
	Block   time.Duration // each 32 KiB of the message; 0: 3 min
	Final   time.Duration // the reply to the final dot; 0: 10 min
	DNS     time.Duration // each question; 0: 10 s
}

// Client is a mail.Deliverer towards the Internet. It may be used from many
// goroutines, and keeps connections for the next message to the same host for
// some seconds. The caller closes it.
type Client struct {
	o    Options
	pool *pool
	// relay is set for a smart host, and for a route given by name.
	relay *SmartHost
}

var _ mail.Deliverer = (*Client)(nil)

// New returns a Client.
func New(o Options) *Client {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	o.Port = cmp.Or(o.Port, 25)
	t := &o.Timeouts
	t.Connect = cmp.Or(t.Connect, 30*time.Second)
	t.Command = cmp.Or(t.Command, 5*time.Minute)
	t.Data = cmp.Or(t.Data, 2*time.Minute)
	t.Block = cmp.Or(t.Block, 3*time.Minute)
	t.Final = cmp.Or(t.Final, 10*time.Minute)
	t.DNS = cmp.Or(t.DNS, 10*time.Second)
	return &Client{o: o, relay: o.SmartHost, pool: &pool{}}
}

// Via returns a Client that hands everything to one host (host or host:port,
// else our port for an MX), with opportunistic TLS and whatever address it has;
// an empty host returns c itself. The two share their connections.
func (c *Client) Via(host string) mail.Deliverer {
	if host == "" {
		return c
	}
	return &Client{o: c.o, relay: &SmartHost{Addr: withPort(host, c.o.Port), TLS: Opportunistic}, pool: c.pool}
}

// Close ends the connections that wait for another message.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}

// perTransaction is how many recipients go into one transaction: as many as
// every server must take (RFC 5321 §4.5.3.1.8).
const perTransaction = 100

// Deliver implements mail.Deliverer. Recipients of one domain share a
// connection; domains are served one after the other. A permanent status is the
// next hop's own refusal, or says that no next hop can exist.
func (c *Client) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	byDomain := make(map[string][]int)
	var order []string
	for i, r := range env.To {
		d := r.Address.Domain
		if c.relay != nil {
			d = ""
		}
		if byDomain[d] == nil {
			order = append(order, d)
		}
		byDomain[d] = append(byDomain[d], i)
	}
	for _, domain := range order {
		indexes := byDomain[domain]
		part := env
		part.To = make([]mail.Recipient, len(indexes))
		for n, i := range indexes {
			part.To[n] = env.To[i]
		}
		for n, err := range c.deliver(ctx, domain, part, body) {
			errs[indexes[n]] = err
		}
	}
	return errs
}

// deliver hands the message to the first host of the route that takes part.
func (c *Client) deliver(ctx context.Context, domain string, env mail.Envelope, body mail.Body) []error {
	hops, err := c.route(ctx, domain)
	if err != nil {
		return mail.All(len(env.To), err)
	}
	if env.RequireTLS {
		if hops = secure(hops); len(hops) == 0 {
			who := "the mail host of " + domain
			if c.relay != nil {
				who = "the relay " + c.relay.Addr
			}
			return mail.All(len(env.To), mail.Refuse(7, 30, "nothing proves who "+who+" is, which the sender demands (REQUIRETLS)"))
		}
	}
	needs, err := needsOf(env, body)
	if err != nil {
		return mail.All(len(env.To), err)
	}
	ctx, cancel := context.WithTimeout(ctx, longest(body.Size()))
	defer cancel()
	if errs := c.reuse(ctx, hops, env, body, needs); errs != nil {
		return errs
	}
	for _, h := range hops {
		var s *session
		if s, err = c.open(ctx, h); err != nil {
			c.o.Log.Info("next hop did not answer well", "trace", string(env.Trace), "host", h.name, "peer", h.addr, "err", err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if err = s.keepsTLS(env); err != nil { // another host may
			c.pool.put(s)
			continue
		}
		errs := s.deliver(env, body, needs)
		c.pool.put(s)
		return errs
	}
	return mail.All(len(env.To), ofHost(mail.StatusOf(err)))
}

// ofHost notes that a failure is the whole host's.
func ofHost(st *mail.Status) *mail.Status {
	if st.Err == nil {
		st.Err = mta.ErrHost
	} else {
		st.Err = fmt.Errorf("%w: %w", mta.ErrHost, st.Err)
	}
	return st
}

// reuse hands the message over a connection that is still open; nil if there is
// none, or the host closed it before it looked at the message.
func (c *Client) reuse(ctx context.Context, hops []hop, env mail.Envelope, body mail.Body, utf8 bool) []error {
	for _, h := range hops {
		s := c.pool.take(ctx, h)
		if s == nil {
			continue
		}
		errs := s.deliver(env, body, utf8)
		if s.broken && !s.begun {
			s.close()
			return nil
		}
		c.pool.put(s)
		return errs
	}
	return nil
}

// longest bounds a whole delivery: a host that takes a byte now and then holds
// one of our slots no longer than this.
func longest(size int64) time.Duration {
	const minRate = 4 << 10 // bytes a second
	return 30*time.Minute + time.Duration(size/minRate)*time.Second
}
