// Package lmtpclient delivers to a store that runs elsewhere, by LMTP
// (RFC 2033): another mailsrv, or a foreign product such as Dovecot.
//
// To a store that announces XDELIVER the mailbox, flags and trace of a
// recipient travel as parameters; to any other the mailbox becomes a
// subaddress (user+mailbox@domain) and the rest is lost. It decides nothing
// about recipients; what the store says of each is what its caller gets.
package lmtpclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire/smtpwire"
)

// Options of New. Zero values mean the defaults.
type Options struct {
	// Network and Addr are as net.Dial takes them; "tcp" if Network is empty.
	Network, Addr string
	// Hostname is how we call ourselves.
	Hostname string
	// TLS makes STARTTLS a condition of any delivery; its ServerName is taken
	// from Addr if it has none. nil: no TLS.
	TLS *tls.Config
	// Connections bounds how many there are at a time; 0: 16. Further
	// deliveries wait.
	Connections int
	// Idle is how long a connection without work is kept; 0: one minute.
	Idle time.Duration
	// Connect, Command and Final are the waits for a connection, for the
	// reply to a command or the taking of a block of the message, and for the
	// replies after the message; 0: 10 s, 1 min, 5 min.
	Connect, Command, Final time.Duration
	// Dial replaces net.Dialer.DialContext.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log gets a line for each recipient whose message the store took, and the
	// dialogue's failures at Debug; what became of a message is in the errors.
	Log *slog.Logger
}

// Client is a mail.Deliverer for one store. It may be used from many
// goroutines.
type Client struct {
	o    Options
	pool pool
}

var _ mail.Deliverer = (*Client)(nil)

// New returns a Client. It dials nothing yet. The caller closes it.
func New(o Options) *Client {
	o.Network = cmp.Or(o.Network, "tcp")
	o.Connections = cmp.Or(o.Connections, 16)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.Connect = cmp.Or(o.Connect, 10*time.Second)
	o.Command = cmp.Or(o.Command, time.Minute)
	o.Final = cmp.Or(o.Final, 5*time.Minute)
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.TLS != nil && o.TLS.ServerName == "" {
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName, _, _ = net.SplitHostPort(o.Addr)
	}
	return &Client{o: o, pool: pool{slots: make(chan struct{}, o.Connections), keep: o.Idle}}
}

// Close closes the idle connections, and those in use as they come back.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}

// Deliver implements mail.Deliverer. Errors are *mail.Status: the store's own
// words, or 451 4.4.1 and mail.ErrOutage where it could not be reached, or was
// lost on the way.
// In the latter case the message may be there already; a store of ours then
// takes a second try for done, by its trace.
func (c *Client) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	if err := c.pool.acquire(ctx); err != nil {
		return mail.All(len(env.To), c.outage(err))
	}
	defer c.pool.release()
	for {
		conn, used, err := c.connection(ctx)
		if err != nil {
			return mail.All(len(env.To), c.outage(err))
		}
		errs, err := c.deliver(ctx, conn, env, body)
		if stale, ok := errors.AsType[*staleError](err); ok && used {
			c.o.Log.Debug("idle connection was dead", "host", c.o.Addr, "err", stale.err)
			continue // the next one, in the end a new one, for which used is false
		}
		return errs
	}
}

// connection returns an idle connection, or a new one.
func (c *Client) connection(ctx context.Context) (conn *connection, used bool, err error) {
	if conn := c.pool.get(); conn != nil {
		return conn, true, nil
	}
	conn, err = c.dial(ctx)
	return conn, false, err
}

// deliver runs one transaction, and gives the connection back to the pool or
// closes it. The error says what broke the connection; errs is complete all
// the same.
func (c *Client) deliver(ctx context.Context, conn *connection, env mail.Envelope, body mail.Body) ([]error, error) {
	stop := context.AfterFunc(ctx, func() { conn.wire.Close() })
	t := &transaction{conn: conn, env: env, body: body, errs: make([]error, len(env.To))}
	err := t.run()
	c.tell(t)
	if !stop() {
		err = cmp.Or(err, ctx.Err())
	}
	if err != nil {
		conn.wire.Close()
		t.fillIn(c.failure(err))
		return t.errs, err
	}
	c.pool.put(conn)
	return t.errs, nil
}

// tell logs what the store took, in its own words.
func (c *Client) tell(t *transaction) {
	for i, r := range t.stored {
		if r.Code != 0 {
			c.o.Log.Info("message taken by a store", "trace", string(t.env.Trace), "to", t.env.To[i].Address.String(), "host", c.o.Addr, "reply", r.Status().Reply())
		}
	}
}

// failure is the answer for recipients that the store has not answered for.
func (c *Client) failure(err error) error {
	if errors.Is(err, smtpwire.ErrText) {
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: "message has bare CR or LF", Err: err}
	}
	return c.outage(err)
}

func (c *Client) outage(err error) error {
	return mail.TryLater(4, 1, "mailbox store cannot be reached, try again later", fmt.Errorf("%w: delivering to store %s: %w", mail.ErrOutage, c.o.Addr, err))
}
