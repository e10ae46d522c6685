// Package submitfront is what a client that submits mail may say before it has
// logged in: EHLO, STARTTLS, AUTH, NOOP, RSET, QUIT (RFC 6409, RFC 4954, RFC
// 3207). It then hands the connection, with AUTH unanswered, to the Backend of
// an MTA (relay), which answers it.
//
// It takes no mail: MAIL before a login is refused. The dialogue is smtpwire's,
// with its bounds and its order.
package submitfront

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/smtpwire"
)

// Options are a Front's parts and bounds.
type Options struct {
	mmp.FrontOptions
	// MaxSize is announced, in bytes; what counts is the MTA's own. 0: none is.
	MaxSize int64
}

// Front serves connections up to their login.
type Front struct{ o Options }

// New returns a Front. It may serve many connections at once.
func New(o Options) *Front {
	o.FrontOptions = o.WithDefaults()
	o.ReadSize = smtpwire.ReadSize
	return &Front{o: o}
}

// Busy is what a client over a limit hears (RFC 5321 §3.8).
func Busy(hostname string) string {
	return "421 4.7.0 " + hostname + " too many connections, try again later\r\n"
}

// ServeConn serves one connection until it ends, by its Backend after a login,
// and closes it. When ctx ends the client is told 421. conn is a *tls.Conn, or
// bare; its RemoteAddr is the real client's.
func (f *Front) ServeConn(ctx context.Context, conn net.Conn) {
	v, err := f.o.Receive(ctx, conn, directory.ServiceSMTP)
	defer v.End("421 4.3.0 internal error\r\n")
	if err != nil {
		return
	}
	limits := smtpwire.PublicLimits()
	limits.Logins, limits.Handshake, limits.Prelude = f.o.Failures, f.o.Handshake, f.o.PreLogin
	c := &client{Visitor: v, f: f}
	err = smtpwire.Serve(ctx, v.Conn, smtpwire.Options{Hostname: f.o.Hostname, TLS: f.o.TLS, MaxSize: f.o.MaxSize, Limits: limits, Log: v.Log}, c)
	if err != nil {
		v.Log.Debug("connection failed", "err", err)
	}
	if err != nil || c.identity == nil {
		return
	}
	c.secured()
	c.handOver(ctx)
}

// client implements smtpwire.Handler for one connection.
type client struct {
	*mmp.Visitor
	f        *Front
	state    *tls.ConnectionState // to be told to the Visitor
	identity *auth.Identity       // who logged in
}

var (
	_ smtpwire.Handler = (*client)(nil)
	_ smtpwire.Taker   = (*client)(nil)
)

// Takes implements smtpwire.Taker.
func (c *client) Takes() bool { return c.identity != nil }

// Secured implements smtpwire.Handler.
func (c *client) Secured(state tls.ConnectionState) { c.state = &state }

// secured tells the Visitor of TLS, now that the connection goes on with it.
func (c *client) secured() {
	if c.state != nil {
		c.Upgraded(*c.state)
		c.state = nil
	}
}

// Hello implements smtpwire.Handler. Of what the MTA can do before it is known
// which one it is, SIZE and DSN are told by all.
func (c *client) Hello(context.Context, smtpwire.Hello) (smtpwire.Offer, error) {
	c.secured()
	offer := smtpwire.Offer{}
	if c.Client.Private() {
		offer.Auth = c.f.o.Authenticator.Mechanisms(c.Client)
	}
	return offer, nil
}

// Auth implements smtpwire.Handler.
func (c *client) Auth(_ context.Context, mechanism string) (smtpwire.Exchange, error) {
	c.secured()
	if !c.Client.Private() {
		return nil, &mail.Status{Code: 538, Enhanced: [3]int{5, 7, 11}, Text: "encryption required"} // RFC 4954 §6
	}
	x, err := c.f.o.Authenticator.Start(mechanism, c.Client)
	if err != nil {
		return nil, auth.Status(err)
	}
	return &exchange{c, x}, nil
}

// exchange notes who logged in.
type exchange struct {
	client *client
	inner  auth.Exchange
}

// Next implements smtpwire.Exchange.
func (x *exchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	challenge, done, err := x.inner.Next(ctx, response)
	if err != nil {
		return nil, false, smtpwire.Reported(auth.Status(err)) // package auth has logged the login
	}
	if done {
		id := x.inner.Identity()
		x.client.identity = &id
	}
	return challenge, done, nil
}

// handOver gives the connection to an MTA. If none takes it the client hears
// why, and the connection ends: a mail program tries again by itself.
func (c *client) handOver(ctx context.Context) {
	err := c.HandOver(ctx, c.identity, &mmp.Handover{})
	refused := (*mmp.RefusedError)(nil)
	if !errors.As(err, &refused) {
		return
	}
	st := &mail.Status{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "mail cannot be taken now, try again later"}
	switch {
	case refused.Credentials:
		st = &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "bad credentials"}
	case !refused.Unavailable:
		st = &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 13}, Text: refused.Text}
	}
	c.Conn.SetOut(smtpwire.AppendStatus(c.Conn.Out(), st))
}

// Mail implements smtpwire.Handler.
func (c *client) Mail(context.Context, smtpwire.Mail) error {
	text := "log in first"
	if c.MayStartTLS() && !c.Client.TLS {
		text = "use STARTTLS, then log in"
	}
	return &mail.Status{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: text}
}

// Rcpt and Data come in no transaction.
func (c *client) Rcpt(context.Context, mail.Recipient) error { return errNoTransaction() }

// Data implements smtpwire.Handler.
func (c *client) Data(context.Context, io.Reader) []*mail.Status {
	return []*mail.Status{errNoTransaction()}
}

func errNoTransaction() *mail.Status {
	return &mail.Status{Code: 503, Enhanced: [3]int{5, 5, 1}, Text: "log in first"}
}

// Reset implements smtpwire.Handler.
func (c *client) Reset() {}
