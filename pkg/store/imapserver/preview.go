package imapserver

import (
	"bytes"
	"errors"
	"html"
	"io"
	"strings"
	"unicode"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

const (
	previewRunes  = 200      // RFC 8970 §3.1: 256 at the most
	previewSource = 16 << 10 // octets of decoded text that are looked at
	previewParts  = 5        // texts that are looked at, since the first may be empty
)

// readPreview reads what may stand behind PREVIEW. LAZY makes no difference:
// a preview costs the reading of a few kilobytes (RFC 8970 §4).
func (q *fetchRequest) readPreview(l *imapwire.Lexer) {
	q.preview = true
	l.TakeFold(" (LAZY)")
}

// writePreview writes the beginning of the message's first text.
func (c *session) writePreview(parts *mime.Parts, body store.MessageBody) error {
	left := previewParts
	for r := range parts.Texts() {
		if left--; left < 0 {
			break
		}
		header := make([]byte, min(r.Body-r.Header, 8<<10))
		if _, err := readAt(body, header, r.Header); err != nil {
			return err
		}
		content := io.NewSectionReader(body, r.Body, r.End-r.Body)
		text, err := io.ReadAll(io.LimitReader(mime.NewTextReader(content, r.Encoding, r.Charset), previewSource))
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		kind, _ := mime.First(header, "Content-Type")
		if strings.HasPrefix(strings.ToLower(kind), "text/html") {
			text = stripTags(text)
		}
		if s := squeeze(text); s != "" {
			c.conn.SetOut(imapwire.AppendString(c.conn.Out(), s))
			return nil
		}
	}
	c.conn.WriteString(`""`)
	return nil
}

// squeeze returns the first characters of a text, in one line.
func squeeze(text []byte) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range string(bytes.ToValidUTF8(text, nil)) {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			space = true
			continue
		case n >= previewRunes:
			return b.String()
		case space && n > 0:
			b.WriteByte(' ')
			n++
		}
		space = false
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// stripTags returns the text of HTML, without style sheets and scripts. It is
// for the eye, and no parser: nothing of it is ever shown as HTML.
func stripTags(text []byte) []byte {
	var out []byte
	lower := bytes.ToLower(text)
	if len(lower) != len(text) { // some capital has a longer small letter
		lower = text
	}
	for len(text) > 0 {
		open := bytes.IndexByte(text, '<')
		if open < 0 {
			out = append(out, text...)
			break
		}
		out = append(append(out, text[:open]...), ' ')
		text, lower = text[open:], lower[open:]
		end := []byte(">")
		for _, hidden := range [...]string{"style", "script", "head", "!--"} {
			if bytes.HasPrefix(lower[1:], []byte(hidden)) {
				end = []byte("</" + hidden + ">")
				if hidden == "!--" {
					end = []byte("-->")
				}
				break
			}
		}
		close := bytes.Index(lower, end)
		if close < 0 {
			break
		}
		text, lower = text[close+len(end):], lower[close+len(end):]
	}
	return []byte(html.UnescapeString(string(out)))
}
