package smtpwire

import (
	"errors"
)

// errXtext says that a value is not xtext.
var errXtext = errors.New("malformed xtext")

const upperHex = "0123456789ABCDEF"

// AppendXtext appends s to dst as xtext (RFC 3461 §4): printable ASCII stands
// for itself, all else, "+" and "=" as "+" and two hexadecimal digits.
func AppendXtext(dst []byte, s string) []byte {
	for i := range len(s) {
		if b := s[i]; b > ' ' && b < 0x7f && b != '+' && b != '=' {
			dst = append(dst, b)
		} else {
			dst = append(dst, '+', upperHex[b>>4], upperHex[b&15])
		}
	}
	return dst
}

// DecodeXtext is the inverse of AppendXtext. UTF-8 may stand unencoded
// (RFC 6533 §3); lower-case hexadecimal is accepted.
func DecodeXtext(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '+':
			if i+2 >= len(s) {
				return "", errXtext
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return "", errXtext
			}
			out = append(out, hi<<4|lo)
			i += 2
		case b <= ' ' || b == '=' || b == 0x7f:
			return "", errXtext
		default:
			out = append(out, b)
		}
	}
	return string(out), nil
}

func unhex(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10, true
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10, true
	}
	return 0, false
}
