package schema

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDN bounds the text of a DN and maxRDNs its depth: a stranger's DN costs
// no more than this.
const (
	maxDN   = 4096
	maxRDNs = 64
)

// ErrDN is in the chain of every error of ParseDN.
var ErrDN = errors.New("malformed DN")

// DN is a distinguished name (RFC 4514), the deepest RDN first. The zero DN is
// the root.
type DN struct {
	RDNs []RDN
}

// RDN is a relative distinguished name: one or more attribute values.
type RDN []AttributeValue

// AttributeValue is one attribute=value of an RDN; the value is unescaped.
type AttributeValue struct {
	Name, Value string
}

// IsRoot reports whether dn is the zero DN.
func (dn DN) IsRoot() bool { return len(dn.RDNs) == 0 }

// Parent returns the DN one level up; the root's parent is the root.
func (dn DN) Parent() DN {
	if dn.IsRoot() {
		return dn
	}
	return DN{RDNs: dn.RDNs[1:]}
}

// Child returns the DN of an entry below dn, named by one attribute.
func (dn DN) Child(name, value string) DN {
	return DN{RDNs: append([]RDN{{{name, value}}}, dn.RDNs...)}
}

// Equal compares by Normal.
func (dn DN) Equal(other DN) bool { return dn.Normal() == other.Normal() }

// Under reports whether dn is ancestor itself or lies below it.
func (dn DN) Under(ancestor DN) bool {
	n := len(dn.RDNs) - len(ancestor.RDNs)
	return n >= 0 && DN{RDNs: dn.RDNs[n:]}.Normal() == ancestor.Normal()
}

// String returns dn as RFC 4514 §2 writes it.
func (dn DN) String() string { return dn.format(false) }

// Normal returns a form in which equal DNs are equal strings: names and values
// in lower case with white space folded, the values of an RDN in order.
func (dn DN) Normal() string { return dn.format(true) }

func (dn DN) format(normal bool) string {
	var b strings.Builder
	for i, rdn := range dn.RDNs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(rdn.format(normal))
	}
	return b.String()
}

// String returns the RDN as RFC 4514 §2.3 writes it.
func (rdn RDN) String() string { return rdn.format(false) }

// Normal returns a form in which equal RDNs are equal strings, as DN's.
func (rdn RDN) Normal() string { return rdn.format(true) }

func (rdn RDN) format(normal bool) string {
	if len(rdn) == 1 && normal {
		return Fold(rdn[0].Name) + "=" + EscapeDNValue(Fold(rdn[0].Value))
	}
	parts := make([]string, len(rdn))
	for i, av := range rdn {
		if normal {
			av = AttributeValue{Fold(av.Name), Fold(av.Value)}
		}
		parts[i] = av.Name + "=" + EscapeDNValue(av.Value)
	}
	if normal {
		slices.Sort(parts)
	}
	return strings.Join(parts, "+")
}

// EscapeDNValue escapes a value for use in a DN string (RFC 4514 §2.4).
func EscapeDNValue(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`,+"\<>;=#`, r) }) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case strings.IndexByte(`,+"\<>;=`, c) >= 0,
			i == 0 && (c == ' ' || c == '#'), i == len(s)-1 && c == ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ParseDN reads a DN string (RFC 4514 §3), at most 4,096 bytes and 64 levels.
func ParseDN(s string) (DN, error) {
	if len(s) > maxDN {
		return DN{}, fmt.Errorf("%w: longer than %d bytes", ErrDN, maxDN)
	}
	var dn DN
	if strings.TrimSpace(s) == "" {
		return dn, nil
	}
	rdn := RDN{}
	for {
		av, sep, rest, err := scanAttributeValue(s)
		if err != nil {
			return DN{}, err
		}
		rdn = append(rdn, av)
		s = rest
		if sep == '+' {
			continue
		}
		dn.RDNs = append(dn.RDNs, rdn)
		rdn = RDN{}
		if len(dn.RDNs) > maxRDNs {
			return DN{}, fmt.Errorf("%w: deeper than %d levels", ErrDN, maxRDNs)
		}
		if sep == 0 {
			return dn, nil
		}
	}
}

// MustParseDN is ParseDN for constants in the program's own text; it panics.
func MustParseDN(s string) DN {
	dn, err := ParseDN(s)
	if err != nil {
		panic(err)
	}
	return dn
}

// scanAttributeValue reads name=value up to an unescaped comma, plus sign or
// the end; sep is that byte, 0 at the end.
func scanAttributeValue(s string) (av AttributeValue, sep byte, rest string, err error) {
	name, value, ok := strings.Cut(s, "=")
	name = strings.TrimSpace(name)
	if !ok || !IsDescription(name) {
		return av, 0, "", fmt.Errorf("%w: no attribute name", ErrDN)
	}
	value = strings.TrimLeft(value, " ")
	if strings.HasPrefix(value, "#") {
		return av, 0, "", fmt.Errorf("%w: BER values are not supported", ErrDN)
	}
	var b strings.Builder
	keep := 0 // length up to the last byte that trimming must not touch
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch c {
		case ',', ';', '+':
			if c == ';' {
				c = ','
			}
			return finishValue(name, &b, keep, c, value[i+1:])
		case '\\':
			n, raw, err := unescape(value[i+1:])
			if err != nil {
				return av, 0, "", err
			}
			b.WriteByte(raw)
			keep = b.Len()
			i += n
		case '"', '<', '>', 0:
			return av, 0, "", fmt.Errorf("%w: unescaped %q", ErrDN, c)
		default:
			b.WriteByte(c)
		}
	}
	return finishValue(name, &b, keep, 0, "")
}

func finishValue(name string, b *strings.Builder, keep int, sep byte, rest string) (AttributeValue, byte, string, error) {
	v := b.String()
	v = v[:keep] + strings.TrimRight(v[keep:], " ")
	if v == "" || !utf8.ValidString(v) {
		return AttributeValue{}, 0, "", fmt.Errorf("%w: empty value or broken UTF-8", ErrDN)
	}
	return AttributeValue{Name: name, Value: v}, sep, rest, nil
}

// unescape reads what follows a backslash: a special character or two hex digits.
func unescape(s string) (n int, raw byte, err error) {
	if s != "" && strings.IndexByte(` ,+"\<>;=#`, s[0]) >= 0 {
		return 1, s[0], nil
	}
	if len(s) >= 2 {
		if b, err := hex.DecodeString(s[:2]); err == nil {
			return 2, b[0], nil
		}
	}
	return 0, 0, fmt.Errorf("%w: bad escape", ErrDN)
}

// IsDescription reports whether s is an attribute name or a numeric OID.
func IsDescription(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == ';') {
			return false
		}
	}
	return true
}
