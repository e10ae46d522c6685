// Package imapwire is the words of IMAP on the wire, both ways: the reading of
// a whole command under one budget, a lexer over it, and append-style writing
// of responses and commands (RFC 3501 and RFC 9051 section 9, RFC 7888
// literals, RFC 3501 §5.1.3 modified UTF-7).
//
// It holds no policy and no state of a session: which commands there are, who
// may say them and what they do is the business of fronts and doors.
//
// A command is read to its end before anything of it is parsed. Nothing is
// ever parsed out of a literal that was refused: it is read and dropped, or
// the connection must be closed.
package imapwire

import "errors"

// Limits bound one command. All sizes are in octets.
type Limits struct {
	// Line bounds the text outside literals, all lines of the command together.
	Line int
	// Literal bounds one literal that is kept in memory, Literals their sum.
	Literal, Literals int64
	// Depth bounds parentheses within parentheses.
	Depth int
	// Drain bounds a refused non-synchronising literal: a larger one closes
	// the connection.
	Drain int64
	// Stream leaves the message of an APPEND or REPLACE unread, as Command.Message.
	// Without it that literal is one like all others.
	Stream bool
}

// PreLogin is what a client may send before it has logged in (hardening: 4 kB
// literals, one level of parentheses).
func PreLogin() Limits {
	return Limits{Line: 8 << 10, Literal: 4 << 10, Literals: 8 << 10, Depth: 1, Drain: 64 << 10}
}

// LoggedIn is what a client may send after its login: 64 kB of text, literals
// of 1 MB in all, 50 levels, streamed messages.
func LoggedIn() Limits {
	return Limits{Line: 64 << 10, Literal: 1 << 20, Literals: 1 << 20, Depth: 50, Drain: 256 << 20, Stream: true}
}

// Command is one command as a client wrote it. It and its lexer are good until
// the next ReadCommand.
type Command struct {
	// Tag is valid and 1 to 128 octets long.
	Tag string
	// Name is the command's first word, in upper case.
	Name string
	// Args is at whatever follows the name: a space, or the end.
	Args *Lexer
	// Message is the first literal of an APPEND or REPLACE behind the mailbox's
	// name, not yet read; nil for other commands.
	Message *Message
}

// BadCommandError is a command that was read to its end, or refused so that
// nothing of it is left, but cannot be served. The caller answers and goes on:
// "tag BAD [code] text", and counts it.
type BadCommandError struct {
	// Tag is "*" if none could be read.
	Tag string
	// Name is the command's name if it could be read.
	Name string
	// Code is a response code such as TOOBIG, or empty.
	Code string
	// Text is safe to show the client.
	Text string
}

// Error implements error.
func (e *BadCommandError) Error() string { return "bad command: " + e.Text }

// ErrDesync is matched by errors after which it is not known where the next
// command begins: the caller says BYE with DesyncText and closes.
var ErrDesync = errors.New("cannot tell where the next command begins")

// desyncError is an ErrDesync with its reason.
type desyncError struct{ reason string }

func (e *desyncError) Error() string        { return e.reason }
func (e *desyncError) Is(target error) bool { return target == ErrDesync }

func desync(reason string) error { return &desyncError{reason} }

// DesyncText is the reason of an ErrDesync in err's chain, safe to show the
// client.
func DesyncText(err error) string {
	if e, ok := errors.AsType[*desyncError](err); ok {
		return e.reason
	}
	return ErrDesync.Error()
}
