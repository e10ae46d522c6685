package directory

import (
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/schema"
)

// ErrFilter is in the chain of the errors of ParseFilter.
var ErrFilter = errors.New("malformed filter")

// Bounds of a filter that is parsed from text.
const (
	maxFilterDepth = 32
	maxFilterNodes = 256
)

// ParseFilter reads the text form of a filter (RFC 4515): at most 256 nodes, 32
// deep. A filter without its outer parentheses is accepted.
func ParseFilter(s string) (Filter, error) {
	if !strings.HasPrefix(s, "(") {
		s = "(" + s + ")"
	}
	p := filterParser{s: s}
	f, err := p.filter(0)
	if err == nil && p.s != "" {
		err = fmt.Errorf("%w: %q follows its end", ErrFilter, clip(p.s))
	}
	return f, err
}

type filterParser struct {
	s     string // what is left
	nodes int
}

func (p *filterParser) filter(depth int) (Filter, error) {
	p.nodes++
	if depth > maxFilterDepth || p.nodes > maxFilterNodes {
		return Filter{}, fmt.Errorf("%w: too deep or too large", ErrFilter)
	}
	rest, ok := strings.CutPrefix(p.s, "(")
	if !ok || rest == "" {
		return Filter{}, fmt.Errorf("%w: no ( at %q", ErrFilter, clip(p.s))
	}
	p.s = rest
	var f Filter
	var err error
	switch rest[0] {
	case '&', '|', '!':
		p.s = rest[1:]
		f, err = p.set(rest[0], depth)
	default:
		f, err = p.item()
	}
	if err != nil {
		return Filter{}, err
	}
	if p.s, ok = strings.CutPrefix(p.s, ")"); !ok {
		return Filter{}, fmt.Errorf("%w: no ) at %q", ErrFilter, clip(p.s))
	}
	return f, nil
}

func (p *filterParser) set(operator byte, depth int) (Filter, error) {
	f := Filter{Kind: map[byte]FilterKind{'&': And, '|': Or, '!': Not}[operator]}
	for strings.HasPrefix(p.s, "(") {
		child, err := p.filter(depth + 1)
		if err != nil {
			return Filter{}, err
		}
		f.Children = append(f.Children, child)
	}
	if f.Kind == Not && len(f.Children) != 1 {
		return Filter{}, fmt.Errorf("%w: ! takes one filter", ErrFilter)
	}
	return f, nil
}

// item reads attribute, operator and value up to the closing parenthesis.
func (p *filterParser) item() (Filter, error) {
	end := strings.IndexAny(p.s, "()")
	if end < 0 {
		return Filter{}, fmt.Errorf("%w: no ) at %q", ErrFilter, clip(p.s))
	}
	text := p.s[:end]
	p.s = p.s[end:]
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return Filter{}, fmt.Errorf("%w: no = in %q", ErrFilter, clip(text))
	}
	f := Filter{Kind: Equality, Attribute: name}
	for suffix, kind := range map[string]FilterKind{">": GreaterOrEqual, "<": LessOrEqual, "~": Approx, ":": Extensible} {
		if n, ok := strings.CutSuffix(name, suffix); ok {
			f.Kind, f.Attribute = kind, n
		}
	}
	if f.Kind == Extensible {
		return extensible(f, value)
	}
	if !schema.IsDescription(f.Attribute) {
		return Filter{}, fmt.Errorf("%w: %q is no attribute", ErrFilter, clip(f.Attribute))
	}
	if f.Kind == Equality && strings.Contains(value, "*") {
		return substrings(f.Attribute, value)
	}
	var err error
	f.Value, err = unescapeFilter(value)
	return f, err
}

// substrings reads "initial*any*final"; a lone "*" is presence.
func substrings(name, value string) (Filter, error) {
	if value == "*" {
		return Filter{Kind: Present, Attribute: name}, nil
	}
	f := Filter{Kind: Substrings, Attribute: name}
	parts := strings.Split(value, "*")
	for i, part := range parts {
		text, err := unescapeFilter(part)
		switch {
		case err != nil:
			return Filter{}, err
		case i == 0:
			f.Initial = text
		case i == len(parts)-1:
			f.Final = text
		case text != "":
			f.Any = append(f.Any, text)
		}
	}
	if f.Initial == "" && f.Final == "" && len(f.Any) == 0 {
		return Filter{Kind: Present, Attribute: name}, nil
	}
	return f, nil
}

// extensible reads what stands before ":=": attribute, ":dn" and rule.
func extensible(f Filter, value string) (Filter, error) {
	parts := strings.Split(f.Attribute, ":")
	f.Attribute = parts[0]
	for _, part := range parts[1:] {
		switch {
		case strings.EqualFold(part, "dn") && !f.DNAttributes && f.Rule == "":
			f.DNAttributes = true
		case f.Rule == "" && schema.IsDescription(part):
			f.Rule = part
		default:
			return Filter{}, fmt.Errorf("%w: bad extensible match", ErrFilter)
		}
	}
	if f.Attribute != "" && !schema.IsDescription(f.Attribute) || f.Attribute == "" && f.Rule == "" {
		return Filter{}, fmt.Errorf("%w: extensible match of no attribute and no rule", ErrFilter)
	}
	var err error
	f.Value, err = unescapeFilter(value)
	return f, err
}

// unescapeFilter undoes backslash and two hex digits (RFC 4515 §3).
func unescapeFilter(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: a backslash without two digits", ErrFilter)
		}
		hi, lo := strings.IndexByte(hexDigits, s[i+1]|0x20), strings.IndexByte(hexDigits, s[i+2]|0x20)
		if hi < 0 || lo < 0 {
			return "", fmt.Errorf("%w: a backslash without two digits", ErrFilter)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

const hexDigits = "0123456789abcdef"

// String returns the filter as RFC 4515 §3 writes it.
func (f Filter) String() string {
	var b strings.Builder
	f.format(&b)
	return b.String()
}

func (f Filter) format(b *strings.Builder) {
	b.WriteByte('(')
	switch f.Kind {
	case And, Or, Not:
		b.WriteString(map[FilterKind]string{And: "&", Or: "|", Not: "!"}[f.Kind])
		for _, c := range f.Children {
			c.format(b)
		}
	case Present:
		b.WriteString(firstOf(f.Attribute, "objectClass") + "=*")
	case Substrings:
		b.WriteString(f.Attribute + "=" + escapeFilter(f.Initial) + "*")
		for _, s := range f.Any {
			b.WriteString(escapeFilter(s) + "*")
		}
		b.WriteString(escapeFilter(f.Final))
	case Extensible:
		b.WriteString(f.Attribute)
		if f.DNAttributes {
			b.WriteString(":dn")
		}
		if f.Rule != "" {
			b.WriteString(":" + f.Rule)
		}
		b.WriteString(":=" + escapeFilter(f.Value))
	default:
		operator := map[FilterKind]string{Equality: "=", GreaterOrEqual: ">=", LessOrEqual: "<=", Approx: "~="}[f.Kind]
		b.WriteString(f.Attribute + operator + escapeFilter(f.Value))
	}
	b.WriteByte(')')
}

func escapeFilter(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || strings.IndexByte(`*()\`, c) >= 0 {
			fmt.Fprintf(&b, `\%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// clip keeps the text of an error short.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
