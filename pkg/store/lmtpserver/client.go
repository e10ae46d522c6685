package lmtpserver

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/smtpwire"
)

// client implements smtpwire.Handler for one connection.
type client struct {
	server *Server
	log    *slog.Logger

	// The transaction: what MAIL said, and where the accepted recipients are.
	mail    smtpwire.Mail
	targets []store.Target
}

var (
	_ smtpwire.Handler   = (*client)(nil)
	_ smtpwire.Historian = (*client)(nil)
)

// Secured implements smtpwire.Handler.
func (c *client) Secured(tls.ConnectionState) {}

// Hello implements smtpwire.Handler: every client is one of our own network,
// so it may name the message, its mailbox and its flags.
func (c *client) Hello(context.Context, smtpwire.Hello) (smtpwire.Offer, error) {
	return smtpwire.Offer{Trace: true, Deliver: true, History: c.server.o.History != nil}, nil
}

// Auth implements smtpwire.Handler; LMTP has no logins, and Serve knows it.
func (c *client) Auth(context.Context, string) (smtpwire.Exchange, error) {
	return nil, &mail.Status{Code: 502, Enhanced: [3]int{5, 5, 1}, Text: "no logins here"}
}

// Mail implements smtpwire.Handler.
func (c *client) Mail(_ context.Context, m smtpwire.Mail) error {
	if m.Trace == "" {
		m.Trace = mail.NewTraceID()
	}
	c.mail, c.targets = m, nil
	return nil
}

// Rcpt implements smtpwire.Handler.
func (c *client) Rcpt(ctx context.Context, r mail.Recipient) error {
	t, err := c.server.o.Deliverer.Target(ctx, c.mail.From, r)
	if err != nil {
		return err
	}
	if err := c.server.o.Deliverer.Room(ctx, t, c.mail.Size); err != nil {
		return err
	}
	c.targets = append(c.targets, t)
	return nil
}

// Data implements smtpwire.Handler.
func (c *client) Data(ctx context.Context, r io.Reader) []*mail.Status {
	start := time.Now()
	targets := c.targets
	c.targets = nil
	spool := blob.NewSpool(c.server.o.SpoolDir, spoolMemory)
	defer spool.Close()
	var errs []error
	if _, err := io.Copy(spool, r); err != nil {
		errs = mail.All(len(targets), smtpwire.TakingStatus(err))
	} else {
		errs = c.server.o.Deliverer.Store(ctx, c.mail.Trace, spool, targets)
	}
	replies := make([]*mail.Status, len(targets))
	for i, err := range errs {
		if err != nil {
			replies[i] = mail.StatusOf(err)
			continue
		}
		replies[i] = &mail.Status{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "stored as " + string(c.mail.Trace)}
		c.log.Info("message delivered", "trace", string(c.mail.Trace), "from", c.mail.From.String(), "account", targets[i].Account,
			"mailbox", targets[i].Mailbox, "bytes", spool.Size(), "duration", time.Since(start))
	}
	return replies
}

// History implements smtpwire.Historian.
func (c *client) History(ctx context.Context, trace mail.TraceID) ([]byte, error) {
	return c.server.o.History(ctx, trace)
}

// Reset implements smtpwire.Handler.
func (c *client) Reset() { c.targets = nil }
