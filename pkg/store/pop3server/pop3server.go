// Package pop3server is the store's POP3 door: the TRANSACTION and UPDATE
// states of RFC 1939, with the extensions that capabilities lists. It begins
// where a front ends: the client is already logged in, and one command waits
// for its answer.
//
// The maildrop is INBOX as it was at the login: numbers stand for UIDs, so that
// mail that comes, and messages that another session removes, change nothing a
// client was told. Nothing is removed or marked before QUIT, then all in one
// commit. No lock keeps other sessions out: none is needed for that.
package pop3server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/pop3wire"
)

// Options make a Server. Store and Directory must be set.
type Options struct {
	Store     store.Store
	Directory directory.Directory
	// LoginDelay is the least time between two logins of one account; zero: none.
	LoginDelay time.Duration
	// IdleTimeout ends a session whose client says nothing; zero: 10 minutes,
	// the least that RFC 1939 §3 allows.
	IdleTimeout time.Duration
	// WriteTimeout ends a session whose client does not read; zero: 2 minutes.
	WriteTimeout time.Duration
	// Now is the clock of LoginDelay; nil: time.Now.
	Now func() time.Time
}

// maxBad is how many bad commands in a row end a session.
const maxBad = 20

// readBuffer is the size of a connection's read buffer in bytes, and so the
// longest command.
const readBuffer = 4 << 10

// Server serves logged-in POP3 clients. It may be used from many goroutines.
type Server struct {
	o      Options
	recent recent
	chunks sync.Pool // of *[chunkSize]byte: lent to sessions while they send a message
}

var _ mmp.Backend = (*Server)(nil)

// New returns a Server.
func New(o Options) *Server {
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 10 * time.Minute
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{o: o, recent: recent{logins: map[string]time.Time{}}, chunks: sync.Pool{New: func() any { return new([chunkSize]byte) }}}
}

// Capabilities lists the lines of CAPA (RFC 2449 §6).
func (s *Server) Capabilities() []string {
	return []string{
		"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER",
		"LOGIN-DELAY " + strconv.Itoa(int(s.o.LoginDelay/time.Second)), "UTF8 USER", "LANG", "IMPLEMENTATION mailsrv",
	}
}

// Attach implements mmp.Backend. When ctx ends the client is told so after the
// command in hand, and nothing is removed. It logs by itself why a session
// ended, and returns nil once it has taken the connection.
func (s *Server) Attach(ctx context.Context, h *mmp.Handover) error {
	work := context.WithoutCancel(ctx) // draining lets the command in hand finish
	granted, err := store.Begin(work, s.o.Store, s.o.Directory, h.Identity.User.Account(), h.Client, store.NoQuota())
	if err != nil {
		return refusal(err)
	}
	account := granted.Account.Name()
	if s.o.LoginDelay > 0 && !s.recent.admit(account, s.o.Now(), s.o.LoginDelay) {
		return &mmp.RefusedError{Unavailable: true, Code: pop3wire.CodeLoginDelay, Text: "minimum time between mail checks is not over yet"}
	}
	drop, err := openMaildrop(work, granted.Account)
	if err != nil {
		return refusal(err)
	}
	conn := wire.NewConn(h.Conn, readBuffer, h.ReadAhead)
	conn.SetTimeouts(s.o.IdleTimeout, s.o.WriteTimeout)
	defer conn.InterruptOn(ctx)()
	c := &session{srv: s, ctx: work, conn: conn, drop: drop, utf8: h.UTF8, log: h.Log}
	begun := time.Now()
	if err := c.run(); err != nil {
		c.log = c.log.With("err", err)
	}
	c.log.Info("session ended", "duration", time.Since(begun).Round(time.Millisecond), "retrieved", c.retrieved, "deleted", c.removed)
	return nil
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
func (c *session) run() (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("panic in a session", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
			c.conn.SetOut(c.conn.Out()[:0]) // perhaps half a response
		}
		if closeErr := c.conn.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("closing connection: %w", closeErr)
		}
	}()
	n, size := c.drop.total()
	c.ok(fmt.Sprintf("%d messages (%d octets)", n, size))
	return c.serve()
}

// recent remembers when each account logged in last.
type recent struct {
	mu     sync.Mutex
	logins map[string]time.Time
	swept  time.Time
}

// admit reports whether account may log in, and then notes that it did.
func (r *recent) admit(account string, now time.Time, delay time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.logins[account]; ok && now.Sub(last) < delay {
		return false
	}
	if now.Sub(r.swept) > delay {
		for a, t := range r.logins {
			if now.Sub(t) >= delay {
				delete(r.logins, a)
			}
		}
		r.swept = now
	}
	r.logins[account] = now
	return true
}
