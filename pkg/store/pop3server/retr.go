package pop3server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/pop3wire"
)

// chunkSize is how much of a message is in memory at once, in bytes.
const chunkSize = 32 << 10

// retr serves RETR (RFC 1939 §5).
func (c *session) retr(cmd pop3wire.Command) error {
	_, m, err := c.message(cmd.Arg)
	if err != nil {
		return err
	}
	if err := c.send(m, math.MaxInt); err != nil {
		return err
	}
	m.retrieved = true
	c.retrieved++
	return nil
}

// top serves TOP (RFC 1939 §7): the header and the first lines of the body.
func (c *session) top(cmd pop3wire.Command) error {
	number, count, _ := strings.Cut(cmd.Arg, " ")
	lines, err := strconv.ParseUint(count, 10, 31)
	if err != nil {
		return &pop3wire.BadCommandError{Text: "syntax is TOP message lines"}
	}
	_, m, err := c.message(number)
	if err != nil {
		return err
	}
	return c.send(m, int(lines))
}

// send answers with the message's header and that many lines of its body. Once
// +OK is out, an error ends the session: the client must not take a part for
// the whole.
func (c *session) send(m *message, lines int) error {
	body, err := c.drop.box.Body(c.ctx, m.uid)
	switch {
	case errors.Is(err, store.ErrNoMessage), errors.Is(err, store.ErrNoMailbox):
		return refuse("another session removed the message")
	case err != nil:
		c.log.Error("reading a message failed", "uid", m.uid, "err", err)
		return &refusedError{pop3wire.CodeTemporary, "the message cannot be read now"}
	}
	defer body.Close()
	chunk := c.srv.chunks.Get().(*[chunkSize]byte)
	defer c.srv.chunks.Put(chunk)

	cut := cutter{lines: lines}
	var text pop3wire.Text
	for at := int64(0); ; {
		n, err := body.ReadAt(chunk[:], at)
		if err != nil && !errors.Is(err, io.EOF) {
			if at == 0 {
				c.log.Error("reading a message failed", "uid", m.uid, "err", err)
				return &refusedError{pop3wire.CodeTemporary, "the message cannot be read now"}
			}
			return fmt.Errorf("reading message %d: %w", m.uid, err)
		}
		if at == 0 {
			if !c.utf8 && needsUTF8(chunk[:n]) {
				return &refusedError{pop3wire.CodeUTF8, "the message has addresses in UTF-8: say UTF8 before the login"}
			}
			c.conn.SetOut(append(strconv.AppendInt(append(c.conn.Out(), "+OK "...), m.size, 10), " octets\r\n"...))
		}
		at += int64(n)
		part := chunk[:cut.keep(chunk[:n])]
		c.conn.SetOut(text.Append(c.conn.Out(), part))
		if err := c.conn.Err(); err != nil {
			return fmt.Errorf("writing to the client: %w", err)
		}
		if err != nil || len(part) < n || cut.done {
			break
		}
	}
	c.conn.SetOut(text.End(c.conn.Out()))
	return nil
}

// cutter finds where the header and the first lines of a body end.
type cutter struct {
	lines  int  // of the body, still to come
	body   bool // the empty line after the header has passed
	within bool // some of a header line has passed that is not its end
	done   bool
}

// keep returns how many of the next octets belong to the part.
func (c *cutter) keep(p []byte) int {
	if c.lines == math.MaxInt {
		return len(p)
	}
	for i := 0; ; {
		if c.done = c.body && c.lines == 0; c.done {
			return i
		}
		end := bytes.IndexByte(p[i:], '\n')
		if end < 0 {
			c.within = c.within || len(bytes.TrimRight(p[i:], "\r")) > 0
			return len(p)
		}
		switch line := p[i : i+end]; {
		case c.body:
			c.lines--
		case !c.within && len(bytes.TrimRight(line, "\r")) == 0:
			c.body = true
		}
		c.within = false
		i += end + 1
	}
}

// needsUTF8 reports whether a message, of which head is the beginning, has an
// address that only a client of RFC 6856 can use. Raw 8-bit text elsewhere in a
// header is as old as mail, and sent as it is.
func needsUTF8(head []byte) bool {
	if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
		head = head[:end+2]
	}
	if isASCII(head) {
		return false
	}
	address := false
	for line := range bytes.Lines(head) {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			address = isAddressField(string(bytes.TrimRight(name, " \t")))
		}
		if address && hasUTF8Address(line) {
			return true
		}
	}
	return false
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func isAddressField(name string) bool {
	name = strings.ToLower(name)
	switch strings.TrimPrefix(name, "resent-") {
	case "from", "sender", "reply-to", "to", "cc", "bcc":
		return true
	}
	return false
}

// hasUTF8Address looks at each word with an @, up to a blank or a special.
func hasUTF8Address(line []byte) bool {
	for word := range bytes.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" \t\r\n<>,;:()\"", r) }) {
		if bytes.IndexByte(word, '@') >= 0 && !isASCII(word) && utf8.Valid(word) {
			return true
		}
	}
	return false
}
