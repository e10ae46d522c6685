package imapserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
)

// searchChunk is how much of a text is read at once, in bytes.
const searchChunk = 32 << 10

// meetsBody puts the conditions that need the message itself to who.
func (c *session) meetsBody(q *searchRequest, who *candidate) (bool, error) {
	body, err := c.box.box.Body(c.ctx, c.box.uids[who.i])
	if errors.Is(err, store.ErrNoMessage) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	who.body = body
	if who.parts, err = mime.DecodeParts(who.m.Parts); err != nil {
		c.log.Error("table of parts cannot be read", "mailbox", c.box.box.Name(), "uid", c.box.uids[who.i], "err", err)
		return false, nil
	}
	return meetsAll(q.conditions, costBody, who)
}

// bodyHas looks for needle in the texts of the message and in the headers of
// messages within it, decoded; with header also in its own header.
func (who *candidate) bodyHas(needle []byte, header bool) (bool, error) {
	if len(needle) == 0 {
		return true, nil
	}
	for r := range who.parts.Headers() {
		if r.Header == 0 && !header {
			continue
		}
		block := make([]byte, min(r.Body-r.Header, maxNestedHeader))
		if _, err := readAt(who.body, block, r.Header); err != nil {
			return false, fmt.Errorf("reading message %d: %w", who.m.UID, err)
		}
		if who.text.inField(block, "", needle) {
			return true, nil
		}
	}
	for r := range who.parts.Texts() {
		content := io.NewSectionReader(who.body, r.Body, r.End-r.Body)
		found, err := who.text.inText(mime.NewTextReader(content, r.Encoding, r.Charset), needle)
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// textFinder looks for text without regard to case. It keeps its buffers from
// one message to the next and is used by one goroutine.
type textFinder struct {
	raw    []byte
	folded []byte
}

// inField looks for needle, folded, in the decoded fields of a header that
// have that name; with no name in all fields, their names included.
func (t *textFinder) inField(header []byte, name string, needle []byte) bool {
	for f := range mime.Fields(header) {
		if name != "" && !f.Is(name) {
			continue
		}
		if len(needle) == 0 {
			return true
		}
		t.folded = t.folded[:0]
		if name == "" {
			t.folded = append(appendFold(t.folded, []byte(f.Name)), ": "...)
		}
		t.folded = appendFold(t.folded, []byte(mime.DecodeHeader(f.Value())))
		if bytes.Contains(t.folded, needle) {
			return true
		}
	}
	return false
}

// inText looks for needle, folded, in a text of any length.
func (t *textFinder) inText(r io.Reader, needle []byte) (bool, error) {
	if t.raw == nil {
		t.raw = make([]byte, searchChunk)
	}
	t.folded = t.folded[:0]
	kept := 0 // octets of a character that the last chunk cut
	for {
		n, err := r.Read(t.raw[kept:])
		n += kept
		whole := n
		if err == nil {
			whole = wholeCharacters(t.raw[:n])
		}
		t.folded = appendFold(t.folded, t.raw[:whole])
		if bytes.Contains(t.folded, needle) {
			return true, nil
		}
		if tail := len(needle) - 1; len(t.folded) > tail {
			t.folded = t.folded[:copy(t.folded, t.folded[len(t.folded)-tail:])]
		}
		kept = copy(t.raw, t.raw[whole:n])
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// wholeCharacters is how much of b does not end within a character.
func wholeCharacters(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-back:]) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

// appendFold appends s with its letters in one case.
func appendFold(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		dst = utf8.AppendRune(dst, unicode.ToLower(unicode.ToUpper(r)))
		i += n
	}
	return dst
}
