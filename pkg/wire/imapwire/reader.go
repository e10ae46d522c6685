package imapwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"mailsrv/pkg/wire"
)

// keepBuffer is the largest command buffer that is kept for the next command.
const keepBuffer = 8 << 10

// maxTag is the longest tag, in octets.
const maxTag = 128

// Reader reads commands from a connection. It keeps no bytes of its own
// between commands, so the connection may change hands after any command. It
// is used by one goroutine.
type Reader struct {
	// OnWake, if it is set, is called between two commands after a Wake of the
	// connection; its error ends the wait.
	OnWake func() error
	// UTF8Names: mailbox names are UTF-8, and "&" in them is itself (RFC 9051
	// §5.1); else they may be in modified UTF-7.
	UTF8Names bool

	conn *wire.Conn
	// buf holds the whole command as it came, literals included.
	buf  []byte
	cmd  Command
	lex  Lexer
	msg  Message
	open bool // msg is not finished
}

// NewReader returns a Reader over conn.
func NewReader(conn *wire.Conn) *Reader { return &Reader{conn: conn} }

// ReadCommand waits for the next command and reads all of it, but for the
// message of an APPEND. Synchronising literals within the limits are answered
// with a continuation request.
//
// Errors: a *BadCommandError leaves the connection at the next command; one
// that matches ErrDesync does not, and the caller must close. Others are those
// of the connection: io.EOF between commands, wire.ErrDraining.
func (r *Reader) ReadCommand(l Limits) (*Command, error) {
	if err := r.finishMessage(); err != nil {
		return nil, err
	}
	for {
		err := r.conn.AwaitCommand()
		if err == nil {
			break
		}
		if !errors.Is(err, wire.ErrWoken) {
			return nil, err
		}
		if r.OnWake != nil { // else it was meant for IDLE, and came too late
			if err := r.OnWake(); err != nil {
				return nil, err
			}
		}
	}
	if cap(r.buf) > keepBuffer {
		r.buf = nil
	}
	r.buf = r.buf[:0]
	r.cmd = Command{}
	if err := r.readText(l); err != nil {
		return nil, err
	}
	return &r.cmd, nil
}

// ReadContinuation reads the line that answers a continuation request of
// AUTHENTICATE or IDLE, without its CRLF, at most limit octets. It is good
// until the next read. ErrDesync if it is longer, or no clean line.
func (r *Reader) ReadContinuation(limit int) ([]byte, error) {
	r.buf = r.buf[:0]
	n, err := r.readLine(limit)
	if err != nil {
		return nil, err
	}
	return r.buf[:n], nil
}

// readText reads lines and literals up to the end of the command.
func (r *Reader) readText(l Limits) error {
	text, literals := 0, int64(0)
	for {
		start := len(r.buf)
		n, err := r.readLine(l.Line - text)
		text += n
		if err != nil {
			return err
		}
		lit := literalAtEnd(r.buf[start:])
		if start == 0 {
			if err := r.parseHead(l.Depth); err != nil {
				return r.refuse(lit, l.Drain, err)
			}
		}
		if !lit.is {
			r.lex.buf = r.buf
			return nil
		}
		if l.Stream && r.isMessage(start, lit) {
			r.lex.buf = r.buf[:len(r.buf)-lit.marker]
			r.msg = Message{r: r, drain: l.Drain, line: l.Line - text}
			r.msg.announce(lit)
			r.cmd.Message = &r.msg
			if lit.tooBig {
				return r.refuse(lit, l.Drain, r.bad("TOOBIG", "literal is too large"))
			}
			return nil
		}
		if literals += lit.size; lit.tooBig || lit.size > l.Literal || literals > l.Literals {
			return r.refuse(lit, l.Drain, r.bad("TOOBIG", "literal is too large"))
		}
		if err := r.readLiteral(lit); err != nil {
			return err
		}
	}
}

// isMessage tells the message of an APPEND or REPLACE from a mailbox name given
// as a literal, which is all that can stand before it: a literal on the first
// line where the name belongs is the mailbox.
func (r *Reader) isMessage(start int, lit literal) bool {
	before := bytes.Fields(r.buf[r.lex.pos : len(r.buf)-lit.marker])
	name := -1 // how many words stand before the mailbox
	switch {
	case r.cmd.Name == "APPEND":
		name = 0
	case r.cmd.Name == "REPLACE":
		name = 1
	case r.cmd.Name == "UID" && len(before) > 0 && bytes.EqualFold(before[0], []byte("REPLACE")):
		name = 2
	}
	return name >= 0 && (start > 0 || len(before) > name)
}

// readLine appends a line, with its CRLF, to the buffer and returns its length.
func (r *Reader) readLine(limit int) (int, error) {
	br, start := r.conn.Reader(), len(r.buf)
	for {
		part, err := br.ReadSlice('\n')
		if len(r.buf)-start+len(part) > limit+2 {
			return 0, desync("command line is too long")
		}
		r.buf = append(r.buf, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	line := r.buf[start:]
	if n := len(line); n < 2 || line[n-2] != '\r' || bytes.IndexByte(line[:n-2], '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		// What follows may be a literal to a peer that reads this line
		// otherwise: refuse to guess (hardening row I2).
		return 0, desync("bare CR, bare LF or NUL in a command")
	}
	return len(line) - 2, nil
}

// parseHead reads the tag and the name from the first line.
func (r *Reader) parseHead(depth int) error {
	r.lex = Lexer{buf: r.buf, depth: depth, utf8Names: r.UTF8Names}
	r.cmd.Args = &r.lex
	end := bytes.IndexAny(r.buf, " \r")
	tag := string(r.buf[:end])
	if !isTag(tag) {
		return r.bad("", "a command begins with a tag")
	}
	r.cmd.Tag = tag
	r.lex.pos = end
	r.lex.Space()
	r.cmd.Name = r.lex.Keyword()
	if r.lex.err != nil {
		r.lex.err = nil
		return r.bad("", "a tag is followed by a space and a command")
	}
	return nil
}

func (r *Reader) bad(code, text string) *BadCommandError {
	tag := r.cmd.Tag
	if tag == "" {
		tag = "*"
	}
	return &BadCommandError{Tag: tag, Name: r.cmd.Name, Code: code, Text: text}
}

// readLiteral appends a literal's bytes to the buffer, which grows with what
// arrives and not with what was announced.
func (r *Reader) readLiteral(lit literal) error {
	if lit.sync {
		r.conn.WriteString("+ go ahead\r\n")
	}
	for left := lit.size; left > 0; {
		n := int(min(left, 4<<10))
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, n)...)
		if _, err := io.ReadFull(r.conn, r.buf[at:]); err != nil {
			return unexpected(err)
		}
		left -= int64(n)
	}
	return nil
}

// refuse ends a command that is not served after a line that ends in lit: it
// drops all that the client will send without being asked (RFC 7888 §4). It
// returns why, or an error that closes the connection.
func (r *Reader) refuse(lit literal, drain int64, why error) error {
	r.open = false
	r.cmd.Message = nil
	for lit.is && !lit.sync {
		if drain -= lit.size; lit.tooBig || drain < 0 {
			return desync("literal is too large")
		}
		if err := r.conn.Discard(lit.size); err != nil {
			return unexpected(err)
		}
		r.buf = r.buf[:0]
		if _, err := r.readLine(int(min(drain, 64<<10))); err != nil {
			return err
		}
		lit = literalAtEnd(r.buf)
	}
	return why
}

// literal is the announcement of one at the end of a line.
type literal struct {
	is, sync bool
	tooBig   bool // its size is not a number we can hold
	size     int64
	marker   int // length of the announcement with its CRLF
}

// literalAtEnd looks for {n} or {n+} before the CRLF that ends line. Whatever
// stands before it, a literal at the end of a line is one: a client that means
// it will send it.
func literalAtEnd(line []byte) literal {
	end := len(line) - 2
	if end < 3 || line[end-1] != '}' {
		return literal{}
	}
	i := end - 2
	lit := literal{sync: true}
	if line[i] == '+' {
		lit.sync = false
		i--
	}
	digits := i
	for i >= 0 && line[i] >= '0' && line[i] <= '9' {
		i--
	}
	if i == digits || i < 0 || line[i] != '{' {
		return literal{}
	}
	lit.is, lit.marker = true, len(line)-i
	for _, d := range line[i+1 : digits+1] {
		if lit.size = lit.size*10 + int64(d-'0'); lit.size > 1<<40 {
			lit.tooBig, lit.size = true, 0
			break
		}
	}
	return lit
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func isTag(s string) bool {
	if s == "" || len(s) > maxTag {
		return false
	}
	for i := range len(s) {
		if !isAStringChar(s[i]) || s[i] == '+' {
			return false
		}
	}
	return true
}
