package imapserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// readBinary reads the section of BINARY, BINARY.PEEK or BINARY.SIZE (RFC 3516
// §4.2, RFC 9051 §6.4.5).
func (q *fetchRequest) readBinary(l *imapwire.Lexer, peek, sizeOnly bool) {
	s := fetchSection{Section: l.Section(), binary: true, peek: peek, sizeOnly: sizeOnly}
	if s.Part != imapwire.PartWhole {
		l.Fail("BINARY takes part numbers alone")
	}
	label := "BINARY"
	if sizeOnly {
		label = "BINARY.SIZE"
	}
	full := s.Append([]byte(label))
	if !sizeOnly {
		full = s.readPartial(l, full)
	}
	s.label = string(append(full, ' '))
	q.add(l, s)
}

// decodable reports an error that answers the FETCH if a BINARY section of q
// cannot be decoded (RFC 3516 §4.3). It is asked before anything is written.
func (q *fetchRequest) decodable(parts *mime.Parts) error {
	for k := range q.sections {
		s := &q.sections[k]
		if !s.binary || len(s.Path) == 0 || parts == nil {
			continue
		}
		if r, found := parts.Find(s.Path); found && r.Encoding == "" {
			return no("UNKNOWN-CTE", "a part's transfer encoding is not known")
		}
	}
	return nil
}

// writeBinary writes a part without its transfer encoding: NIL, or 0 for its
// size, if there is no such part.
func (c *session) writeBinary(s *fetchSection, parts *mime.Parts, body store.MessageBody) error {
	from, to, ok := s.locate(parts, body.Size())
	encoding := "binary"
	if ok && len(s.Path) > 0 {
		r, _ := parts.Find(s.Path)
		encoding = r.Encoding
	}
	if !ok {
		if s.sizeOnly {
			c.conn.WriteString("0")
		} else {
			c.conn.WriteString("NIL")
		}
		return nil
	}
	content := func() io.Reader {
		return mime.NewContentReader(io.NewSectionReader(body, from, to-from), encoding)
	}
	size, hasNUL, err := measure(content())
	if err != nil {
		return err
	}
	if s.sizeOnly {
		c.conn.SetOut(strconv.AppendInt(c.conn.Out(), size, 10))
		return nil
	}
	skip := s.clip(size)
	count := size - skip
	if s.partial != nil {
		count = min(count, s.partial.Count)
	}
	if hasNUL {
		c.conn.WriteString("~") // literal8
	}
	c.conn.SetOut(imapwire.AppendLiteral(c.conn.Out(), count))
	r := content()
	if _, err := io.CopyN(io.Discard, r, skip); err != nil {
		return fmt.Errorf("decoding again: %w", err)
	}
	if _, err := io.CopyN(connWriter{c}, r, count); err != nil {
		return fmt.Errorf("decoding again: %w", err)
	}
	return nil
}

// connWriter writes into the session's buffer and stops with the connection.
type connWriter struct{ c *session }

func (w connWriter) Write(p []byte) (int, error) {
	w.c.conn.SetOut(append(w.c.conn.Out(), p...))
	return len(p), w.c.connected()
}

// measure reads r to its end and tells its size, and whether it holds NUL.
func measure(r io.Reader) (size int64, hasNUL bool, err error) {
	b := make([]byte, bodyChunk)
	for {
		n, err := r.Read(b)
		size += int64(n)
		hasNUL = hasNUL || bytes.IndexByte(b[:n], 0) >= 0
		if errors.Is(err, io.EOF) {
			return size, hasNUL, nil
		}
		if err != nil {
			return size, hasNUL, err
		}
	}
}
