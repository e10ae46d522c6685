package pop3front

import (
	"context"
	"errors"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/pop3wire"
)

// plaintext answers a login whose password anybody could read.
func (s *session) plaintext() error {
	s.err("", "use STLS first")
	return nil
}

// name serves USER (RFC 1939 §7): every name is welcome, so that nobody learns
// which of them exist.
func (s *session) name(cmd pop3wire.Command) error {
	if cmd.Arg == "" {
		return &pop3wire.BadCommandError{Text: "syntax is USER name"}
	}
	if !s.Client.Private() {
		return s.plaintext()
	}
	s.user = cmd.Arg
	s.ok("send the password")
	return nil
}

// password serves PASS: all behind the space is the password.
func (s *session) password(ctx context.Context, user string, cmd pop3wire.Command) error {
	if user == "" || !cmd.Given {
		return &pop3wire.BadCommandError{Text: "PASS follows USER"}
	}
	id, err := s.f.o.Authenticator.Login(ctx, s.Client, user, cmd.Arg)
	if err != nil {
		return s.refuse("USER", err)
	}
	return s.handOver(ctx, &id)
}

// auth serves AUTH, with or without an initial response (RFC 5034).
func (s *session) auth(ctx context.Context, cmd pop3wire.Command) error {
	mechanism, initial, given := strings.Cut(cmd.Arg, " ")
	if mechanism == "" {
		return &pop3wire.BadCommandError{Text: "syntax is AUTH mechanism"}
	}
	var response []byte
	if given {
		var err error
		if response, err = pop3wire.DecodeBase64([]byte(initial)); err != nil {
			return err
		}
	}
	if !s.Client.Private() {
		return s.plaintext()
	}
	mechanism = strings.ToUpper(mechanism)
	exchange, err := s.f.o.Authenticator.Start(mechanism, s.Client)
	if err == nil {
		err = mmp.Exchange(ctx, exchange, response, s.challenge)
	}
	lost, bad := (*connError)(nil), (*pop3wire.BadCommandError)(nil)
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &lost):
		return lost.error
	case err != nil:
		return s.refuse(mechanism, err)
	}
	id := exchange.Identity()
	return s.handOver(ctx, &id)
}

// connError is a failure of the connection, not of the login.
type connError struct{ error }

// Unwrap returns what failed.
func (e *connError) Unwrap() error { return e.error }

// challenge sends one challenge and reads its response.
func (s *session) challenge(challenge []byte) ([]byte, error) {
	s.Conn.SetOut(pop3wire.AppendChallenge(s.Conn.Out(), challenge))
	line, err := pop3wire.ReadLine(s.Conn, pop3wire.MaxLine)
	if bad := (*pop3wire.BadCommandError)(nil); errors.As(err, &bad) {
		return nil, err
	}
	if err != nil {
		return nil, &connError{err}
	}
	if string(line) == "*" {
		return nil, &pop3wire.BadCommandError{Text: "authentication cancelled"}
	}
	if string(line) == "=" { // means an empty initial response alone
		return nil, &pop3wire.BadCommandError{Text: "response is not base64"}
	}
	return pop3wire.DecodeBase64(line)
}

// refuse answers a failed login. Unknown user and wrong password read alike.
func (s *session) refuse(mechanism string, err error) error {
	code, text := pop3wire.CodeTemporary, "logins cannot be checked now, try again later"
	switch {
	case errors.Is(err, auth.ErrMalformed):
		return &pop3wire.BadCommandError{Text: "malformed response"}
	case errors.Is(err, auth.ErrMechanism):
		code, text = "", "mechanism not available"
	case errors.Is(err, auth.ErrThrottled):
		text = "too many failed logins, try again later"
	case errors.Is(err, auth.ErrRefused):
		code, text = pop3wire.CodePermanent, "this account may not log in"
	case errors.Is(err, auth.ErrBadCredentials):
		code, text = pop3wire.CodeAuth, "wrong login or password"
	}
	// The Authenticator logs each login; here it is joined to the trace.
	s.Log.Debug("login refused", "mech", mechanism, "tls", s.Client.TLS, "err", err)
	s.err(code, text)
	return s.countFailure()
}

func (s *session) countFailure() error {
	if s.Failed() {
		return errClosing
	}
	return nil
}

// handOver gives the connection to the user's store. If the store refuses,
// the client may try again.
func (s *session) handOver(ctx context.Context, id *auth.Identity) error {
	err := s.HandOver(ctx, id, &mmp.Handover{UTF8: s.utf8})
	refused := (*mmp.RefusedError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	code := refused.Code
	switch {
	case code != "":
	case refused.Unavailable:
		code = pop3wire.CodeTemporary
	case refused.Credentials:
		code = pop3wire.CodeAuth
	default:
		code = pop3wire.CodePermanent
	}
	s.err(code, refused.Text)
	return s.countFailure()
}
