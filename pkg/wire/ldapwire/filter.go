package ldapwire

import (
	"errors"
	"fmt"
	"strings"
)

// Bounds of a filter that came over the wire.
const (
	MaxFilterNodes = 256
	MaxFilterDepth = 32
)

// ErrTooComplex: a filter has too many nodes or levels. The message's ID and
// type are known, so it can be answered.
var ErrTooComplex = errors.New("filter too complex")

// FilterKind says which fields of a Filter count; it is the number of the
// filter's tag (RFC 4511 §4.5.1).
type FilterKind int

// The kinds of filter.
const (
	And FilterKind = iota
	Or
	Not
	Equality
	Substrings
	GreaterOrEqual
	LessOrEqual
	Present
	Approx
	Extensible
)

// Filter is a search filter as a tree (§4.5.1.7).
type Filter struct {
	Kind FilterKind
	// Children of And and Or, and of Not (one).
	Children []Filter
	// Attribute is the description; of Extensible it may be empty.
	Attribute string
	// Value is the assertion value of all kinds but Present and Substrings.
	Value string
	// Initial, Any and Final are the parts of Substrings.
	Initial, Final string
	Any            []string
	// Rule and DNAttributes belong to Extensible.
	Rule         string
	DNAttributes bool
}

const (
	tagFilterSet     Tag = 0xa0 // class and form of And to Approx
	tagFilterPresent Tag = 0x87

	tagInitial Tag = 0x80
	tagAny     Tag = 0x81
	tagFinal   Tag = 0x82

	tagRule         Tag = 0x81
	tagType         Tag = 0x82
	tagMatchValue   Tag = 0x83
	tagDNAttributes Tag = 0x84
)

// filter reads the next element as a filter that stands depth levels deep.
func (r *reader) filter(f *Filter, depth int) {
	tag, content := r.next()
	d := r.d
	if d.nodes++; d.nodes > MaxFilterNodes || depth > MaxFilterDepth {
		d.tooComplex()
	}
	if d.err != nil {
		return
	}
	in := reader{d, content}
	f.Kind = FilterKind(tag &^ tagFilterSet)
	switch {
	case tag == tagFilterPresent:
		f.Kind, f.Attribute = Present, content
	case tag&^0x1f != tagFilterSet:
		d.fail("filter tag %#02x", byte(tag))
	case f.Kind == And, f.Kind == Or:
		in.children(f, depth)
	case f.Kind == Not:
		f.Children = make([]Filter, 1)
		in.filter(&f.Children[0], depth+1)
		if in.more() {
			d.fail("not with two filters")
		}
	case f.Kind == Substrings:
		f.Attribute = in.octets(tagOctetString)
		in.substrings(f)
	case f.Kind == Extensible:
		in.extensible(f)
	case f.Kind <= Approx && f.Kind != Present:
		f.Attribute = in.octets(tagOctetString)
		f.Value = in.octets(tagOctetString)
	default:
		d.fail("filter tag %#02x", byte(tag))
	}
}

func (d *decoder) tooComplex() {
	if d.err == nil {
		d.err = ErrTooComplex
	}
}

func (r *reader) children(f *Filter, depth int) {
	n := r.count()
	if r.d.nodes+n > MaxFilterNodes { // before memory is spent on them
		r.d.tooComplex()
	}
	if n == 0 || r.d.err != nil {
		return // RFC 4526: none is absolute true or false
	}
	f.Children = make([]Filter, n)
	for i := range f.Children {
		r.filter(&f.Children[i], depth+1)
	}
}

func (r *reader) substrings(f *Filter) {
	parts := r.group(tagSequence)
	n := parts.count()
	if n == 0 || n > MaxFilterNodes {
		r.d.fail("substrings filter of %d parts", n)
	}
	for i := 0; parts.more(); i++ {
		tag, part := parts.next()
		switch {
		case part == "":
			r.d.fail("empty substring")
		case tag == tagInitial && i == 0:
			f.Initial = part
		case tag == tagAny:
			if f.Any == nil {
				f.Any = make([]string, 0, n-i)
			}
			f.Any = append(f.Any, part)
		case tag == tagFinal && !parts.more():
			f.Final = part
		default:
			r.d.fail("substring out of place")
		}
	}
}

func (r *reader) extensible(f *Filter) {
	f.Rule, _ = r.optional(tagRule)
	f.Attribute, _ = r.optional(tagType)
	f.Value = r.octets(tagMatchValue)
	if r.peek() == tagDNAttributes {
		f.DNAttributes = r.boolean(tagDNAttributes)
	}
	if f.Rule == "" && f.Attribute == "" {
		r.d.fail("extensible filter without rule and attribute")
	}
}

func appendFilter(dst []byte, f *Filter) []byte {
	if f.Kind == Present {
		return appendOctets(dst, tagFilterPresent, f.Attribute)
	}
	dst, mark := begin(dst, tagFilterSet|Tag(f.Kind))
	switch f.Kind {
	case And, Or, Not:
		for i := range f.Children {
			dst = appendFilter(dst, &f.Children[i])
		}
	case Substrings:
		dst = appendOctets(dst, tagOctetString, f.Attribute)
		dst = appendSubstrings(dst, f)
	case Extensible:
		if f.Rule != "" {
			dst = appendOctets(dst, tagRule, f.Rule)
		}
		if f.Attribute != "" {
			dst = appendOctets(dst, tagType, f.Attribute)
		}
		dst = appendOctets(dst, tagMatchValue, f.Value)
		if f.DNAttributes {
			dst = appendBoolean(dst, tagDNAttributes, true)
		}
	default:
		dst = appendOctets(dst, tagOctetString, f.Attribute)
		dst = appendOctets(dst, tagOctetString, f.Value)
	}
	return end(dst, mark)
}

func appendSubstrings(dst []byte, f *Filter) []byte {
	dst, mark := begin(dst, tagSequence)
	if f.Initial != "" {
		dst = appendOctets(dst, tagInitial, f.Initial)
	}
	for _, s := range f.Any {
		dst = appendOctets(dst, tagAny, s)
	}
	if f.Final != "" {
		dst = appendOctets(dst, tagFinal, f.Final)
	}
	return end(dst, mark)
}

// String returns the filter as RFC 4515 §3 writes it, for a log.
func (f Filter) String() string {
	var b strings.Builder
	f.format(&b)
	return b.String()
}

func (f *Filter) format(b *strings.Builder) {
	b.WriteByte('(')
	switch f.Kind {
	case And, Or, Not:
		b.WriteByte("&|!"[f.Kind])
		for i := range f.Children {
			f.Children[i].format(b)
		}
	case Present:
		b.WriteString(escape(f.Attribute) + "=*")
	case Substrings:
		b.WriteString(escape(f.Attribute) + "=" + escape(f.Initial) + "*")
		for _, s := range f.Any {
			b.WriteString(escape(s) + "*")
		}
		b.WriteString(escape(f.Final))
	case Extensible:
		b.WriteString(escape(f.Attribute))
		if f.DNAttributes {
			b.WriteString(":dn")
		}
		if f.Rule != "" {
			b.WriteString(":" + escape(f.Rule))
		}
		b.WriteString(":=" + escape(f.Value))
	default:
		operator := [...]string{Equality: "=", GreaterOrEqual: ">=", LessOrEqual: "<=", Approx: "~="}[f.Kind]
		b.WriteString(escape(f.Attribute) + operator + escape(f.Value))
	}
	b.WriteByte(')')
}

// escape writes what RFC 4515 §3 wants escaped, and all that is not printable
// ASCII, as a backslash and two hex digits.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' && c != ' ' || c >= 0x7f || strings.IndexByte(`*()\`, c) >= 0 {
			fmt.Fprintf(&b, `\%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
