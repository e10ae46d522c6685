// Package auth proves who a client is: the SASL mechanisms (RFC 4422) over a
// directory.Directory, the Identity that a login yields, and the throttle that
// slows guessing.
//
// It is no protocol: doors and fronts carry its challenges and responses, and
// none of them knows a mechanism by name.
package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"

	"mailsrv/pkg/directory"
)

// Errors of a login.
var (
	// ErrBadCredentials: unknown user, wrong password, or an authorization
	// identity that may not be taken; never told apart to the client.
	ErrBadCredentials = directory.ErrBadCredentials
	// ErrUnavailable: the directory could not be asked; never a failed login.
	ErrUnavailable = directory.ErrUnavailable
	// ErrMechanism: no such mechanism, or not without TLS.
	ErrMechanism = errors.New("mechanism not available")
	// ErrMalformed: the client's response is not of the mechanism's form.
	ErrMalformed = errors.New("malformed response")
	// ErrThrottled: too many failures from there; try later.
	ErrThrottled = errors.New("too many failed logins")
	// ErrRefused: the password was right, but the account may not be used
	// (its status, or its service access).
	ErrRefused = errors.New("account may not log in")
)

// Client is where a login comes from.
type Client struct {
	// Addr is the real client's address, through any trusted proxy.
	Addr netip.AddrPort
	// Peer is the trusted proxy that the connection came through and that named
	// Addr (PROXY protocol); not valid: there is none.
	Peer netip.AddrPort
	// TLS says the connection is encrypted: ours, or the client's own as a
	// trusted proxy said.
	TLS bool
	// Service is what it wants to use.
	Service directory.Service
	// Domain completes a login without one; empty: the directory's default.
	Domain string
	// Session is the TLS of this connection, for channel binding and client
	// certificates; nil: there is none.
	Session *tls.ConnectionState
}

// Private reports whether a password may cross the connection: TLS, or
// loopback.
func (c Client) Private() bool { return c.TLS || c.hop().IsLoopback() }

// hop is the other end of the connection itself: a trusted proxy, or the client.
func (c Client) hop() netip.Addr {
	if c.Peer.IsValid() {
		return c.Peer.Addr().Unmap()
	}
	return c.Addr.Addr().Unmap()
}

// Identity is who a client proved to be.
type Identity struct {
	// User is the account that is used (the authorization identity).
	User directory.User
	// Login is the user's login as it was given.
	Login string
	// Mechanism is the SASL name, or LOGIN or USER for the plain commands.
	Mechanism string
	// Proxy names the trusted proxy that vouched for the user; empty if the
	// user gave a password.
	Proxy string
	// Carrier: it is the proxy Proxy, which acts for nobody but moves accounts
	// between stores (CarrierName); there is no User.
	Carrier bool
	// Replay is the password where the user's store has to verify it itself
	// (directory.Replay); else empty. It is never logged.
	Replay string
	// Refused, unless it is nil, is to be told if the store does not take it: a
	// failed login counts and waits as everywhere.
	Refused func(ctx context.Context)
}

// CarrierName is the authorization identity of a proxy that moves accounts
// between stores. No login has it: a uid has no asterisk.
const CarrierName = "*carrier*"

// Authenticator verifies logins. It may be used from many goroutines.
type Authenticator interface {
	// Login verifies a plain login and password, and that the account may use
	// the client's service.
	Login(ctx context.Context, c Client, login, password string) (Identity, error)
	// Mechanisms lists the SASL mechanisms offered to c, strongest first;
	// none where a password may not cross the connection.
	Mechanisms(c Client) []string
	// Start begins an exchange. ErrMechanism.
	Start(mechanism string, c Client) (Exchange, error)
}

// Exchange is the server's side of one SASL exchange, used by one goroutine.
type Exchange interface {
	// Next takes the client's response (nil before the first, if it sent no
	// initial response) and returns the next challenge, or done. With done,
	// Identity holds who it is; an error ends the exchange.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
	// Identity is valid once Next has returned done.
	Identity() Identity
}
