package smtpwire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// session is one connection on the server's side.
type session struct {
	ctx   context.Context // of the handler's calls
	drain <-chan struct{} // closed when the server stops
	c     *wire.Conn
	o     Options
	h     Handler

	offer  Offer
	hello  bool // the client introduced itself
	esmtp  bool
	tls    bool
	authed bool
	mail   *Mail // the transaction; nil: none
	rcpts  int   // accepted in it

	since  time.Time
	useful bool // a sender or login was accepted
	errors int
	junk   int
	logins int
	closed bool // no more commands
	taken  bool // the Handler takes over
}

// Serve speaks SMTP or LMTP on c, which was made with ReadSize, until the
// client leaves, errs too much, or ctx ends: then it finishes the transaction
// in hand and says 421. It does not close c.
//
// The error is nil if the session ended in order, and else of the connection.
func Serve(ctx context.Context, c *wire.Conn, o Options, h Handler) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer c.InterruptOn(ctx)()
	c.SetTimeouts(0, 2*time.Minute)
	s := &session{ctx: inner, drain: ctx.Done(), c: c, o: o, h: h, since: time.Now()}
	defer s.reset()
	if conn, ok := c.Raw().(*tls.Conn); ok {
		if err := s.handshake(conn); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		s.drained()
	} else {
		s.greet()
	}
	for !s.closed {
		if err := s.next(); err != nil {
			return s.end(err)
		}
		if s.taken {
			return nil
		}
	}
	return s.finish()
}

func (s *session) greet() {
	protocol := "ESMTP"
	if s.o.LMTP {
		protocol = "LMTP"
	}
	s.reply(&mail.Status{Code: 220, Text: s.o.Hostname + " " + protocol + " ready"})
}

// next reads one command and serves it.
func (s *session) next() error {
	s.setDeadline()
	if s.mail == nil { // a transaction is finished before the server drains
		if err := s.c.AwaitCommand(); err != nil {
			return err
		}
	}
	line, err := s.c.ReadLine(maxAuth)
	switch {
	case errors.Is(err, wire.ErrBareCR), errors.Is(err, wire.ErrBareLF):
		s.hangUp(errBareEOL)
		return nil
	case errors.Is(err, wire.ErrTooLong):
		s.hangUp(status(500, 5, 2, "line too long"))
		return nil
	case err != nil:
		return err
	}
	cmd, st := ParseCommand(line)
	if st == nil && len(line)+2 > s.longest(cmd.Verb) {
		st = status(500, 5, 2, "line too long")
	}
	if st != nil {
		s.fail("?", st)
		return nil
	}
	s.debug(cmd)
	return s.dispatch(cmd)
}

func (s *session) longest(verb string) int {
	switch {
	case verb == "AUTH":
		return maxAuth
	case verb == "RCPT" && s.offer.Deliver:
		return maxDeliver
	case verb == "MAIL", verb == "RCPT":
		return maxParams
	}
	return maxCommand
}

func (s *session) setDeadline() {
	var t time.Time
	if s.o.Limits.Command > 0 {
		t = time.Now().Add(s.o.Limits.Command)
	}
	if s.o.Limits.Prelude > 0 && !s.useful {
		if p := s.since.Add(s.o.Limits.Prelude); t.IsZero() || p.Before(t) {
			t = p
		}
	}
	s.c.SetReadDeadline(t)
}

// dispatch serves a command. An error is the connection's.
func (s *session) dispatch(cmd Command) error {
	switch cmd.Verb {
	case "HELO", "EHLO", "LHLO":
		s.greeted(cmd)
	case "STARTTLS":
		return s.startTLS(cmd)
	case "AUTH":
		return s.auth(cmd)
	case "MAIL":
		s.mailFrom(cmd)
	case "RCPT":
		s.rcptTo(cmd)
	case "DATA":
		return s.data(cmd)
	case "BDAT":
		return s.chunk(cmd)
	case "QUIT":
		if s.bare(cmd) {
			s.hangUp(status(221, 0, 0, "goodbye"))
		}
	default:
		s.other(cmd)
	}
	return nil
}

// other serves the commands that carry no mail.
func (s *session) other(cmd Command) {
	s.countJunk()
	if s.closed {
		return
	}
	switch cmd.Verb {
	case "RSET":
		if s.bare(cmd) {
			s.reset()
			s.reply(status(250, 0, 0, "reset"))
		}
	case "NOOP":
		s.reply(status(250, 0, 0, "ok"))
	case "VRFY":
		s.reply(status(252, 0, 0, "send some mail and see"))
	case "HELP":
		s.reply(status(214, 0, 0, "see RFC 5321"))
	case ExtHistory:
		s.history(cmd)
	case "ETRN":
		s.etrn(cmd)
	case "EXPN", "TURN", "SEND", "SOML", "SAML":
		s.fail(cmd.Verb, status(502, 5, 1, "command not implemented"))
	default:
		if foreign(cmd.Verb) {
			s.hangUp(status(500, 5, 1, "this is a mail server"))
			return
		}
		s.fail("?", status(500, 5, 1, "command not recognized"))
	}
}

// foreign reports whether verb begins another protocol's request, or a header
// field: somebody makes a third party send it (ALPACA), and what follows must
// not be taken for commands.
func foreign(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "DELETE", "PATCH", "TRACE":
		return true
	}
	return len(verb) > 1 && verb[len(verb)-1] == ':'
}

// bare refuses a command that has an argument it must not have.
func (s *session) bare(cmd Command) bool {
	if cmd.Arg != "" {
		s.fail(cmd.Verb, status(501, 5, 4, cmd.Verb+" takes no argument"))
		return false
	}
	return true
}

func (s *session) countJunk() {
	s.junk++
	if s.o.Limits.Junk > 0 && s.junk > s.o.Limits.Junk {
		s.hangUp(status(421, 7, 0, "too many commands without mail"))
	}
}

// reply writes st; it is sent when the reader would block.
func (s *session) reply(st *mail.Status) {
	s.c.SetOut(AppendStatus(s.c.Out(), st))
	if st.Code == 421 {
		s.closed = true
	}
}

// ok replies to the client if err is nil, or else refuses verb with it.
func (s *session) ok(verb string, err error, done *mail.Status) bool {
	if err != nil {
		s.fail(verb, mail.StatusOf(err))
		return false
	}
	s.reply(done)
	return true
}

// fail refuses a command, and the client once it has erred too often.
func (s *session) fail(verb string, st *mail.Status) {
	s.logRefusal(verb, st)
	s.errors++
	l := s.o.Limits
	if l.HardErrors > 0 && s.errors >= l.HardErrors && st.Code != 421 {
		s.hangUp(status(421, 7, 0, "too many errors"))
		return
	}
	if l.SoftErrors > 0 && s.errors > l.SoftErrors {
		s.delay(l.ErrorDelay)
	}
	s.reply(st)
}

// delay makes the client wait for its next reply; those it is owed go first.
func (s *session) delay(d time.Duration) {
	if s.c.Flush() != nil || d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.drain:
	}
}

// hangUp is the last reply of this session.
func (s *session) hangUp(st *mail.Status) {
	if st.Code >= 400 {
		s.logRefusal("", st)
	}
	s.reply(st)
	s.closed = true
}

func (s *session) drained() {
	s.hangUp(status(421, 3, 2, s.o.Hostname+" is shutting down"))
}

func (s *session) reset() {
	if s.mail != nil {
		s.h.Reset()
	}
	s.mail, s.rcpts = nil, 0
}

// end turns the error that stopped the reading into the last reply.
func (s *session) end(err error) error {
	switch {
	case errors.Is(err, wire.ErrDraining):
		s.drained()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.hangUp(status(421, 4, 2, "timeout"))
	case errors.Is(err, io.EOF) && s.mail == nil:
		return nil
	default:
		return fmt.Errorf("reading from the client: %w", err)
	}
	return s.finish()
}

// finish sends the last reply, and takes in for a moment what the client still
// sends: closing on unread bytes would reset the connection and with it the
// reply on its way.
func (s *session) finish() error {
	if err := s.c.Flush(); err != nil {
		return fmt.Errorf("writing to the client: %w", err)
	}
	half, ok := s.c.Raw().(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return nil
	}
	s.c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, s.c, lingerBytes)
	return nil
}

const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// logRefusal logs a refusal once: what the Handler has Reported is told at the
// level of the dialogue only.
func (s *session) logRefusal(verb string, st *mail.Status) {
	level, err := slog.LevelInfo, st.Err
	if r, ok := errors.AsType[reported](err); ok {
		level, err = slog.LevelDebug, r.error
	}
	attrs := make([]slog.Attr, 0, 5)
	if verb != "" {
		attrs = append(attrs, slog.String("verb", verb))
	}
	attrs = append(attrs, slog.Int("code", st.Code), slog.String("enhanced", fmt.Sprintf("%d.%d.%d", st.Enhanced[0], st.Enhanced[1], st.Enhanced[2])), slog.String("text", st.Text))
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	s.o.Log.LogAttrs(s.ctx, level, "command refused", attrs...)
}

func (s *session) debug(cmd Command) {
	if !s.o.Log.Enabled(s.ctx, slog.LevelDebug) {
		return
	}
	arg := cmd.Arg
	if cmd.Verb == "AUTH" {
		mechanism, _, _ := strings.Cut(arg, " ")
		arg = mechanism + " <redacted>"
	}
	s.o.Log.LogAttrs(s.ctx, slog.LevelDebug, "command", slog.String("verb", cmd.Verb), slog.String("arg", arg))
}
