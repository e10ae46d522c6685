package pop3front

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/pop3wire"
)

// session is one connection in the AUTHORIZATION state.
type session struct {
	*mmp.Visitor
	f    *Front
	user string // named by USER
	utf8 bool   // UTF8 was said
}

// errClosing ends a session whose last words are written.
var errClosing = errors.New("closing")

// serve reads commands until the connection ends or is handed over.
func (s *session) serve(ctx context.Context) {
	for {
		cmd, err := pop3wire.ReadCommand(s.Conn)
		if err == nil {
			err = s.command(ctx, cmd)
		}
		bad := (*pop3wire.BadCommandError)(nil)
		switch {
		case errors.As(err, &bad):
			err = s.badCommand(bad)
		case errors.Is(err, pop3wire.ErrDesync):
			s.err("", pop3wire.ErrDesync.Error())
		case errors.Is(err, wire.ErrDraining):
			s.err(pop3wire.CodeTemporary, "server is shutting down")
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.err("", "login took too long")
		case err != nil && !errors.Is(err, errClosing) && !errors.Is(err, io.EOF):
			s.Log.Debug("connection failed", "err", err)
		}
		if err != nil || s.Gone() {
			return
		}
	}
}

// command serves one command. Its errors are those of serve.
func (s *session) command(ctx context.Context, cmd pop3wire.Command) error {
	user := s.user
	s.user = "" // only the very next command may be PASS
	switch cmd.Name {
	case "CAPA":
		return s.bare(cmd, s.capa)
	case "STLS":
		return s.bare(cmd, func() error { return s.startTLS(ctx) })
	case "UTF8":
		return s.bare(cmd, s.enableUTF8)
	case "QUIT":
		return s.bare(cmd, func() error {
			s.ok("bye")
			return errClosing
		})
	case "XCLIENT":
		return s.xclient(cmd)
	case "LANG":
		return pop3wire.ServeLang(s.Conn, cmd)
	case "USER":
		return s.name(cmd)
	case "PASS":
		return s.password(ctx, user, cmd)
	case "AUTH":
		return s.auth(ctx, cmd)
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI":
		// A browser made to speak to us (hardening row W1): say nothing it could echo.
		return errClosing
	}
	return &pop3wire.BadCommandError{Text: "unknown command, or not before a login"}
}

// bare serves a command that has no arguments.
func (s *session) bare(cmd pop3wire.Command, serve func() error) error {
	if cmd.Given {
		return &pop3wire.BadCommandError{Text: cmd.Name + " takes no arguments"}
	}
	return serve()
}

func (s *session) ok(text string) { s.Conn.SetOut(pop3wire.AppendOK(s.Conn.Out(), text)) }

func (s *session) err(code, text string) {
	s.Conn.SetOut(pop3wire.AppendErr(s.Conn.Out(), code, pop3wire.SafeText(text)))
}

// badCommand answers -ERR, and closes when there were too many.
func (s *session) badCommand(bad *pop3wire.BadCommandError) error {
	s.err("", bad.Text)
	if s.Bad() {
		return errClosing
	}
	return nil
}

// capabilities is what is announced before a login.
func (s *session) capabilities() []string {
	var list []string
	if s.f.o.Capabilities != nil {
		list = slices.Clone(s.f.o.Capabilities())
	}
	for _, own := range []string{"PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "LANG"} {
		if !slices.Contains(list, own) {
			list = append(list, own)
		}
	}
	if s.MayStartTLS() {
		list = append(list, "STLS")
	}
	if s.Client.Private() {
		list = append(list, "USER")
		if m := s.f.o.Authenticator.Mechanisms(s.Client); len(m) > 0 {
			list = append(list, "SASL "+strings.Join(m, " "))
		}
	}
	return list
}

// capa answers CAPA (RFC 2449 §5).
func (s *session) capa() error {
	s.ok("capabilities follow")
	for _, c := range s.capabilities() {
		s.Conn.WriteString(c + "\r\n")
	}
	s.Conn.WriteString(".\r\n")
	return nil
}

// startTLS answers STLS (RFC 2595 §4); whatever was sent in plain text after
// the command, or a failed handshake, ends the connection.
func (s *session) startTLS(ctx context.Context) error {
	if !s.MayStartTLS() || s.utf8 { // RFC 6856 §2.1: no STLS after UTF8
		return &pop3wire.BadCommandError{Text: "STLS is not available"}
	}
	if s.Conn.Buffered() > 0 {
		s.err("", "plaintext after STLS")
		return errClosing
	}
	s.ok("begin TLS")
	if err := s.StartTLS(ctx); err != nil {
		return errClosing
	}
	return nil
}

// enableUTF8 answers UTF8 (RFC 6856 §2.1) where the stores have it.
func (s *session) enableUTF8() error {
	has := func(c string) bool { return c == "UTF8" || strings.HasPrefix(c, "UTF8 ") }
	if s.f.o.Capabilities == nil || !slices.ContainsFunc(s.f.o.Capabilities(), has) {
		return &pop3wire.BadCommandError{Text: "UTF8 is not available"}
	}
	s.utf8 = true
	s.ok("UTF-8 it is")
	return nil
}

// xclient takes a proxy's word on who its client is, in the words of other
// servers' XCLIENT for POP3.
func (s *session) xclient(cmd pop3wire.Command) error {
	var said mmp.Introduction
	for _, pair := range cmd.Fields() {
		name, value, _ := strings.Cut(pair, "=")
		switch strings.ToUpper(name) {
		case "ADDR":
			said.Parse("x-originating-ip", value)
		case "PORT":
			said.Parse("x-originating-port", value)
		case "SESSION":
			said.Parse("x-session-ext-id", value)
		case "TTL":
			said.Parse("x-proxy-ttl", value)
		case "SERVICE":
			said.Parse("x-service", value)
		case "CLIENT-TRANSPORT":
			said.Parse("x-client-transport", value)
		}
	}
	s.Introduce(said)
	s.ok("noted")
	return nil
}
