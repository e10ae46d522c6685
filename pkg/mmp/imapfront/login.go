package imapfront

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/imapwire"
)

// login serves LOGIN (RFC 3501 §6.2.3).
func (s *session) login(ctx context.Context, cmd *imapwire.Command) error {
	args := cmd.Args
	args.Space()
	user := args.AString()
	args.Space()
	password := args.AString()
	if err := args.End(); err != nil {
		return badCommand(cmd, err.Error())
	}
	tag := cmd.Tag
	if !s.Client.Private() {
		s.reply(tag, "NO [PRIVACYREQUIRED] Use STARTTLS first")
		return nil
	}
	id, err := s.verify(ctx, user, password)
	if err != nil {
		return s.refuse(tag, "LOGIN", err)
	}
	return s.handOver(ctx, tag, id)
}

// verify returns the identity by its address: it is large, and would else stay
// on the stack of the session that follows.
//
//go:noinline
func (s *session) verify(ctx context.Context, user, password string) (*auth.Identity, error) {
	id, err := s.f.o.Authenticator.Login(ctx, s.Client, user, password)
	return &id, err
}

// authenticate serves AUTHENTICATE, with or without an initial response
// (RFC 3501 §6.2.2, RFC 4959).
func (s *session) authenticate(ctx context.Context, cmd *imapwire.Command) error {
	args := cmd.Args
	args.Space()
	mechanism := strings.ToUpper(args.Atom())
	var response []byte
	if args.Take(' ') {
		var ok bool
		if response, ok = initialResponse(args); !ok {
			args.Fail("initial response is not base64")
		}
	}
	if err := args.End(); err != nil {
		return badCommand(cmd, err.Error())
	}
	tag := cmd.Tag
	if !s.Client.Private() {
		s.reply(tag, "NO [PRIVACYREQUIRED] Use STARTTLS first")
		return nil
	}
	exchange, err := s.f.o.Authenticator.Start(mechanism, s.Client)
	if err == nil {
		err = mmp.Exchange(ctx, exchange, response, s.challenge)
	}
	if bad := (*imapwire.BadCommandError)(nil); errors.As(err, &bad) {
		bad.Tag, bad.Name = tag, "AUTHENTICATE"
		return bad
	}
	if lost := (*connError)(nil); errors.As(err, &lost) {
		return lost.error
	}
	if err != nil {
		return s.refuse(tag, mechanism, err)
	}
	id := exchange.Identity()
	return s.handOver(ctx, tag, &id)
}

// initialResponse reads the base64 after the mechanism; "=" is an empty one.
func initialResponse(args *imapwire.Lexer) ([]byte, bool) {
	text := args.Atom()
	if text == "=" {
		return []byte{}, true
	}
	b, err := base64.StdEncoding.DecodeString(text)
	return b, err == nil
}

// connError is a failure of the connection, not of the login.
type connError struct{ error }

// Unwrap returns what failed.
func (e *connError) Unwrap() error { return e.error }

// challenge sends one challenge and reads its response.
func (s *session) challenge(challenge []byte) ([]byte, error) {
	s.Conn.SetOut(imapwire.AppendBase64Line(append(s.Conn.Out(), "+ "...), challenge))
	line, err := s.reader.ReadContinuation(mmp.MaxResponse)
	if err != nil {
		return nil, &connError{err}
	}
	if string(line) == "*" {
		return nil, &imapwire.BadCommandError{Text: "authentication cancelled"}
	}
	response := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(response, line)
	if err != nil {
		return nil, &imapwire.BadCommandError{Text: "response is not base64"}
	}
	return response[:n], nil
}

// refuse answers a failed login. Unknown user and wrong password read alike.
func (s *session) refuse(tag, mechanism string, err error) error {
	text := "NO [UNAVAILABLE] Logins cannot be checked now, try again later"
	switch {
	case errors.Is(err, auth.ErrMalformed):
		return &imapwire.BadCommandError{Tag: tag, Name: "AUTHENTICATE", Text: "malformed response"}
	case errors.Is(err, auth.ErrMechanism):
		text = "NO [CANNOT] Mechanism not available"
	case errors.Is(err, auth.ErrThrottled):
		text = "NO [LIMIT] Too many failed logins, try again later"
	case errors.Is(err, auth.ErrRefused):
		text = "NO [AUTHORIZATIONFAILED] This account may not log in"
	case errors.Is(err, auth.ErrBadCredentials):
		text = "NO [AUTHENTICATIONFAILED] Wrong login or password"
	}
	// The Authenticator logs each login; here it is joined to the trace.
	s.Log.Debug("login refused", "mech", mechanism, "tls", s.Client.TLS, "err", err)
	s.reply(tag, text)
	return s.countFailure()
}

func (s *session) countFailure() error {
	if s.Failed() {
		s.Conn.WriteString("* BYE too many failed logins\r\n")
		return errClosing
	}
	return nil
}

// handOver gives the connection to the user's store. If the store refuses,
// the client may try again.
func (s *session) handOver(ctx context.Context, tag string, id *auth.Identity) error {
	s.reader = nil // holds buffers too
	err := s.HandOver(ctx, id, &mmp.Handover{Tag: tag})
	refused := (*mmp.RefusedError)(nil)
	if !errors.As(err, &refused) {
		return err
	}
	s.reader = imapwire.NewReader(s.Conn)
	code := "AUTHORIZATIONFAILED"
	switch {
	case refused.Unavailable:
		code = "UNAVAILABLE"
	case refused.Credentials:
		code = "AUTHENTICATIONFAILED"
	}
	s.reply(tag, "NO ["+code+"] "+safeText(refused.Text))
	return s.countFailure()
}
