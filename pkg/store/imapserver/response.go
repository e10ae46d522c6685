package imapserver

import (
	"context"
	"errors"
	"fmt"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// errConnection is in the chain of errors of the client's connection that came
// up while a command was served.
var errConnection = errors.New("connection failed")

// response is a tagged NO or BAD. Its text and code are for the client.
type response struct {
	status, code, text string
}

// Error implements error.
func (r *response) Error() string { return r.status + " [" + r.code + "] " + r.text }

// bad is the answer to a command whose arguments could not be read; the
// lexer's errors are safe to show.
func bad(err error) error { return &response{status: "BAD", text: err.Error()} }

// no is the answer to a command that is well formed and cannot be served
// (RFC 5530 response codes).
func no(code, text string) error { return &response{status: "NO", code: code, text: text} }

// fatalError ends the session with BYE and text. The cause is for the log.
type fatalError struct {
	text string
	err  error
}

// Error implements error.
func (e *fatalError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

// Unwrap returns the private cause.
func (e *fatalError) Unwrap() error { return e.err }

// isFatal reports whether a handler's err leaves nothing to answer: the
// connection broke, or it is not known where the next command begins.
func isFatal(err error) bool {
	_, fatal := errors.AsType[*fatalError](err)
	return fatal || errors.Is(err, imapwire.ErrDesync) || errors.Is(err, errConnection) || errors.Is(err, wire.ErrDraining)
}

// connected returns an error if the client can no longer be written to: long
// answers stop there.
func (c *session) connected() error {
	if err := c.conn.Err(); err != nil {
		return fmt.Errorf("writing to the client: %w: %w", errConnection, err)
	}
	return nil
}

// responseOf turns what a store said into what a client may hear. What is our
// own fault is logged here, since no caller sees it any more.
func (c *session) responseOf(err error) *response {
	if r, ok := errors.AsType[*response](err); ok {
		return r
	}
	if wrong, ok := errors.AsType[*imapwire.BadCommandError](err); ok {
		return &response{status: "BAD", code: wrong.Code, text: wrong.Text}
	}
	refused := func(code, text string) *response { return &response{status: "NO", code: code, text: text} }
	switch {
	case errors.Is(err, store.ErrNoMailbox):
		return refused("NONEXISTENT", "no such mailbox")
	case errors.Is(err, store.ErrNoRight):
		return refused("NOPERM", "access denied")
	case errors.Is(err, store.ErrMailboxExists):
		return refused("ALREADYEXISTS", "mailbox already exists")
	case errors.Is(err, store.ErrBadName):
		return refused("CANNOT", "that is no name for a mailbox here")
	case errors.Is(err, store.ErrHasChildren):
		return refused("HASCHILDREN", "mailbox has others below it")
	case errors.Is(err, store.ErrInbox):
		return refused("CANNOT", "INBOX cannot be deleted")
	case errors.Is(err, store.ErrOverQuota):
		return refused("OVERQUOTA", "quota exceeded")
	case errors.Is(err, store.ErrTooMany):
		return refused("LIMIT", "limit reached")
	case errors.Is(err, store.ErrNoMessage):
		return refused("EXPUNGEISSUED", "message is gone")
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		c.log.Warn("store unavailable", "err", err)
		return refused("UNAVAILABLE", "mail store is temporarily unavailable")
	}
	c.log.Error("command failed", "err", err)
	return refused("SERVERBUG", "internal error, try again later")
}
