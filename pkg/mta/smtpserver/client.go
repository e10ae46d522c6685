package smtpserver

import (
	"context"
	"crypto/tls"
	"io"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/wire/smtpwire"
)

// client implements smtpwire.Handler for one connection.
type client struct {
	server      *Server
	session     mta.Session
	transaction mta.Transaction // nil: none
}

var (
	_ smtpwire.Handler = (*client)(nil)
	_ smtpwire.Starter = (*client)(nil)
)

// Secured implements smtpwire.Handler.
func (c *client) Secured(state tls.ConnectionState) {
	c.session.TLS = &state
	c.session.Client.TLS, c.session.Client.Session = true, &state
	c.session.Helo, c.session.ESMTP, c.session.Identity = "", false, nil
}

// Hello implements smtpwire.Handler.
func (c *client) Hello(_ context.Context, h smtpwire.Hello) (smtpwire.Offer, error) {
	c.session.Helo, c.session.ESMTP = h.Name, h.ESMTP
	o := c.server.o
	offer := smtpwire.Offer{DSN: o.DSN, Chunking: true, RequireTLS: true, ETRN: o.Start != nil && !o.Submission}
	if o.Submission && c.session.Client.Private() {
		offer.Auth = o.Authenticator.Mechanisms(c.session.Client)
	}
	offer.Trace = o.TrustTrace != nil && o.TrustTrace(c.session.Client.Addr.Addr())
	return offer, nil
}

// Mail implements smtpwire.Handler.
func (c *client) Mail(ctx context.Context, m smtpwire.Mail) error {
	if c.session.Submission && c.session.Identity == nil {
		text := "log in first"
		if c.server.o.TLS != nil && !c.session.Client.TLS {
			text = "use STARTTLS, then log in"
		}
		return &mail.Status{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: text}
	}
	t, err := c.server.o.Intake.Begin(ctx, &c.session, mta.Sender{
		From: m.From, Size: m.Size, SMTPUTF8: m.SMTPUTF8, EightBit: m.EightBit, Binary: m.Binary, RequireTLS: m.RequireTLS,
		Ret: m.Ret, EnvID: m.EnvID, Trace: m.Trace,
	})
	if err != nil {
		return smtpwire.Reported(err)
	}
	c.transaction = t
	return nil
}

// Rcpt implements smtpwire.Handler.
func (c *client) Rcpt(ctx context.Context, r mail.Recipient) error {
	if err := c.transaction.Recipient(ctx, r); err != nil {
		return smtpwire.Reported(err)
	}
	return nil
}

// Data implements smtpwire.Handler.
func (c *client) Data(ctx context.Context, r io.Reader) []*mail.Status {
	t := c.transaction
	c.transaction = nil
	spool := blob.NewSpool(c.server.o.SpoolDir, spoolMemory)
	defer spool.Close()
	if _, err := io.Copy(spool, r); err != nil {
		return []*mail.Status{smtpwire.TakingStatus(err)}
	}
	if err := t.Data(ctx, spool); err != nil {
		return []*mail.Status{smtpwire.Reported(err)}
	}
	return []*mail.Status{{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "queued as " + string(t.Trace())}}
}

// Start implements smtpwire.Starter.
func (c *client) Start(ctx context.Context, domain string, wide bool) (int, error) {
	return c.server.o.Start(ctx, domain, wide)
}

// Reset implements smtpwire.Handler.
func (c *client) Reset() { c.transaction = nil }
