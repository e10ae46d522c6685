// Package pop3wire is the words of POP3 in both directions: commands, status
// lines with their codes, and multi-line texts (RFC 1939, RFC 2449, RFC 3206,
// RFC 5034).
//
// It holds no policy: which commands there are, and when, is for the doors.
package pop3wire

import (
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/wire"
)

const (
	// MaxLine bounds a command in octets, without its CRLF. RFC 2449 §4 allows
	// 255; passwords and initial responses (RFC 5034 §4) may need more.
	MaxLine = 4000
	// maxSkip is how much of an endless line is thrown away before the
	// connection must end.
	maxSkip = 64 << 10
)

// ErrDesync: what the client means can no longer be told; say why and close.
var ErrDesync = errors.New("line too long")

// BadCommandError is a line that is no command; Text is safe to show. The
// connection is at the next line.
type BadCommandError struct{ Text string }

// Error implements error.
func (e *BadCommandError) Error() string { return "bad command: " + e.Text }

// Command is one line of a client.
type Command struct {
	// Name is the keyword in upper case.
	Name string
	// Arg is what follows the space after it, untouched: a password may hold
	// spaces. Given tells an empty one from none.
	Arg   string
	Given bool
}

// Fields are the arguments, separated by spaces.
func (c Command) Fields() []string { return strings.Fields(c.Arg) }

// ReadCommand reads the next command. *BadCommandError, ErrDesync,
// wire.ErrDraining, or the connection's own error.
func ReadCommand(conn *wire.Conn) (Command, error) {
	if err := conn.AwaitCommand(); err != nil {
		return Command{}, err
	}
	line, err := ReadLine(conn, MaxLine)
	if err != nil {
		return Command{}, err
	}
	return parseCommand(string(line))
}

// ReadLine reads a line of at most limit octets, without its CRLF: a command,
// or a response of a SASL exchange. Errors as of ReadCommand.
func ReadLine(conn *wire.Conn, limit int) ([]byte, error) {
	line, err := conn.ReadLine(limit)
	switch {
	case errors.Is(err, wire.ErrBareCR), errors.Is(err, wire.ErrBareLF):
		return nil, &BadCommandError{Text: "lines end in CRLF"}
	case errors.Is(err, wire.ErrTooLong):
		if err := conn.DiscardLine(err, maxSkip); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDesync, err)
		}
		return nil, &BadCommandError{Text: "line too long"}
	}
	return line, err
}

func parseCommand(line string) (Command, error) {
	name, arg, given := strings.Cut(line, " ")
	if len(name) < 3 || len(name) > 16 {
		return Command{}, &BadCommandError{Text: "unknown command"}
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return Command{}, &BadCommandError{Text: "unknown command"}
		}
	}
	if strings.IndexByte(arg, 0) >= 0 {
		return Command{}, &BadCommandError{Text: "NUL is not allowed"}
	}
	return Command{Name: strings.ToUpper(name), Arg: arg, Given: given}, nil
}

// SafeText makes text fit for a status line: printable, and of at most 512
// octets with all that stands around it (RFC 2449 §4).
func SafeText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), 400)]
}
