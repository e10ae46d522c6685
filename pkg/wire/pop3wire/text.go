package pop3wire

import "bytes"

// Text writes a message as a multi-line response (RFC 1939 §3): it doubles a
// dot at the start of a line and ends lines in CRLF. An LF without CR, which a
// client might take for a line end, becomes one. The zero value is at the
// start of a text.
type Text struct {
	within bool // some of the current line was written
	cr     bool // it ends in CR
}

// Append appends the next octets of the message; lines may be split anywhere.
func (t *Text) Append(dst, p []byte) []byte {
	for len(p) > 0 {
		if !t.within && p[0] == '.' {
			dst = append(dst, '.')
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			t.within, t.cr = true, p[len(p)-1] == '\r'
			return append(dst, p...)
		}
		if end > 0 && p[end-1] == '\r' || end == 0 && t.cr {
			dst = append(dst, p[:end+1]...)
		} else {
			dst = append(append(dst, p[:end]...), "\r\n"...)
		}
		t.within, t.cr = false, false
		p = p[end+1:]
	}
	return dst
}

// End appends the end of the text, and the CRLF of a last line without one.
func (t *Text) End(dst []byte) []byte {
	if t.within {
		dst = append(dst, "\r\n"...)
	}
	*t = Text{}
	return append(dst, ".\r\n"...)
}

// Unstuff returns a line of a multi-line response as it was meant, or that it
// is the end. line has no CRLF.
func Unstuff(line []byte) (text []byte, end bool) {
	if len(line) == 0 || line[0] != '.' {
		return line, false
	}
	return line[1:], len(line) == 1
}
