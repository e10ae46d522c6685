package mime

import "strings"

// maxAddresses bounds an address list.
const maxAddresses = 1000

// AddressKind tells mailboxes from the ends of a group.
type AddressKind int

// The kinds of Address in a list.
const (
	// Mailbox has Local and Domain.
	Mailbox AddressKind = iota
	// GroupStart has the group's name in Name.
	GroupStart
	// GroupEnd has nothing.
	GroupEnd
)

// Address is one element of an address list. Quoting is undone; encoded words
// of RFC 2047 are not decoded.
type Address struct {
	Kind AddressKind
	// Name is the display name, or a group's name.
	Name string
	// Route is an obsolete source route, "@a,@b" (RFC 5322 §4.4).
	Route string
	// Local and Domain are as written; either may be empty.
	Local, Domain string
}

// ParseAddressList reads an address list (RFC 5322 §3.4) from an unfolded
// field body. It takes what it can and never fails; at most 1000 elements.
func ParseAddressList(s string) []Address { return parseAddresses(s, maxAddresses) }

func parseAddresses(s string, limit int) []Address {
	if s == "" {
		return nil
	}
	p := addressParser{s: s}
	var list []Address
	group := false
	for len(list) < limit {
		a, delimiter, found := p.address(!group)
		if found {
			list = append(list, a)
		}
		switch {
		case delimiter == ':':
			group = true
		case delimiter == ';' && group, delimiter == 0 && group:
			list = append(list, Address{Kind: GroupEnd})
			group = false
		}
		if delimiter == 0 {
			return list
		}
	}
	if group {
		list = append(list, Address{Kind: GroupEnd})
	}
	return list
}

// addressParser moves forward only, so its time is linear.
type addressParser struct {
	s       string
	pos     int
	comment string // text of the last comment passed
	spaced  bool   // white space or a comment was passed by the last skip
	count   int    // words of the last phrase
}

func (p *addressParser) skip() {
	start := p.pos
	for p.pos < len(p.s) {
		switch p.s[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		case '(':
			end := commentEnd(p.s, p.pos)
			p.comment = strings.TrimSuffix(p.s[p.pos+1:end], ")")
			p.pos = end
		default:
			p.spaced = p.pos > start
			return
		}
	}
	p.spaced = p.pos > start
}

// words reads atoms, dots and quoted strings up to a special character, which
// is returned but not passed; 0 at the end. A space is kept between words that had one.
func (p *addressParser) words(stop string) (string, byte) {
	var first string
	var b strings.Builder
	n := 0
	defer func() { p.count = n }()
	add := func(word string) {
		n++
		if n == 1 {
			first = word
			return
		}
		if n == 2 {
			b.WriteString(first)
		}
		if p.spaced {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	for p.skip(); p.pos < len(p.s); p.skip() {
		c := p.s[p.pos]
		switch {
		case c == '"':
			spaced := p.spaced
			var word string
			word, p.pos = quotedString(p.s, p.pos)
			p.spaced = spaced
			add(word)
		case strings.IndexByte(stop, c) >= 0:
			if n < 2 {
				return first, c
			}
			return b.String(), c
		default:
			start := p.pos
			for p.pos++; p.pos < len(p.s) && strings.IndexByte(" \t\r\n(\"", p.s[p.pos]) < 0 &&
				strings.IndexByte(stop, p.s[p.pos]) < 0; p.pos++ {
			}
			add(p.s[start:p.pos])
		}
	}
	if n < 2 {
		return first, 0
	}
	return b.String(), 0
}

// address reads up to and with the next delimiter: a comma, a colon that opens
// a group (if one may), a semicolon, or 0 for the end.
func (p *addressParser) address(groups bool) (a Address, delimiter byte, found bool) {
	p.comment = ""
	stop := "<@,;"
	if groups {
		stop = "<@,;:"
	}
	phrase, c := p.words(stop)
	switch c {
	case ':':
		p.pos++
		return Address{Kind: GroupStart, Name: phrase}, ':', true
	case '<':
		p.pos++
		a.Name = phrase
		p.angle(&a)
		_, c = p.words(",;")
		found = true
	case '@':
		p.pos++
		a.Local = phrase
		if p.count > 1 { // "a . b@c"; one quoted string keeps its spaces
			a.Local = strings.ReplaceAll(phrase, " ", "")
		}
		a.Domain, c = p.words("<,;")
		a.Domain = strings.ReplaceAll(a.Domain, " ", "")
		if c == '<' { // "a@b <c@d>": an unquoted address as display name
			p.pos++
			a.Name, a.Local, a.Domain = phrase+"@"+a.Domain, "", ""
			p.angle(&a)
			_, c = p.words(",;")
		}
		found = true
	default:
		a.Local = phrase
		found = phrase != ""
	}
	if a.Name == "" {
		a.Name = strings.TrimSpace(p.comment) // "joe@example.org (Joe)"
	}
	if c != 0 {
		p.pos++
	}
	return a, c, found
}

// angle reads up to and with ">".
func (p *addressParser) angle(a *Address) {
	const stop = "@:>,;"
	word, c := p.words(stop)
	if word == "" && (c == '@' || c == ',') { // route: up to the colon
		start := p.pos
		for c != 0 && c != ':' && c != '>' {
			p.pos++
			_, c = p.words(":>")
		}
		route := p.s[start:p.pos]
		if c != ':' {
			a.Domain = strings.TrimPrefix(strings.TrimSpace(route), "@")
			if c == '>' {
				p.pos++
			}
			return
		}
		a.Route = strings.TrimSpace(route)
		p.pos++
		word, c = p.words("@>")
	} else if c != '@' && c != '>' && c != 0 {
		rest := ""
		start := p.pos
		_, c = p.words("@>")
		rest = p.s[start:p.pos]
		word += strings.TrimSpace(rest)
	}
	a.Local = word
	if c == '@' {
		p.pos++
		a.Domain, c = p.words(">")
		a.Domain = strings.ReplaceAll(a.Domain, " ", "")
	}
	if c == '>' {
		p.pos++
	}
}
