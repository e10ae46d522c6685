package lmtpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/smtpwire"
)

// connection is a session with the store, between or in transactions.
type connection struct {
	wire           *wire.Conn
	ext            smtpwire.Extensions
	command, final time.Duration
	expire         *time.Timer // while it is idle
}

// dial opens a session: greeting, LHLO, and TLS where it is wanted.
func (c *Client) dial(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Connect)
	defer cancel()
	raw, err := c.o.Dial(ctx, c.o.Network, c.o.Addr)
	if err != nil {
		return nil, err
	}
	conn := &connection{wire: wire.NewConn(raw, smtpwire.ReadSize, nil), command: c.o.Command, final: c.o.Final}
	conn.wire.SetTimeouts(c.o.Command, c.o.Command)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	err = conn.open(ctx, c.o.Hostname, c.o.TLS)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c *connection) open(ctx context.Context, hostname string, config *tls.Config) error {
	if err := c.expect(220, "the connection"); err != nil {
		return err
	}
	if err := c.hello(hostname); err != nil {
		return err
	}
	if config == nil {
		return nil
	}
	if !c.ext.Has(smtpwire.ExtStartTLS) {
		return errors.New("the store offers no STARTTLS")
	}
	c.wire.WriteString("STARTTLS\r\n")
	if err := c.expect(220, "STARTTLS"); err != nil {
		return err
	}
	conn := tls.Client(c.wire.Raw(), config)
	// Bytes that came with the 220 must not be read as replies of the TLS
	// session (RFC 3207 §4.2): Upgrade refuses them.
	if err := c.wire.Upgrade(conn); err != nil {
		return err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return c.hello(hostname)
}

func (c *connection) hello(hostname string) error {
	c.wire.WriteString("LHLO " + hostname + "\r\n")
	r, err := smtpwire.ReadReply(c.wire)
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return unexpected("LHLO", r)
	}
	c.ext = smtpwire.ParseExtensions(r)
	return nil
}

// expect reads a reply that must have the code.
func (c *connection) expect(code int, what string) error {
	r, err := smtpwire.ReadReply(c.wire)
	if err != nil {
		return err
	}
	if r.Code != code {
		return unexpected(what, r)
	}
	return nil
}

// reply reads a reply that is an answer: 421 ends the connection, and 3yz has
// no place where this is called.
func (c *connection) reply(what string) (smtpwire.Reply, error) {
	r, err := smtpwire.ReadReply(c.wire)
	if err == nil && (r.Code == 421 || r.Code/100 == 3) {
		err = unexpected(what, r)
	}
	return r, err
}

func unexpected(what string, r smtpwire.Reply) error {
	return fmt.Errorf("reply to %s: %s", what, r.Status().Reply())
}

// quit says goodbye without waiting for the answer.
func (c *connection) quit() {
	c.wire.SetTimeouts(0, time.Second)
	c.wire.WriteString("QUIT\r\n")
	_ = c.wire.Flush()
	c.wire.Close()
}
