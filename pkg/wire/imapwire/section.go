package imapwire

import (
	"strconv"
)

// SectionPart says which part of a message or body part a Section means.
type SectionPart int

// The parts of RFC 3501 §6.4.5.
const (
	PartWhole SectionPart = iota
	PartHeader
	PartHeaderFields
	PartHeaderFieldsNot
	PartText
	PartMIME
)

var sectionWords = [...]string{"", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"}

// maxPath bounds the numbers of a part; messages nest no deeper.
const maxPath = 128

// Section is what stands between the brackets of BODY[...].
type Section struct {
	// Path is the part's number; empty: the message itself.
	Path []int
	Part SectionPart
	// Fields are the names for PartHeaderFields and PartHeaderFieldsNot, as
	// the client wrote them.
	Fields []string
}

// Section reads a section in its brackets.
func (l *Lexer) Section() Section {
	var s Section
	l.Expect('[')
	for isDigit(l.Peek()) {
		n := l.Number()
		if n == 0 || len(s.Path) == maxPath {
			l.fail("bad part number")
		}
		s.Path = append(s.Path, int(n))
		if !l.Take('.') {
			l.Expect(']')
			return s
		}
	}
	if len(s.Path) == 0 && l.Take(']') {
		return s
	}
	switch word := l.Keyword(); word {
	case "HEADER":
		s.Part = PartHeader
	case "TEXT":
		s.Part = PartText
	case "MIME":
		s.Part = PartMIME
		if len(s.Path) == 0 {
			l.fail("MIME needs a part number")
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		s.Part = PartHeaderFields
		if word == "HEADER.FIELDS.NOT" {
			s.Part = PartHeaderFieldsNot
		}
		l.Space()
		l.List(func() { s.Fields = append(s.Fields, l.AString()) })
		if len(s.Fields) == 0 {
			l.fail("no header field named")
		}
	default:
		l.fail("unknown section")
	}
	l.Expect(']')
	return s
}

// Append appends the section with its brackets.
func (s Section) Append(dst []byte) []byte {
	dst = append(dst, '[')
	for i, n := range s.Path {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if s.Part != PartWhole {
		if len(s.Path) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, sectionWords[s.Part]...)
	}
	if len(s.Fields) > 0 {
		dst = append(dst, " ("...)
		for i, f := range s.Fields {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = AppendAString(dst, f)
		}
		dst = append(dst, ')')
	}
	return append(dst, ']')
}

// Partial is <offset.count> after a section, in octets.
type Partial struct {
	Offset, Count int64
}

// Partial reads <offset.count> if it is next, and reports whether it was.
func (l *Lexer) Partial() (Partial, bool) {
	if !l.Take('<') {
		return Partial{}, false
	}
	p := Partial{Offset: int64(l.Number64())}
	l.Expect('.')
	if p.Count = int64(l.Number64()); p.Count == 0 {
		l.fail("a partial has at least one octet")
	}
	l.Expect('>')
	return p, l.err == nil
}
