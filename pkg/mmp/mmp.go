// Package mmp is the message multiplexor role: it logs a client in and hands
// the connection to the store where the user's mail lives.
//
// The fronts (imapfront, pop3front) say what may be
// said before a login. A Router then chooses the Backend: the door of a store
// in this process, which takes the connection itself, or relay, which logs in
// to a store elsewhere and copies bytes.
package mmp

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Backend serves a client that is already logged in, until it closes.
type Backend interface {
	// Attach answers the pending login command itself and then serves the
	// connection; it closes h.Conn. If it returns a *RefusedError, it has
	// written and read nothing and the front keeps the connection and answers.
	Attach(ctx context.Context, h *Handover) error
}

// Handover is a connection that changes hands.
type Handover struct {
	// Conn is the client's connection: a *tls.Conn, or bare.
	Conn net.Conn
	// ReadAhead holds bytes the client sent after its login command.
	ReadAhead []byte
	// Protocol is directory.ServiceIMAP or directory.ServicePOP3.
	Protocol directory.Service
	// Tag is the tag of the pending IMAP login command.
	Tag string
	// UTF8: the POP3 client asked for UTF-8 before its login (RFC 6856).
	UTF8 bool
	// Identity is who logged in.
	Identity auth.Identity
	// Client is where the client really is, and whether it came by TLS.
	Client auth.Client
	// Hops is how many MMPs the session came through before this one.
	Hops int
	// Trace follows the session through the roles; it is in Log already.
	Trace mail.TraceID
	Log   *slog.Logger
}

// MaxHops is how many MMPs are too many for a session: where one sends users to
// another which sends them back, it ends.
const MaxHops = 5

// Router finds the Backend for a user.
type Router interface {
	// Route returns the Backend of the store that holds u's mail, and that
	// store's name for the log. It dials nothing. A *RefusedError if there is none.
	Route(ctx context.Context, u directory.User) (Backend, string, error)
}

// ErrUnavailable is the cause in a RefusedError for a store that cannot be reached.
var ErrUnavailable = errors.New("store unavailable")

// RefusedError says that the client was not taken. Text is safe to show it.
type RefusedError struct {
	// Unavailable: NO [UNAVAILABLE], try again; else the account may not be used.
	Unavailable bool
	// Credentials: the store verified the password itself and found it wrong.
	Credentials bool
	// Code is a response code that says more, such as LOGIN-DELAY; or empty.
	Code string
	Text string
	Err  error
}

// Error implements error, with the private cause.
func (e *RefusedError) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

// Unwrap returns the private cause.
func (e *RefusedError) Unwrap() error { return e.Err }
