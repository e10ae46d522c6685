package imapwire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Lexer reads the arguments of a command from left to right. The first error
// sticks: after it every method returns its zero value and moves no further,
// so a handler reads all it wants and looks at Err once.
type Lexer struct {
	buf   []byte // up to and with the final CRLF, or without one
	pos   int
	depth int // parentheses still allowed within each other
	err   error

	utf8Names bool // see Reader
}

// NewLexer returns a Lexer over text that may hold literals, with that many
// levels of parentheses.
func NewLexer(text []byte, depth int) *Lexer { return &Lexer{buf: text, depth: depth} }

// Err is the first error; its text is safe to show the client.
func (l *Lexer) Err() error { return l.err }

// Fail sets the error, unless there is one, for a rule the lexer does not know.
func (l *Lexer) Fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

func (l *Lexer) fail(what string) {
	if l.err == nil {
		l.err = errors.New(what)
	}
}

// Peek returns the next octet; 0 at the end of the command and after an error.
func (l *Lexer) Peek() byte {
	if l.err != nil || l.pos >= len(l.buf) || l.buf[l.pos] == '\r' {
		return 0
	}
	return l.buf[l.pos]
}

// AtEnd reports whether nothing is left; it is also true after an error.
func (l *Lexer) AtEnd() bool { return l.Peek() == 0 }

// End demands that nothing is left, and returns Err. Trailing spaces are
// forgiven.
func (l *Lexer) End() error {
	for l.Peek() == ' ' {
		l.pos++
	}
	if l.err == nil && !l.AtEnd() {
		l.fail("unexpected text at the end of the command")
	}
	return l.err
}

// Take reads c if it is next, and reports whether it was.
func (l *Lexer) Take(c byte) bool {
	if c == 0 || l.Peek() != c {
		return false
	}
	l.pos++
	return true
}

// TakeFold reads s if it is next, in any case, and reports whether it was.
func (l *Lexer) TakeFold(s string) bool {
	if l.err != nil || len(l.buf)-l.pos < len(s) || !strings.EqualFold(string(l.buf[l.pos:l.pos+len(s)]), s) {
		return false
	}
	l.pos += len(s)
	return true
}

// Expect demands c.
func (l *Lexer) Expect(c byte) {
	if !l.Take(c) {
		l.Fail("expected %q", string(c))
	}
}

// Space demands one space.
func (l *Lexer) Space() {
	if !l.Take(' ') {
		l.fail("expected a space")
	}
}

// scan reads the octets that ok accepts, at least one.
func (l *Lexer) scan(what string, ok func(byte) bool) []byte {
	start := l.pos
	for c := l.Peek(); c != 0 && ok(c); c = l.Peek() {
		l.pos++
	}
	if l.err == nil && l.pos == start {
		l.fail("expected " + what)
	}
	return l.buf[start:l.pos]
}

// Atom reads an atom.
func (l *Lexer) Atom() string { return string(l.scan("an atom", isAtomChar)) }

// Keyword reads a word of the protocol, such as a command, a FETCH item up to
// its bracket or a SEARCH key, in upper case.
func (l *Lexer) Keyword() string {
	return strings.ToUpper(string(l.scan("a word", isWordChar)))
}

// AString reads an atom, a quoted string or a literal. An atom may hold 8-bit
// octets, as clients send them unquoted; they are not checked. The result is a copy.
func (l *Lexer) AString() string {
	if c := l.Peek(); c == '"' || c == '{' {
		return l.String()
	}
	return string(l.scan("a string", func(c byte) bool { return isAStringChar(c) || c >= utf8.RuneSelf }))
}

// String reads a quoted string or a literal.
func (l *Lexer) String() string {
	switch l.Peek() {
	case '"':
		return l.quoted()
	case '{':
		return string(l.literal())
	case '~': // literal8 (RFC 3516 §7), where a string may be one
		if l.pos++; l.Peek() == '{' {
			return string(l.literal())
		}
	}
	l.fail("expected a string")
	return ""
}

// NString reads a string or NIL, and reports whether it was a string.
func (l *Lexer) NString() (string, bool) {
	if c := l.Peek(); c == '"' || c == '{' {
		s := l.String()
		return s, l.err == nil
	}
	if l.Keyword() != "NIL" {
		l.fail("expected a string or NIL")
	}
	return "", false
}

// NBinary reads a string, a literal8, which may hold NUL, or NIL (RFC 5464 §5),
// and reports whether it was a string. It is good until the next ReadCommand.
func (l *Lexer) NBinary() ([]byte, bool) {
	if l.Take('~') {
		if l.Peek() != '{' {
			l.fail("expected a literal")
			return nil, false
		}
		return l.octets(), l.err == nil
	}
	s, ok := l.NString()
	return []byte(s), ok
}

// quoted takes UTF-8 too, as RFC 9051 does and clients have always sent it.
func (l *Lexer) quoted() string {
	l.pos++
	var b []byte
	for l.pos < len(l.buf) {
		c := l.buf[l.pos]
		switch c {
		case '"':
			l.pos++
			if !utf8.Valid(b) {
				l.fail("quoted string is not UTF-8")
				return ""
			}
			return string(b)
		case '\r', '\n':
			l.fail("quoted string without end")
			return ""
		case '\\':
			l.pos++
			if l.pos >= len(l.buf) || l.buf[l.pos] != '"' && l.buf[l.pos] != '\\' {
				l.fail("bad escape in a quoted string")
				return ""
			}
			c = l.buf[l.pos]
		}
		b = append(b, c)
		l.pos++
	}
	l.fail("quoted string without end")
	return ""
}

// literal reads {n} CRLF and n octets that the Reader put into the buffer.
func (l *Lexer) literal() []byte {
	b := l.octets()
	if bytes.IndexByte(b, 0) >= 0 {
		l.fail("NUL in a literal")
		return nil
	}
	return b
}

// octets is literal, NUL and all.
func (l *Lexer) octets() []byte {
	start := l.pos
	n, digits := int64(0), 0
	for l.pos++; l.pos < len(l.buf) && l.buf[l.pos] >= '0' && l.buf[l.pos] <= '9' && n <= math.MaxInt32; l.pos++ {
		n, digits = n*10+int64(l.buf[l.pos]-'0'), digits+1
	}
	if l.pos < len(l.buf) && l.buf[l.pos] == '+' {
		l.pos++
	}
	rest := l.buf[l.pos:]
	if digits == 0 || !bytes.HasPrefix(rest, []byte("}\r\n")) || n > int64(len(rest)-3) {
		l.pos = start
		l.fail("bad literal")
		return nil
	}
	l.pos += 3 + int(n)
	return rest[3 : 3+n]
}

// Number reads a number of 32 bits.
func (l *Lexer) Number() uint32 {
	n := l.Number64()
	if n > math.MaxUint32 {
		l.fail("number is too large")
		return 0
	}
	return uint32(n)
}

// Number64 reads a number of 63 bits (RFC 9051 §9).
func (l *Lexer) Number64() uint64 {
	var n uint64
	for _, c := range l.scan("a number", isDigit) {
		if n > (math.MaxInt64-9)/10 {
			l.fail("number is too large")
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	if l.err != nil {
		return 0
	}
	return n
}

// List reads a parenthesised list, empty or with one space between its items,
// each of which item reads.
func (l *Lexer) List(item func()) {
	l.Expect('(')
	if l.depth--; l.depth < 0 {
		l.fail("too many parentheses within each other")
	}
	for !l.Take(')') && l.err == nil {
		item()
		if l.Peek() != ')' {
			l.Space()
		}
	}
	l.depth++
}

// Flag reads a flag or keyword.
func (l *Lexer) Flag() string {
	if l.Take('\\') {
		return `\` + l.Atom()
	}
	return l.Atom()
}

// FlagList reads a parenthesised list of flags.
func (l *Lexer) FlagList() []string {
	var flags []string
	l.List(func() { flags = append(flags, l.Flag()) })
	return flags
}

// Mailbox reads a mailbox name, out of modified UTF-7 or UTF-8 (RFC 3501
// §5.1.3), as UTF-8; INBOX in any case is "INBOX".
func (l *Lexer) Mailbox() string {
	return l.mailboxName(l.AString())
}

// ListMailbox reads a mailbox name with wildcards (RFC 3501 §6.3.8).
func (l *Lexer) ListMailbox() string {
	if c := l.Peek(); c == '"' || c == '{' {
		return l.mailboxName(l.String())
	}
	return l.mailboxName(string(l.scan("a mailbox pattern", isListChar)))
}

func (l *Lexer) mailboxName(s string) string {
	if l.err != nil {
		return ""
	}
	if strings.EqualFold(s, "INBOX") {
		return "INBOX"
	}
	if !isASCII(s) || l.utf8Names {
		if !utf8.ValidString(s) {
			l.fail("mailbox name is neither UTF-7 nor UTF-8")
			return ""
		}
		return s
	}
	name, err := DecodeUTF7(s)
	if err != nil {
		l.err = err
	}
	return name
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isAtomChar is ATOM-CHAR of RFC 3501 §9.
func isAtomChar(c byte) bool {
	switch c {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', ']':
		return false
	}
	return c > ' ' && c < 0x7f
}

func isAStringChar(c byte) bool { return isAtomChar(c) || c == ']' }

func isListChar(c byte) bool { return isAStringChar(c) || c == '%' || c == '*' || c >= utf8.RuneSelf }

func isWordChar(c byte) bool { return isAtomChar(c) && c != '[' && c != '<' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
