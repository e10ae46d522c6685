package dkim

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"io"
	"strings"
)

// relaxedField is a header field in the relaxed form (RFC 6376 §3.4.2), with
// its CRLF.
func relaxedField(raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte(":"))
	out := append(bytes.ToLower(bytes.TrimRight(name, " \t\r\n")), ':')
	out = append(out, bytes.Join(bytes.FieldsFunc(value, isSpace), []byte(" "))...)
	return append(out, "\r\n"...)
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

// simpleField is a header field as it is (RFC 6376 §3.4.1).
func simpleField(raw []byte) []byte { return raw }

// bodyHash is a writer of a message's body that hashes its canonical form.
// Empty lines at the end do not count (RFC 6376 §3.4.3, §3.4.4).
type bodyHash struct {
	relaxed bool
	hash    hash.Hash
	line    []byte // begun, without line end
	cut     bool   // part of the line was hashed already, since it is long
	empty   int    // lines that may be at the end
	spaces  bool   // relaxed: white space that may be at the line's end
	any     bool
}

func newBodyHash(relaxed bool) *bodyHash { return &bodyHash{relaxed: relaxed, hash: sha256.New()} }

// maxLine is how much of a line is held back at the most, in bytes.
const maxLine = 8 << 10

// Write implements io.Writer; it never fails.
func (b *bodyHash) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			b.line = append(b.line, p...)
			break
		}
		b.line = append(b.line, p[:i]...)
		p = p[i+1:]
		b.end()
	}
	if len(b.line) > maxLine {
		b.part(b.line[:len(b.line)-1]) // the last may be the CR of a line end
		b.line = append(b.line[:0], b.line[len(b.line)-1])
	}
	return n, nil
}

// end takes a whole line.
func (b *bodyHash) end() {
	line := bytes.TrimSuffix(b.line, []byte("\r"))
	if b.relaxed {
		line = bytes.TrimRight(line, " \t")
	}
	if len(line) == 0 && !b.cut {
		b.empty++
	} else {
		b.part(line)
		b.hash.Write([]byte("\r\n"))
	}
	b.line, b.cut, b.spaces = b.line[:0], false, false
}

// part hashes a piece of a line, after the empty lines that were held back.
func (b *bodyHash) part(piece []byte) {
	if len(piece) == 0 {
		return
	}
	for ; b.empty > 0; b.empty-- {
		b.hash.Write([]byte("\r\n"))
	}
	b.cut, b.any = true, true
	if !b.relaxed {
		b.hash.Write(piece)
		return
	}
	out := make([]byte, 0, len(piece)+1)
	for _, c := range piece {
		if c == ' ' || c == '\t' {
			b.spaces = true
			continue
		}
		if b.spaces {
			out, b.spaces = append(out, ' '), false
		}
		out = append(out, c)
	}
	b.hash.Write(out)
}

// sum ends the body.
func (b *bodyHash) sum() []byte {
	if len(b.line) > 0 || b.cut {
		b.end()
	}
	if !b.any && !b.relaxed {
		b.hash.Write([]byte("\r\n")) // RFC 6376 §3.4.3: an empty body is one line end
	}
	return b.hash.Sum(nil)
}

// hashBody hashes what r holds behind the header of skip bytes.
func hashBody(r io.Reader, skip int64, relaxed bool) ([]byte, error) {
	if _, err := io.CopyN(io.Discard, r, skip); err != nil && err != io.EOF {
		return nil, err
	}
	b := newBodyHash(relaxed)
	if _, err := io.Copy(b, r); err != nil {
		return nil, err
	}
	return b.sum(), nil
}

// withoutSignature is a signature field with the value of its tag b taken out,
// as it was when it was signed (RFC 6376 §3.5).
func withoutSignature(raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte(":"))
	out := append(bytes.Clone(name), ':')
	for i, tag := range bytes.Split(value, []byte(";")) {
		if i > 0 {
			out = append(out, ';')
		}
		key, _, found := bytes.Cut(tag, []byte("="))
		if found && strings.TrimFunc(string(key), isSpace) == "b" {
			tag = append(bytes.Clone(key), '=')
		}
		out = append(out, tag...)
	}
	return out
}

// tags reads a tag list (RFC 6376 §3.2); a tag that comes twice makes it none.
func tags(value string) (map[string]string, bool) {
	m := make(map[string]string)
	for part := range strings.SplitSeq(value, ";") {
		key, v, found := strings.Cut(part, "=")
		key = strings.TrimFunc(key, isSpace)
		if !found {
			if key != "" {
				return nil, false
			}
			continue
		}
		if _, twice := m[key]; twice {
			return nil, false
		}
		m[key] = strings.TrimFunc(v, isSpace)
	}
	return m, true
}
