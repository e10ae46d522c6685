package imapwire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// utf7Base64 is base64 with "," for "/" and no padding (RFC 3501 §5.1.3).
var utf7Base64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

var errUTF7 = errors.New("mailbox name is not modified UTF-7")

// AppendUTF7 appends the UTF-8 name s in modified UTF-7 (RFC 3501 §5.1.3).
// Broken UTF-8 becomes U+FFFD.
func AppendUTF7(dst []byte, s string) []byte {
	for len(s) > 0 {
		plain := 0
		for plain < len(s) && s[plain] >= ' ' && s[plain] <= '~' && s[plain] != '&' {
			plain++
		}
		dst, s = append(dst, s[:plain]...), s[plain:]
		if s == "" {
			break
		}
		if s[0] == '&' {
			dst, s = append(dst, "&-"...), s[1:]
			continue
		}
		var units []byte
		for len(s) > 0 && (s[0] < ' ' || s[0] > '~') {
			r, n := utf8.DecodeRuneInString(s)
			s = s[n:]
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				units = append(units, byte(hi>>8), byte(hi), byte(lo>>8), byte(lo))
			} else {
				units = append(units, byte(r>>8), byte(r))
			}
		}
		dst = append(dst, '&')
		dst = utf7Base64.AppendEncode(dst, units)
		dst = append(dst, '-')
	}
	return dst
}

// DecodeUTF7 returns the modified UTF-7 name s in UTF-8. Each name has one
// spelling only: what AppendUTF7 would not write is an error, so that no two
// spellings can name one mailbox.
func DecodeUTF7(s string) (string, error) {
	if strings.IndexByte(s, '&') < 0 {
		for i := range len(s) {
			if s[i] < ' ' || s[i] > '~' {
				return "", errUTF7
			}
		}
		return s, nil
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		plain, shifted, found := strings.Cut(rest, "&")
		b.WriteString(plain)
		if !found {
			break
		}
		coded, after, closed := strings.Cut(shifted, "-")
		if !closed {
			return "", errUTF7
		}
		rest = after
		if coded == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := utf7Base64.DecodeString(coded)
		if err != nil || len(raw)%2 != 0 {
			return "", errUTF7
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		for _, r := range utf16.Decode(units) {
			b.WriteRune(r)
		}
	}
	if name := b.String(); string(AppendUTF7(nil, name)) == s {
		return name, nil
	}
	return "", errUTF7
}
