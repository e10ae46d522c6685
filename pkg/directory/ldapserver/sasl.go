package ldapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// Logins prove who a client is that gives a user's name instead of a DN, and slow
// down who guesses passwords; *auth.Logins does.
type Logins interface {
	auth.Authenticator
	// Guard puts a proof of a password under the throttle of Login.
	Guard(ctx context.Context, c auth.Client, account string, prove func() error) error
}

// exchange is a SASL exchange of several binds (RFC 4511 §4.2.1).
type exchange struct {
	mechanism string
	auth.Exchange
}

// client is where the connection comes from, to Logins. What does not leave the
// host is as good as TLS.
func (c *session) client() auth.Client {
	from := auth.Client{TLS: c.secure, Addr: c.from}
	if t, ok := c.out.conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		from.Session = &state
	}
	return from
}

// addressOf is the other end of a connection; of a unix socket, loopback.
func addressOf(conn net.Conn) netip.AddrPort {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	return from
}

// mechanisms are the SASL mechanisms that are offered on this connection.
func (c *session) mechanisms() []string {
	var names []string
	if _, ok := c.peer(); ok {
		names = append(names, mechanismExternal)
	}
	if c.srv.o.Logins != nil && c.secure {
		for _, name := range c.srv.o.Logins.Mechanisms(c.client()) {
			if strings.HasPrefix(name, "SCRAM-") {
				names = append(names, name)
			}
		}
	}
	if c.secure {
		names = append(names, mechanismPlain)
	}
	return names
}

// sasl is a bind, or one of several, by a mechanism. Challenge is for the client
// where the error is saslBindInProgress, too.
func (c *session) sasl(ctx context.Context, req *ldapwire.BindRequest, under *exchange) (who directory.DN, challenge string, err error) {
	if !slices.Contains(c.mechanisms(), req.Mechanism) {
		return who, "", refusal(directory.AuthMethodNotSupported, "unknown authentication method")
	}
	switch {
	case req.Mechanism == mechanismExternal:
		who, err = c.external(req)
		return who, "", err
	case req.Mechanism == mechanismPlain && (c.srv.o.Logins == nil || namesDN(req.Credentials)):
		who, err = c.plain(ctx, req)
		return who, "", err
	}
	if under == nil || under.mechanism != req.Mechanism {
		x, err := c.srv.o.Logins.Start(req.Mechanism, c.client())
		if err != nil {
			return who, "", refusal(directory.AuthMethodNotSupported, "unknown authentication method")
		}
		under = &exchange{req.Mechanism, x}
	}
	var response []byte
	if req.HasCredentials || under == c.exchange {
		response = []byte(req.Credentials)
	}
	answer, done, err := under.Next(ctx, response)
	switch {
	case err != nil:
		return who, "", loginRefused(err)
	case !done:
		c.exchange = under
		return who, string(answer), refusal(directory.SASLBindInProgress, "")
	}
	return under.Identity().User.DN, string(answer), nil
}

// namesDN reports whether a PLAIN message (RFC 4616) names a DN, and no user.
func namesDN(message string) bool {
	parts := strings.Split(message, "\x00")
	return len(parts) != 3 || parts[1] == "" || strings.HasPrefix(parts[1], "dn:") || strings.Contains(parts[1], "=")
}

// loginRefused is the result of a login that failed.
func loginRefused(err error) error {
	switch {
	case errors.Is(err, auth.ErrThrottled):
		return &directory.ResultError{Code: directory.Busy, Text: "too many failed logins, try again later", Err: err}
	case errors.Is(err, auth.ErrMalformed):
		return &directory.ResultError{Code: directory.ProtocolError, Text: "malformed SASL message", Err: err}
	case errors.Is(err, auth.ErrRefused):
		return &directory.ResultError{Code: directory.UnwillingToPerform, Text: "the account may not log in", Err: err}
	case errors.Is(err, directory.ErrBadCredentials):
		return &directory.ResultError{Code: directory.InvalidCredentials, Err: err}
	}
	return err
}

// guarded proves a password under the throttle. Where a service is bound from the
// same host it is that service which asks for its users, and slows them down.
func (c *session) guarded(ctx context.Context, account string, prove func() error) error {
	from := c.client()
	if c.srv.o.Logins == nil || c.srv.hosts.trusted(c.from.Addr().Unmap()) {
		return prove()
	}
	err := c.srv.o.Logins.Guard(ctx, from, account, prove)
	if errors.Is(err, auth.ErrThrottled) {
		return loginRefused(err)
	}
	return err
}
