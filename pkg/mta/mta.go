// Package mta is the mail transfer agent: it takes messages in, judges them,
// resolves their recipients and sees to it that each message is durable
// somewhere before its sender is told so (RFC 5321, RFC 6409).
//
// # A message's way through the house
//
// A client speaks to a door (smtpserver), which knows commands and replies and
// decides nothing. The door opens a Transaction at MAIL FROM. The Agent asks
// its Checks about the sender: its size, and for a submission whether the
// reverse-path belongs to the login.
//
// At each RCPT TO the Resolver turns the forward-path into Targets. It decides
// about the domain, once for each domain of the message: hosted here, an alias
// of one that is, hosted elsewhere, or external. For one of ours it looks for
// the entry of the address, judges its status, and follows routing addresses,
// forwards, groups within groups and catch-alls until nothing is left but
// mailboxes with their mail host, and external addresses. Whoever did not log
// in reaches our own domains only. What is refused is refused now, while the
// client listens; a directory that gives no answer is a transient refusal.
//
// At the end of DATA the Agent reads the header, asks the Checks again, and
// puts its Received field before the message, which is never copied for that.
// Then it delivers through: the Targets in reachable stores get the message at
// once, together with the copy for the sender's own Sent mailbox. All that is
// left, external recipients and stores that could not take it, goes to the
// queue in one entry. Only then the client hears 250 (see the order at Data).
// A recipient of our own is so written once, and refused without a bounce.
//
// The queue (package queue) tries each recipient by the Router, which asks the
// directory anew, and hands the message to a store, in process or by LMTP, or
// to the next hop by package smtpclient. A recipient whose lifetime ends, or
// who is refused for good, is reported to the sender by a DSN, itself a
// message in the queue, made in the commit that ends the recipient. Every hop
// carries the message's TraceID, so that a store takes a repeated delivery
// once, and one search in the log finds the whole way.
//
// This package is the contract with the doors (Intake) and the rules. It speaks
// no protocol and keeps nothing on disk.
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
	// Binary, RequireTLS: see mail.Envelope.
	Binary, RequireTLS bool
	// Ret and EnvID: see mail.Envelope.
	Ret, EnvID string
	// Trace is kept if a trusted peer passed it on; empty: a new one is made.
	Trace mail.TraceID
}
