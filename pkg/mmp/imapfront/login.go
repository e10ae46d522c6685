package imapfront

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/imapwire"
)

const (
	// maxResponse bounds one line of a SASL exchange, in octets (RFC 4954 §4
	// names 12288 for the longest known mechanism).
	maxResponse = 12288
	// maxRounds bounds the challenges of one exchange.
	maxRounds = 10
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
	if !s.client.Private() {
		s.reply(tag, "NO [PRIVACYREQUIRED] Use STARTTLS first")
		return nil
	}
	id, err := s.f.o.Authenticator.Login(ctx, s.client, user, password)
	if err != nil {
		return s.refuse(tag, "LOGIN", err)
	}
	return s.handOver(ctx, tag, id)
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
	if !s.client.Private() {
		s.reply(tag, "NO [PRIVACYREQUIRED] Use STARTTLS first")
		return nil
	}
	exchange, err := s.f.o.Authenticator.Start(mechanism, s.client)
	if err == nil {
		err = s.exchange(ctx, exchange, response)
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
	return s.handOver(ctx, tag, exchange.Identity())
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

// exchange carries challenges and responses until the mechanism is done.
func (s *session) exchange(ctx context.Context, exchange auth.Exchange, response []byte) error {
	for range maxRounds {
		challenge, done, err := exchange.Next(ctx, response)
		if err != nil {
			return err
		}
		if done && len(challenge) == 0 {
			return nil
		}
		if response, err = s.challenge(challenge); err != nil {
			return err
		}
		if done { // the challenge told of success, which the client confirmed
			return nil
		}
	}
	return auth.ErrMalformed
}

func (s *session) challenge(challenge []byte) ([]byte, error) {
	s.conn.SetOut(imapwire.AppendBase64Line(append(s.conn.Out(), "+ "...), challenge))
	line, err := s.reader.ReadContinuation(maxResponse)
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
	s.log.Debug("login refused", "mech", mechanism, "tls", s.client.TLS, "err", err)
	s.reply(tag, text)
	return s.countFailure()
}

func (s *session) countFailure() error {
	if s.failures++; s.failures >= s.f.o.Failures {
		s.conn.WriteString("* BYE too many failed logins\r\n")
		return errClosing
	}
	return nil
}

// handOver finds the user's store and gives it the connection, the login
// command still unanswered. If the store refuses, the client may try again.
func (s *session) handOver(ctx context.Context, tag string, id auth.Identity) error {
	if id.Proxy != "" && s.session != "" {
		s.trace = s.session // a trusted proxy's session goes on under its own name
		s.log = s.f.o.Log.With("trace", string(s.trace), "peer", s.raw.RemoteAddr().String())
	}
	backend, store, err := s.f.o.Router.Route(ctx, id.User)
	if err != nil {
		return s.refuseHandover(tag, id, err)
	}
	log := s.log.With("account", id.User.Account())
	log.Info("session begun", "mech", id.Mechanism, "tls", s.client.TLS, "store", store, "proxy", id.Proxy)
	if err := s.conn.Flush(); err != nil {
		return err
	}
	s.unhook()
	raw, readAhead := s.conn.Detach()
	s.handedOver = true
	err = backend.Attach(ctx, &mmp.Handover{
		Conn: raw, ReadAhead: readAhead, Protocol: directory.ServiceIMAP, Tag: tag,
		Identity: id, Client: s.client, Trace: s.trace, Log: log,
	})
	if refused := (*mmp.RefusedError)(nil); errors.As(err, &refused) {
		s.handedOver = false
		s.listen(ctx, readAhead)
		return s.refuseHandover(tag, id, err)
	}
	if err != nil {
		log.Info("session failed", "err", err)
	}
	return nil
}

// refuseHandover answers a login that was right but whose store did not take
// the client.
func (s *session) refuseHandover(tag string, id auth.Identity, err error) error {
	text := "NO [UNAVAILABLE] Your mailbox cannot be reached now, try again later"
	if refused := (*mmp.RefusedError)(nil); errors.As(err, &refused) {
		code := "NO [AUTHORIZATIONFAILED] "
		if refused.Unavailable {
			code = "NO [UNAVAILABLE] "
		}
		text = code + safeText(refused.Text)
	}
	s.log.Warn("store refused the client", "account", id.User.Account(), "err", err)
	s.reply(tag, text)
	return s.countFailure()
}
