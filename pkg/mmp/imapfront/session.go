package imapfront

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"

	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// session is one connection before its login.
type session struct {
	*mmp.Visitor
	f      *Front
	reader *imapwire.Reader
}

// Busy is what a client over a limit hears.
const Busy = "* BYE [UNAVAILABLE] too many connections, try again later\r\n"

// errClosing ends a session whose last words are written.
var errClosing = errors.New("closing")

// serve reads commands until the connection ends or is handed over.
func (s *session) serve(ctx context.Context) {
	for {
		cmd, err := s.reader.ReadCommand(imapwire.PreLogin())
		if err == nil {
			err = s.command(ctx, cmd)
		}
		bad := (*imapwire.BadCommandError)(nil)
		switch {
		case errors.As(err, &bad):
			err = s.badCommand(bad)
		case errors.Is(err, imapwire.ErrDesync):
			s.Conn.WriteString("* BYE " + safeText(err.Error()) + "\r\n")
		case errors.Is(err, wire.ErrDraining):
			s.Conn.WriteString("* BYE server is shutting down\r\n")
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.Conn.WriteString("* BYE login took too long\r\n")
		case err != nil && !errors.Is(err, errClosing) && !errors.Is(err, io.EOF):
			s.Log.Debug("connection failed", "err", err)
		}
		if err != nil || s.Gone() {
			return
		}
	}
}

// command serves one command. Its errors are those of serve.
func (s *session) command(ctx context.Context, cmd *imapwire.Command) error {
	switch cmd.Name {
	case "CAPABILITY":
		if err := noArguments(cmd); err != nil {
			return err
		}
		s.Conn.WriteString("* CAPABILITY " + s.capabilities() + "\r\n")
		s.reply(cmd.Tag, "OK CAPABILITY completed")
	case "NOOP":
		if err := noArguments(cmd); err != nil {
			return err
		}
		s.reply(cmd.Tag, "OK NOOP completed")
	case "LOGOUT":
		s.Conn.WriteString("* BYE logging out\r\n")
		s.reply(cmd.Tag, "OK LOGOUT completed")
		return errClosing
	case "ID":
		return s.id(cmd)
	case "STARTTLS":
		return s.startTLS(ctx, cmd)
	case "LOGIN":
		return s.login(ctx, cmd)
	case "AUTHENTICATE":
		return s.authenticate(ctx, cmd)
	default:
		return badCommand(cmd, "unknown command, or not before a login")
	}
	return nil
}

// reply writes a tagged response.
func (s *session) reply(tag, text string) { s.Conn.WriteString(tag + " " + text + "\r\n") }

func badCommand(cmd *imapwire.Command, text string) error {
	return &imapwire.BadCommandError{Tag: cmd.Tag, Name: cmd.Name, Text: text}
}

func noArguments(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return badCommand(cmd, err.Error())
	}
	return nil
}

// badCommand answers BAD, and BYE when there were too many.
func (s *session) badCommand(bad *imapwire.BadCommandError) error {
	switch strings.ToUpper(bad.Tag) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI":
		// A browser made to speak to us (hardening row W1): say nothing it could echo.
		return errClosing
	}
	code := ""
	if bad.Code != "" {
		code = "[" + bad.Code + "] "
	}
	s.reply(bad.Tag, "BAD "+code+safeText(bad.Text))
	if s.Bad() {
		s.Conn.WriteString("* BYE too many bad commands\r\n")
		return errClosing
	}
	return nil
}

// capabilities is what is announced before a login.
func (s *session) capabilities() string {
	var list []string
	if s.f.o.Capabilities != nil {
		list = s.f.o.Capabilities()
	}
	if list == nil {
		list = []string{"IMAP4rev1"}
	}
	seen := make(map[string]bool)
	var b strings.Builder
	add := func(c string) {
		if key := strings.ToUpper(c); !seen[key] {
			seen[key] = true
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(c)
		}
	}
	for _, c := range list {
		add(c)
	}
	for _, c := range []string{"LITERAL+", "SASL-IR", "ID"} {
		add(c)
	}
	if s.MayStartTLS() {
		add("STARTTLS")
	}
	if !s.Client.Private() {
		add("LOGINDISABLED")
		return b.String()
	}
	for _, m := range s.f.o.Authenticator.Mechanisms(s.Client) {
		add("AUTH=" + m)
	}
	return b.String()
}

// id answers ID (RFC 2971). What the client says is for the log alone.
func (s *session) id(cmd *imapwire.Command) error {
	args := cmd.Args
	args.Space()
	attrs := []any{}
	var said mmp.Introduction
	if args.Take('(') {
		for args.Err() == nil && !args.Take(')') {
			if len(attrs) > 0 {
				args.Space()
			}
			key := args.String()
			args.Space()
			value, _ := args.NString()
			if len(attrs) >= 2*maxIDPairs {
				args.Fail("more than %d pairs", maxIDPairs)
			}
			attrs = append(attrs, clip(key), clip(value))
			said.Parse(key, value)
		}
	} else if word := args.Keyword(); word != "NIL" {
		args.Fail("expected a list or NIL")
	}
	if err := args.End(); err != nil {
		return badCommand(cmd, err.Error())
	}
	s.Introduce(said)
	s.Log.Debug("client identified itself", slog.Group("id", attrs...))
	s.Conn.WriteString("* ID (\"name\" \"mailsrv\")\r\n")
	s.reply(cmd.Tag, "OK ID completed")
	return nil
}

// maxIDPairs is RFC 2971 §3.3's bound.
const maxIDPairs = 30

func clip(s string) string { return s[:min(len(s), 200)] }

// startTLS upgrades the connection; whatever was sent in plain text after the
// command, or a failed handshake, ends it (RFC 3207 §4.2, hardening row S3).
func (s *session) startTLS(ctx context.Context, cmd *imapwire.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	if !s.MayStartTLS() {
		return badCommand(cmd, "STARTTLS is not available")
	}
	if s.Conn.Buffered() > 0 {
		s.Conn.WriteString("* BYE plaintext after STARTTLS\r\n")
		return errClosing
	}
	s.reply(cmd.Tag, "OK begin TLS")
	if err := s.StartTLS(ctx); err != nil {
		return errClosing
	}
	return nil
}

// safeText makes text fit for a response line.
func safeText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}
