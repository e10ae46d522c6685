package mime

import (
	"bufio"
	"encoding/base64"
	"io"
)

// NewTextReader decodes the content of a text part as it is read: the transfer
// encoding, then the charset into UTF-8. Bad content is no error: what cannot
// be decoded is passed over or replaced. Memory is a few kilobytes.
func NewTextReader(r io.Reader, transferEncoding, charset string) io.Reader {
	return charsetReader(NewContentReader(r, transferEncoding), charset)
}

// NewContentReader undoes base64 and quoted-printable (RFC 2045 §6), leniently;
// other encodings pass as they are.
func NewContentReader(r io.Reader, transferEncoding string) io.Reader {
	switch {
	case equalFold(transferEncoding, "base64"):
		return &base64Reader{r: bufio.NewReader(r)}
	case equalFold(transferEncoding, "quoted-printable"):
		return &quotedReader{r: bufio.NewReader(r)}
	}
	return r
}

// base64Reader passes over everything that is not of the alphabet; padding
// ends a run, and another may follow.
type base64Reader struct {
	r    *bufio.Reader
	quad [4]byte
	n    int
	out  [3]byte
	rest []byte
	err  error
}

func (b *base64Reader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(b.rest) > 0 {
			c := copy(p[n:], b.rest)
			b.rest = b.rest[c:]
			n += c
			continue
		}
		if b.err != nil {
			break
		}
		c, err := b.r.ReadByte()
		switch {
		case err != nil:
			b.err = err
			b.flush()
		case c == '=':
			b.flush()
		case isBase64(c):
			b.quad[b.n] = c
			if b.n++; b.n == 4 {
				b.flush()
			}
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, b.err
	}
	return n, nil
}

func (b *base64Reader) flush() {
	n, err := base64.RawStdEncoding.Decode(b.out[:], b.quad[:b.n])
	if err == nil {
		b.rest = b.out[:n]
	}
	b.n = 0
}

func isBase64(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/'
}

// quotedReader leaves an "=" that begins nothing as it is.
type quotedReader struct{ r *bufio.Reader }

func (q *quotedReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c, err := q.r.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if c == '=' {
			next, _ := q.r.Peek(2)
			switch {
			case len(next) >= 1 && next[0] == '\n':
				_, _ = q.r.Discard(1)
				continue
			case len(next) == 2 && next[0] == '\r' && next[1] == '\n':
				_, _ = q.r.Discard(2)
				continue
			case len(next) == 2 && hexValue(next[0]) >= 0 && hexValue(next[1]) >= 0:
				c = byte(hexValue(next[0])<<4 | hexValue(next[1]))
				_, _ = q.r.Discard(2)
			}
		}
		p[n] = c
		n++
	}
	return n, nil
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
