package mta

import (
	"context"
	"crypto/tls"
	"log/slog"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
)

// Intake takes messages in for a door, one Transaction at a time.
type Intake interface {
	// Begin judges the sender (MAIL FROM). Its error is a *mail.Status, or transient.
	Begin(ctx context.Context, s *Session, m Sender) (Transaction, error)
}

// Transaction is one mail transaction (RFC 5321 §3.3), used by one goroutine.
// Dropping it at any point before Data returns nil means nothing happened.
type Transaction interface {
	// Trace names the message from now on.
	Trace() mail.TraceID
	// Recipient judges one RCPT TO; r.Address has no domain for <postmaster>.
	// A refusal leaves the transaction as it was.
	Recipient(ctx context.Context, r mail.Recipient) error
	// Data takes the message for all recipients accepted so far. nil means
	// that each is durable somewhere: in its store, or in the queue.
	Data(ctx context.Context, body mail.Body) error
}

// Session is what a door knows of its client. The door owns it; Intake reads it.
type Session struct {
	Client auth.Client
	// Submission: the client is a user's mail program (RFC 6409), and Identity
	// is not nil. Else it is another MTA.
	Submission bool
	Identity   *auth.Identity
	// Helo is the argument of HELO, EHLO; ESMTP tells which of the two it was.
	Helo  string
	ESMTP bool
	// TLS is nil on a plain connection.
	TLS *tls.ConnectionState
	Log *slog.Logger
}

// Sender is what MAIL FROM said.
type Sender struct {
	From mail.Address
	// Size is the declared size in bytes; 0: not declared.
	Size     int64
	SMTPUTF8 bool
	EightBit bool
	// Ret and EnvID: see mail.Envelope.
	Ret, EnvID string
	// Trace is kept if a trusted peer passed it on; empty: a new one is made.
	Trace mail.TraceID
}
