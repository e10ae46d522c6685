// Package imapserver is the store's IMAP door (RFC 3501, RFC 9051 and the
// extensions that capability.go lists). It begins where a front ends: the
// client is already logged in, and one command waits for its answer.
//
// It is no front (no greeting, TLS or passwords) and no storage: everything it
// knows of a mailbox it reads through the store contract. A session holds a
// sorted array of UIDs and what its client was told of their flags; the
// mailbox's changes by MODSEQ bring it up to date between commands.
//
// The commands of one connection run one after the other, and those that come
// at once are answered in their order: RFC 9051 §5.5 lets a server overlap some,
// but then an answer's message numbers depend on which was first, the memory of
// a connection is that of several commands, and a client gains nothing that a
// second connection does not give. Nothing of the store is held while a client
// reads, so that connections do not wait for each other.
package imapserver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// Options make a Server. Store, Directory, SpoolDir and MaxMessage must be set.
type Options struct {
	Store     store.Store
	Directory directory.Directory
	// Quota bounds accounts whose entry names no quota.
	Quota store.Quota
	// SharedAdmins are the accounts with all rights in the shared tree of their
	// domain.
	SharedAdmins []string
	// MaxMessage is the largest message APPEND takes, in bytes.
	MaxMessage int64
	// SpoolDir is where large messages lie while they come in.
	SpoolDir string
	// ID answers the ID command: names and values in turn (RFC 2971 §3.3).
	ID []string
	// IdleTimeout ends a session whose client says nothing; zero: 30 minutes,
	// the least that RFC 3501 §5.4 allows.
	IdleTimeout time.Duration
	// KeepAlive is how often an idling client hears from us; zero: 2 minutes.
	KeepAlive time.Duration
	// MaxNotified bounds the mailboxes whose changes one session is told of
	// (NOTIFY); zero: 5000.
	MaxNotified int
	// Progress is how often a client hears how far its command is; zero: 10 seconds.
	Progress time.Duration
	// WriteTimeout ends a session whose client does not read; zero: 2 minutes.
	WriteTimeout time.Duration
}

// maxBad is how many bad commands in a row end a session.
const maxBad = 20

// readBuffer is the size of a connection's read buffer in bytes; longer
// commands are put together in a buffer of their own.
const readBuffer = 4 << 10

// Server serves logged-in IMAP clients. It may be used from many goroutines.
type Server struct {
	o          Options
	capability string
}

var _ mmp.Backend = (*Server)(nil)

// New returns a Server.
func New(o Options) *Server {
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 30 * time.Minute
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = 2 * time.Minute
	}
	if o.MaxNotified <= 0 {
		o.MaxNotified = 5000
	}
	if o.Progress <= 0 {
		o.Progress = 10 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 2 * time.Minute
	}
	return &Server{o: o, capability: capabilities(o)}
}

// Attach implements mmp.Backend. When ctx ends the client is told BYE after
// the command in hand. It logs by itself why a session ended, and returns nil
// once it has taken the connection.
func (s *Server) Attach(ctx context.Context, h *mmp.Handover) error {
	work := context.WithoutCancel(ctx) // draining lets the command in hand finish
	c, err := s.begin(work, h)
	if err != nil {
		return refusal(err)
	}
	defer c.conn.InterruptOn(ctx)()
	begun := time.Now()
	if err := c.run(h.Tag); err != nil {
		c.log = c.log.With("err", err)
	}
	c.log.Info("session ended", "duration", time.Since(begun).Round(time.Millisecond))
	return nil
}

// begin makes a session of a connection. It is a function of its own, so that
// what it puts on the stack does not stay there with the session.
func (s *Server) begin(ctx context.Context, h *mmp.Handover) (*session, error) {
	granted, err := store.Begin(ctx, s.o.Store, s.o.Directory, h.Identity.User.Account(), h.Client, s.o.Quota)
	if err != nil {
		return nil, err
	}
	if granted.Sharing != nil {
		granted.Sharing.Admin = slices.Contains(s.o.SharedAdmins, granted.User.Account())
	}
	conn := wire.NewConn(h.Conn, readBuffer, h.ReadAhead)
	conn.SetTimeouts(s.o.IdleTimeout, s.o.WriteTimeout)
	c := &session{
		srv:    s,
		o:      &s.o,
		ctx:    ctx,
		conn:   conn,
		reader: imapwire.NewReader(conn),
		limits: imapwire.LoggedIn(),
		store:  granted,
		log:    h.Log,
	}
	c.reader.OnWake = c.woken
	return c, nil
}

// refusal says why a client that logged in is not served, before anything was
// written to it.
func refusal(err error) *mmp.RefusedError {
	if errors.Is(err, auth.ErrRefused) || errors.Is(err, directory.ErrNotFound) {
		return &mmp.RefusedError{Text: "this account may not be used here", Err: err}
	}
	return &mmp.RefusedError{Unavailable: true, Text: "mail store is temporarily unavailable", Err: err}
}

// run serves the session to its end and closes the connection. A panic ends
// this session alone.
func (c *session) run(tag string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a session", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
			c.conn.SetOut(c.conn.Out()[:0]) // perhaps half a response
			c.bye("[SERVERBUG] internal error")
		}
		c.endNotify()
		c.closeMailbox()
		if closeErr := c.conn.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("closing connection: %w", closeErr)
		}
	}()
	c.conn.WriteString(tag + " OK [CAPABILITY " + c.srv.capability + "] logged in\r\n")
	return c.serve()
}
