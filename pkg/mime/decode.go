package mime

import (
	"io"
	stdmime "mime"
	"strings"
	"time"
	"unicode/utf8"

	netmail "net/mail"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/transform"
)

// maxEncodedWords bounds the encoded words of one field; with more of them
// none is decoded.
const maxEncodedWords = 1000

// DecodeHeader turns an unfolded field body into UTF-8: its encoded words
// (RFC 2047) are decoded, and stray 8-bit octets read as Windows-1252. It
// never fails: what cannot be decoded stays as it is.
func DecodeHeader(s string) string {
	s = toUTF8(s)
	if n := strings.Count(s, "=?"); n == 0 || n > maxEncodedWords {
		return s
	}
	d := stdmime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
		return charsetReader(r, charset), nil
	}}
	out, err := d.DecodeHeader(s)
	if err != nil {
		return s
	}
	return strings.ToValidUTF8(out, "\uFFFD")
}

func toUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	out, err := charmap.Windows1252.NewDecoder().String(s)
	if err != nil {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return out
}

// charsetReader turns r into UTF-8. An unknown charset is read as UTF-8 with
// replacement characters for what is not.
func charsetReader(r io.Reader, name string) io.Reader {
	name, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(name)), "*") // RFC 2231 §5: language
	var enc encoding.Encoding                                               // nil for UTF-8
	switch name {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
	default:
		enc, _ = htmlindex.Get(name)
		if enc == nil {
			enc, _ = ianaindex.MIME.Encoding(name)
		}
	}
	if enc == nil || enc == encoding.Replacement {
		return transform.NewReader(r, encoding.Replacement.NewEncoder()) // UTF-8 to valid UTF-8
	}
	return enc.NewDecoder().Reader(r)
}

// maxDate bounds a Date field that is worth reading, in octets.
const maxDate = 200

// ParseDate reads the body of a Date field leniently (RFC 5322 §3.3, §4.3).
func ParseDate(s string) (time.Time, bool) {
	if len(s) > maxDate {
		return time.Time{}, false
	}
	if t, err := netmail.ParseDate(s); err == nil {
		return t, true
	}
	if i := strings.IndexByte(s, '('); i > 0 {
		s = s[:i]
	}
	s = strings.Join(strings.Fields(s), " ")
	for _, layout := range []string{
		"Mon, 2 Jan 2006 15:04:05 MST", "2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05",
		"Mon, 2 Jan 2006 15:04 -0700", "Mon, 2 Jan 06 15:04:05 -0700", "Mon Jan 2 15:04:05 2006", "Mon Jan 2 15:04:05 MST 2006",
		"Mon, 2 Jan 2006", "2 Jan 2006", time.RFC3339,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
