package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	MaxLocal  = 64
	MaxDomain = 255
	MaxPath   = 256
)

// ErrAddress is in the chain of every error of this file's parsers.
var ErrAddress = errors.New("malformed address")

// Address is an SMTP mailbox (RFC 5321 §4.1.2). Local is unquoted and keeps
// its case; Domain is lower-case A-labels, or an address literal with its
// brackets. The zero Address is the null reverse-path. Addresses are
// comparable; use Key where the case of Local must not matter.
type Address struct {
	Local  string
	Domain string
}

// IsNull reports whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII reports whether a can travel without SMTPUTF8.
func (a Address) IsASCII() bool { return isASCII(a.Local) }

// Key is a in the form under which we compare addresses of our own domains:
// the local part folded to lower case.
func (a Address) Key() Address { return Address{Local: strings.ToLower(a.Local), Domain: a.Domain} }

// String returns a as it stands between angle brackets, the local part quoted
// again where it must be. The null reverse-path is the empty string.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	if a.Domain == "" {
		return a.quotedLocal()
	}
	return a.quotedLocal() + "@" + a.Domain
}

func (a Address) quotedLocal() string {
	if isDotString(a.Local) {
		return a.Local
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range a.Local {
		if r == '"' || r == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

// ParseAddress reads local@domain: a dot-string or quoted-string, then a
// domain or address literal; nothing may precede or follow. Percent and bang
// forms are ordinary characters of a local part here; that they are no source
// routes is the business of policy.
func ParseAddress(s string) (Address, error) {
	a, rest, err := scanMailbox(s)
	if err != nil {
		return Address{}, err
	}
	if rest != "" {
		return Address{}, fmt.Errorf("%w: unexpected %q", ErrAddress, clip(rest))
	}
	return a, nil
}

// ParsePath reads a path in angle brackets from the front of s and returns
// what follows it: "<local@domain> SIZE=1" gives " SIZE=1". A source route is
// read and dropped (RFC 5321 §4.1.1.3). "<>" is the null reverse-path, and
// "<postmaster>" an address without a domain (RFC 5321 §4.5.1).
func ParsePath(s string) (Address, string, error) {
	if !strings.HasPrefix(s, "<") {
		return Address{}, s, fmt.Errorf("%w: a path begins with <", ErrAddress)
	}
	s = s[1:]
	if rest, ok := strings.CutPrefix(s, ">"); ok {
		return Address{}, rest, nil
	}
	if len(s) > 11 && strings.EqualFold(s[:11], "postmaster>") {
		return Address{Local: s[:10]}, s[11:], nil
	} else if strings.EqualFold(s, "postmaster>") {
		return Address{Local: s[:10]}, "", nil
	}
	if strings.HasPrefix(s, "@") {
		route, rest, ok := strings.Cut(s, ":")
		if !ok || len(route) > MaxPath {
			return Address{}, s, fmt.Errorf("%w: source route without end", ErrAddress)
		}
		for hop := range strings.SplitSeq(route, ",") {
			if d, ok := strings.CutPrefix(hop, "@"); !ok {
				return Address{}, s, fmt.Errorf("%w: bad source route", ErrAddress)
			} else if _, err := ParseDomain(d); err != nil {
				return Address{}, s, err
			}
		}
		s = rest
	}
	a, rest, err := scanMailbox(s)
	if err != nil {
		return Address{}, s, err
	}
	rest, ok := strings.CutPrefix(rest, ">")
	if !ok {
		return Address{}, s, fmt.Errorf("%w: a path ends with >", ErrAddress)
	}
	return a, rest, nil
}

// scanMailbox reads a mailbox up to the end of s or to the first byte that
// cannot belong to it.
func scanMailbox(s string) (Address, string, error) {
	local, rest, err := scanLocal(s)
	if err != nil {
		return Address{}, s, err
	}
	rest, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return Address{}, s, fmt.Errorf("%w: no @ after the local part", ErrAddress)
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return strings.ContainsRune("<>@,;\"() \t", r) || r < ' ' || r == 0x7f })
	if end < 0 {
		end = len(rest)
	}
	domain, err := ParseDomain(rest[:end])
	if err != nil {
		return Address{}, s, err
	}
	if len(local)+1+len(domain) > MaxPath-2 {
		return Address{}, s, fmt.Errorf("%w: longer than %d octets", ErrAddress, MaxPath)
	}
	return Address{Local: local, Domain: domain}, rest[end:], nil
}

func scanLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		local, rest, err = scanQuoted(s[1:])
	} else {
		end := strings.IndexFunc(s, func(r rune) bool { return !isAtext(r) && r != '.' })
		if end < 0 {
			end = len(s)
		}
		local, rest = s[:end], s[end:]
		if !isDotString(local) {
			err = fmt.Errorf("%w: bad local part %q", ErrAddress, clip(local))
		}
	}
	if err == nil && (local == "" || len(local) > MaxLocal) {
		err = fmt.Errorf("%w: a local part has 1 to %d octets", ErrAddress, MaxLocal)
	}
	return local, rest, err
}

// scanQuoted reads the inside of a Quoted-string: qtextSMTP is printable
// ASCII, and with RFC 6531 any other UTF-8 that is no control.
func scanQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == '\\' && i+1 < len(s) {
			i++
			r, n = utf8.DecodeRuneInString(s[i:])
			if r >= utf8.RuneSelf {
				return "", s, fmt.Errorf("%w: bad quoted pair", ErrAddress)
			}
		} else if r == '"' {
			return b.String(), s[i+1:], nil
		}
		if r == utf8.RuneError && n <= 1 || unicode.IsControl(r) {
			return "", s, fmt.Errorf("%w: control or broken UTF-8 in a quoted local part", ErrAddress)
		}
		b.WriteRune(r)
		i += n
		if b.Len() > MaxLocal {
			break
		}
	}
	return "", s, fmt.Errorf("%w: quoted local part without end", ErrAddress)
}

// ParseDomain returns s as we keep domains: lower-case A-labels without a
// trailing dot, or an address literal such as "[192.0.2.1]" or "[IPv6:2001:db8::1]".
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > MaxDomain {
		return "", fmt.Errorf("%w: a domain has 1 to %d octets", ErrAddress, MaxDomain)
	}
	if !isASCII(s) {
		if !utf8.ValidString(s) {
			return "", fmt.Errorf("%w: broken UTF-8 in a domain", ErrAddress)
		}
		a, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrAddress, err)
		}
		s = a
	}
	s = strings.ToLower(s)
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("%w: bad domain %q", ErrAddress, clip(s))
		}
	}
	return s, nil
}

func parseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", fmt.Errorf("%w: address literal without ]", ErrAddress)
	}
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is4() == v6 {
		return "", fmt.Errorf("%w: bad address literal", ErrAddress)
	}
	if v6 {
		return "[IPv6:" + ip.String() + "]", nil
	}
	return "[" + ip.String() + "]", nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func isDotString(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	dot := true // as if a dot stood before the first character
	for _, r := range s {
		if r == '.' {
			if dot {
				return false
			}
			dot = true
			continue
		}
		if !isAtext(r) {
			return false
		}
		dot = false
	}
	return !dot
}

// isAtext is atext of RFC 5322 §3.2.3 with the non-ASCII of RFC 6531 §3.3.
func isAtext(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return true
	case r < utf8.RuneSelf:
		return strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
	}
	return r != utf8.RuneError && !unicode.IsControl(r) && !unicode.IsSpace(r)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clip keeps error texts short and printable whatever a stranger sent.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
