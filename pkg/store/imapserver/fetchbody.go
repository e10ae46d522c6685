package imapserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// bodyChunk is how much of a body is read at once, in bytes.
const bodyChunk = 32 << 10

// maxNestedHeader bounds the header of a part or embedded message of which
// single fields are fetched, in bytes; the scanner bounds the message's own.
const maxNestedHeader = 1 << 20

// fetchBodies answers requests that read messages' bytes or set \Seen. Small
// messages come many at a time, the bodies of large ones in chunks.
func (c *session) fetchBodies(spans []span, q *fetchRequest, fields store.Fields) (told int, err error) {
	v := c.box
	if q.needsBody() {
		fields |= store.FieldText
	}
	err = batches(spans, bodyBatch, func(batch []span) error {
		if q.setsSeen() {
			if err := c.markSeen(batch); err != nil {
				return err
			}
		}
		for m, err := range v.box.Messages(c.ctx, v.uidSet(batch), fields) {
			if err != nil {
				return err
			}
			i, known := v.index(m.UID)
			if !known {
				continue
			}
			v.note(i, m.Flags)
			switch err := c.fetchBody(i, q, m); {
			case err == nil:
				told++
			case !errors.Is(err, store.ErrNoMessage):
				return err
			}
			if err := c.connected(); err != nil {
				return err
			}
		}
		return nil
	})
	return told, err
}

// text is a message that is in memory as a whole.
type text struct{ *bytes.Reader }

var _ store.MessageBody = text{}

// Close implements store.MessageBody.
func (text) Close() error { return nil }

// fetchBody writes the FETCH response of one message. Nothing is written for
// one that is gone: store.ErrNoMessage.
func (c *session) fetchBody(i int, q *fetchRequest, m *store.Message) error {
	var body store.MessageBody
	if len(m.Text) > 0 {
		body = text{bytes.NewReader(m.Text)}
	} else if q.needsBody() {
		var err error
		if body, err = c.box.box.Body(c.ctx, c.box.uids[i]); err != nil {
			return err
		}
		defer body.Close()
	}
	var parts *mime.Parts
	if len(m.Parts) > 0 {
		var err error
		if parts, err = mime.DecodeParts(m.Parts); err != nil {
			return fmt.Errorf("message %d: %w", c.box.uids[i], err)
		}
	}
	if err := q.decodable(parts); err != nil {
		return err
	}
	out := c.appendItems(c.conn.Out(), i, q, m)
	before := " "
	if out[len(out)-1] == '(' {
		before = ""
	}
	c.conn.SetOut(out)
	for k := range q.sections {
		s := &q.sections[k]
		c.conn.WriteString(before + s.label)
		before = " "
		if s.inHeader() {
			c.conn.SetOut(appendHeaderSection(c.conn.Out(), s, m.Header))
			continue
		}
		write := c.writeSection
		if s.binary {
			write = c.writeBinary
		}
		if err := write(s, parts, body); err != nil {
			// Half a response is written; only the end of the session can end it.
			return &fatalError{text: "[SERVERBUG] internal error", err: fmt.Errorf("reading message %d: %w", c.box.uids[i], err)}
		}
	}
	if q.preview {
		c.conn.WriteString(before + "PREVIEW ")
		if err := c.writePreview(parts, body); err != nil {
			return &fatalError{text: "[SERVERBUG] internal error", err: fmt.Errorf("reading message %d: %w", c.box.uids[i], err)}
		}
	}
	c.conn.WriteString(")\r\n")
	return nil
}

// appendHeaderSections appends all sections of a request that needs no body.
func appendHeaderSections(dst []byte, q *fetchRequest, m *store.Message) []byte {
	for k := range q.sections {
		if dst[len(dst)-1] != '(' {
			dst = append(dst, ' ')
		}
		dst = append(dst, q.sections[k].label...)
		dst = appendHeaderSection(dst, &q.sections[k], m.Header)
	}
	return dst
}

// appendHeaderSection appends a section of the message's own header as a literal.
func appendHeaderSection(dst []byte, s *fetchSection, header []byte) []byte {
	if s.Part != imapwire.PartHeader {
		header = selectFields(header, s.Fields, s.Part == imapwire.PartHeaderFieldsNot)
	}
	header = header[s.clip(int64(len(header))):]
	if s.partial != nil {
		header = header[:min(int64(len(header)), s.partial.Count)]
	}
	return append(imapwire.AppendLiteral(dst, int64(len(header))), header...)
}

// clip is where a partial begins within size octets.
func (s *fetchSection) clip(size int64) int64 {
	if s.partial == nil {
		return 0
	}
	return min(s.partial.Offset, size)
}

// selectFields returns the fields of a header that have one of the names, or
// none of them, and the empty line (RFC 3501 §6.4.5).
func selectFields(header []byte, names []string, not bool) []byte {
	var out []byte
	for f := range mime.Fields(header) {
		named := slices.ContainsFunc(names, f.Is)
		if f.Name != "" && named != not {
			out = append(out, f.Raw...)
		}
	}
	return append(out, "\r\n"...)
}

// writeSection writes a section that lies in the body: NIL if there is no such
// part, else a literal.
func (c *session) writeSection(s *fetchSection, parts *mime.Parts, body store.MessageBody) error {
	from, to, ok := s.locate(parts, body.Size())
	if !ok {
		c.conn.WriteString("NIL")
		return nil
	}
	if s.Part == imapwire.PartHeaderFields || s.Part == imapwire.PartHeaderFieldsNot {
		header := make([]byte, min(to-from, maxNestedHeader))
		if _, err := readAt(body, header, from); err != nil {
			return err
		}
		c.conn.SetOut(appendHeaderSection(c.conn.Out(), s, header))
		return nil
	}
	from += s.clip(to - from)
	if s.partial != nil {
		to = min(to, from+s.partial.Count)
	}
	c.conn.SetOut(imapwire.AppendLiteral(c.conn.Out(), to-from))
	for from < to {
		out := slices.Grow(c.conn.Out(), bodyChunk)
		n := int(min(to-from, bodyChunk))
		if _, err := readAt(body, out[len(out):len(out)+n], from); err != nil {
			return err
		}
		c.conn.SetOut(out[:len(out)+n])
		if err := c.connected(); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// readAt reads all of b; a message that is shorter than the store said is an error.
func readAt(r io.ReaderAt, b []byte, at int64) (int, error) {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// locate finds a section in the message; parts may be nil for the whole one.
func (s *fetchSection) locate(parts *mime.Parts, size int64) (from, to int64, ok bool) {
	if len(s.Path) == 0 && s.Part == imapwire.PartWhole {
		return 0, size, true
	}
	if parts == nil {
		return 0, 0, false
	}
	switch s.Part {
	case imapwire.PartWhole, imapwire.PartMIME:
		r, found := parts.Find(s.Path)
		if s.Part == imapwire.PartMIME {
			return r.Header, r.Body, found
		}
		return r.Body, r.End, found
	case imapwire.PartText:
		r, found := parts.Message(s.Path)
		return r.Body, r.End, found
	default:
		r, found := parts.Message(s.Path)
		return r.Header, r.Body, found
	}
}
