package smtpwire

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

var (
	errBase64    = status(501, 5, 2, "malformed base64")
	errCancelled = status(501, 7, 0, "login cancelled")
	errAuthLine  = status(500, 5, 6, "login line too long")
)

// startTLS serves STARTTLS (RFC 3207). After a failure, and after plaintext
// that came with the command, the connection ends. An error is the connection's.
func (s *session) startTLS(cmd Command) error {
	switch {
	case s.o.TLS == nil:
		s.fail(cmd.Verb, status(502, 5, 1, "command not implemented"))
	case s.tls:
		s.fail(cmd.Verb, status(503, 5, 1, "TLS is already there"))
	case !s.hello || s.mail != nil:
		s.fail(cmd.Verb, status(503, 5, 1, "not now"))
	case !s.bare(cmd):
	case s.c.Buffered() > 0:
		s.hangUp(status(501, 5, 2, "nothing may follow STARTTLS"))
	default:
		return s.upgrade()
	}
	return nil
}

func (s *session) upgrade() error {
	s.reply(status(220, 0, 0, "go ahead"))
	if err := s.c.Flush(); err != nil {
		return err
	}
	conn := tls.Server(s.c.Raw(), s.o.TLS)
	if err := s.handshake(conn); err != nil {
		return err
	}
	if err := s.c.Upgrade(conn); err != nil {
		return err
	}
	s.hello, s.authed, s.offer = false, false, Offer{}
	return nil
}

// handshake ends the plaintext; where it fails, the connection must end too.
func (s *session) handshake(conn *tls.Conn) error {
	ctx, cancel := s.ctx, context.CancelFunc(func() {})
	if s.o.Limits.Handshake > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.o.Limits.Handshake)
	}
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	s.tls = true
	s.h.Secured(conn.ConnectionState())
	return nil
}

// auth serves AUTH (RFC 4954). An error is the connection's.
func (s *session) auth(cmd Command) error {
	mechanism, initial, given := strings.Cut(cmd.Arg, " ")
	switch {
	case s.o.LMTP || s.hello && !s.esmtp:
		s.fail(cmd.Verb, status(502, 5, 1, "command not implemented"))
		return nil
	case !s.hello:
		s.fail(cmd.Verb, status(503, 5, 1, "introduce yourself first"))
		return nil
	case s.authed || s.mail != nil:
		s.fail(cmd.Verb, status(503, 5, 1, "not now"))
		return nil
	case mechanism == "":
		s.fail(cmd.Verb, status(501, 5, 4, "syntax is AUTH mechanism"))
		return nil
	}
	var response []byte
	if given {
		var st *mail.Status
		if response, st = decodeResponse([]byte(strings.TrimLeft(initial, " "))); st != nil {
			s.failLogin(st)
			return nil
		}
	}
	exchange, err := s.h.Auth(s.ctx, strings.ToUpper(mechanism))
	if err != nil {
		s.failLogin(mail.StatusOf(err))
		return nil
	}
	return s.exchange(exchange, response)
}

// exchange carries challenges and responses to the end.
func (s *session) exchange(x Exchange, response []byte) error {
	for {
		challenge, done, err := x.Next(s.ctx, response)
		switch {
		case err != nil:
			s.failLogin(mail.StatusOf(err))
			return nil
		case done:
			s.authed, s.useful = true, true
			if t, ok := s.h.(Taker); ok && t.Takes() {
				s.taken = true
				return nil
			}
			s.reply(status(235, 7, 0, "welcome"))
			return nil
		}
		out := append(s.c.Out(), "334 "...)
		s.c.SetOut(append(base64.StdEncoding.AppendEncode(out, challenge), "\r\n"...))
		var st *mail.Status
		response, st, err = s.readResponse()
		if err != nil || s.closed {
			return err
		}
		if st != nil {
			s.failLogin(st)
			return nil
		}
	}
}

// readResponse reads one response line. An error is the connection's.
func (s *session) readResponse() ([]byte, *mail.Status, error) {
	s.setDeadline()
	line, err := s.c.ReadLine(maxAuth)
	switch {
	case errors.Is(err, wire.ErrBareCR), errors.Is(err, wire.ErrBareLF):
		s.hangUp(errBareEOL)
		return nil, nil, nil
	case errors.Is(err, wire.ErrTooLong):
		s.hangUp(errAuthLine)
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	if string(line) == "*" {
		return nil, errCancelled, nil
	}
	response, st := decodeResponse(line)
	return response, st, nil
}

// decodeResponse returns a response that is never nil: "=" is the empty one
// (RFC 4954 §4), and so is an empty line.
func decodeResponse(b []byte) ([]byte, *mail.Status) {
	if string(b) == "=" {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return nil, errBase64
	}
	return out[:n], nil
}

// failLogin refuses a login, and the client after too many that failed.
func (s *session) failLogin(st *mail.Status) {
	if st.Code == 535 {
		s.logins++
		if l := s.o.Limits.Logins; l > 0 && s.logins >= l {
			s.logRefusal("AUTH", st)
			s.hangUp(status(421, 7, 0, "too many failed logins"))
			return
		}
	}
	s.fail("AUTH", st)
}
