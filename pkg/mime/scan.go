package mime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// bufferSize is the read buffer; a boundary line must fit.
const bufferSize = 8 << 10

// Scan reads a message to its end. The only errors are those of r.
func Scan(r io.Reader, l Limits) (*Message, error) {
	l = l.orDefaults()
	l.Boundary = min(l.Boundary, bufferSize-64)
	s := &scanner{r: bufio.NewReaderSize(r, bufferSize), limits: l, keep: l.PartHeaders}
	m := &Message{addresses: l.Addresses}
	s.next()
	m.Header = s.header(make([]byte, 0, 1024), l.Header)
	s.parts++
	s.root = true
	m.Root, m.envelope = s.entity(m.Header, 0, 0, "text", "plain", true)
	if s.err != nil {
		return nil, fmt.Errorf("reading message: %w", s.err)
	}
	m.Size = s.off
	m.MessageID = messageID(m.envelope.messageID.value)
	return m, nil
}

// scanner is at one line, or one piece of a long line, at a time.
type scanner struct {
	r      *bufio.Reader
	limits Limits

	line  []byte // the current piece with its line end; empty at the end
	start bool   // line begins a line
	off   int64  // offset of line
	feeds int64  // line feeds before line
	err   error

	// hit is the level of the boundary in line, or -1; last says it closes.
	hit  int
	last bool
	// prevEnd is how many octets of line end precede line.
	prevEnd int

	boundaries []string
	parts      int
	keep       int    // octets of part headers that may still be kept
	block      []byte // header of the part at hand
	root       bool   // the message's own header is being parsed
}

// next moves to the next piece, and looks whether it is a boundary.
func (s *scanner) next() {
	s.off += int64(len(s.line))
	s.start = s.line == nil
	if n := len(s.line); n > 0 && s.line[n-1] == '\n' {
		s.start = true
		s.feeds++
		s.prevEnd = 1
		if n > 1 && s.line[n-2] == '\r' {
			s.prevEnd = 2
		}
	}
	s.hit, s.last = -1, false
	line, err := s.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
		s.err = err
		line = nil
	}
	s.line = line[:len(line):len(line)]
	if s.line == nil {
		s.line = []byte{}
	}
	if s.start && len(s.boundaries) > 0 && len(line) > 2 && line[0] == '-' && line[1] == '-' {
		s.match(bytes.TrimRight(line[2:], " \t\r\n"))
	}
}

// match finds the innermost boundary that delimiter is (RFC 2046 §5.1.1).
func (s *scanner) match(delimiter []byte) {
	for i := len(s.boundaries) - 1; i >= 0; i-- {
		b := s.boundaries[i]
		if len(delimiter) == len(b) && string(delimiter) == b {
			s.hit = i
			return
		}
		if len(delimiter) == len(b)+2 && delimiter[len(b)] == '-' && delimiter[len(b)+1] == '-' &&
			string(delimiter[:len(b)]) == b {
			s.hit, s.last = i, true
			return
		}
	}
}

// done says the entity at hand ends here: by a boundary, or with the message.
func (s *scanner) done() bool { return len(s.line) == 0 || s.hit >= 0 }

// header reads a header block up to and with its empty line, keeping at most
// limit octets in dst.
func (s *scanner) header(dst []byte, limit int) []byte {
	for !s.done() {
		if room := limit - len(dst); room > 0 {
			dst = append(dst, s.line[:min(room, len(s.line))]...)
		}
		empty := s.start && isEmptyLine(s.line)
		s.next()
		if empty {
			break
		}
	}
	return dst
}

// entity parses a part whose header was just read. It ends at a boundary of
// any level, or the end.
func (s *scanner) entity(header []byte, headerOffset int64, depth int, typ, subtype string, message bool) (Part, Envelope) {
	p := Part{HeaderOffset: headerOffset, BodyOffset: s.off, Type: typ, Subtype: subtype, Encoding: "7bit"}
	envelope := s.fields(&p, header, message)
	s.root = false
	feeds := s.feeds
	s.body(&p, depth)
	p.End, p.Lines = s.off, s.feeds-feeds
	if s.hit >= 0 { // the line end before a boundary belongs to the boundary
		p.End -= int64(s.prevEnd)
		p.Lines--
	}
	if p.End <= p.BodyOffset {
		p.End, p.Lines = p.BodyOffset, 0
	}
	if n := len(p.Children); n > 0 {
		p.End = max(p.End, p.Children[n-1].End)
	}
	if p.Message != nil {
		p.End = max(p.End, p.Message.Root.End)
	}
	return p, envelope
}

// body goes through a part's body and takes it apart if it may.
func (s *scanner) body(p *Part, depth int) {
	boundary := ""
	for _, param := range p.Params {
		if p.Type == "multipart" && equalFold(param.Name, "boundary") {
			boundary = strings.TrimRight(param.Value, " \t")
			break
		}
	}
	embedded := p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
	switch {
	case p.Type != "multipart" && !embedded:
	case p.Type == "multipart" && (boundary == "" || len(boundary) > s.limits.Boundary):
		p.Type, p.Subtype, p.Params = "text", "plain", nil // RFC 2045 §5.2
	case depth >= s.limits.Depth || s.parts >= s.limits.Parts:
		p.Type, p.Subtype, p.Params = "application", "octet-stream", nil
	case embedded:
		s.parts++
		start := s.off
		s.block = s.header(s.block[:0], s.limits.PartHeaders)
		p.Message = &Embedded{}
		p.Message.Root, p.Message.envelope = s.entity(s.block, start, depth+1, "text", "plain", true)
		return
	default:
		s.multipart(p, boundary, depth)
		return
	}
	for !s.done() {
		s.next()
	}
}

func (s *scanner) multipart(p *Part, boundary string, depth int) {
	level := len(s.boundaries)
	s.boundaries = append(s.boundaries, boundary)
	// A boundary may be the line that is already there.
	if s.hit < 0 && s.start && bytes.HasPrefix(s.line, []byte("--")) {
		s.match(bytes.TrimRight(s.line[2:], " \t\r\n"))
	}
	typ, subtype := "text", "plain"
	if p.Subtype == "digest" { // RFC 2046 §5.1.5
		typ, subtype = "message", "rfc822"
	}
	for !s.done() { // preamble
		s.next()
	}
	for s.hit == level && !s.last && s.parts < s.limits.Parts {
		s.next()
		s.parts++
		start := s.off
		s.block = s.header(s.block[:0], s.limits.PartHeaders)
		child, _ := s.entity(s.block, start, depth+1, typ, subtype, false)
		p.Children = append(p.Children, child)
	}
	s.boundaries = s.boundaries[:level]
	if s.hit == level { // closed: the epilogue runs up to an outer boundary
		s.hit = -1
		for s.next(); !s.done(); s.next() {
		}
	}
	if len(p.Children) == 0 { // RFC 9051 §9: body-type-mpart has at least one body
		p.Children = []Part{{HeaderOffset: p.BodyOffset, BodyOffset: p.BodyOffset, End: p.BodyOffset,
			Type: "text", Subtype: "plain", Encoding: "7bit"}}
	}
}

// fields fills p from its header block; the envelope only for a message.
func (s *scanner) fields(p *Part, header []byte, message bool) Envelope {
	var e Envelope
	typed := false
	for f := range Fields(header) {
		switch {
		case len(f.Name) > 8 && equalFold(f.Name[:8], "content-"):
			s.content(p, f, &typed)
		case message:
			e.add(s, f)
		}
	}
	return e
}

// text returns the field's unfolded body while there is room to keep it.
func (s *scanner) text(f Field) string {
	v := unfold(f.body())
	if !s.root {
		if len(v) > s.keep {
			return ""
		}
		s.keep -= len(v)
	}
	return string(v)
}

func (s *scanner) content(p *Part, f Field, typed *bool) {
	set := func(field *string) {
		if *field == "" {
			*field = s.text(f)
		}
	}
	switch strings.ToLower(f.Name[8:]) {
	case "type":
		if *typed {
			return
		}
		*typed = true
		typ, subtype, params, ok := contentType(s.text(f), s.limits.Params)
		if !ok {
			typ, subtype = "text", "plain"
		}
		p.Type, p.Subtype, p.Params = typ, subtype, params
	case "transfer-encoding":
		w := words{s: s.text(f)}
		if enc := w.token(";( \t"); isToken(enc) {
			p.Encoding = strings.ToLower(enc)
		}
	case "disposition":
		if p.Disposition == "" {
			w := words{s: s.text(f)}
			p.Disposition = strings.ToLower(w.token(";( \t"))
			p.DispositionParams = w.params(s.limits.Params)
		}
	case "id":
		set(&p.ID)
	case "description":
		set(&p.Description)
	case "md5":
		set(&p.MD5)
	case "location":
		set(&p.Location)
	case "language":
		set(&p.Language)
	}
}
