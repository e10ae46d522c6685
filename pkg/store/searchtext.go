package store

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"mailsrv/pkg/mime"
)

const (
	// searchChunk is how much of a text is read at once, in bytes.
	searchChunk = 32 << 10
	// maxSearchedHeader bounds a header that is searched, in bytes.
	maxSearchedHeader = 1 << 20
)

// SearchText reads messages as a search sees them: decoded and folded. Doors and
// engines use it alike, so that an index holds what is searched. It keeps its
// buffers from one message to the next and is used by one goroutine; the zero
// value is ready.
type SearchText struct {
	raw    []byte
	folded []byte
}

// Field is the decoded body of a header field, folded, behind the field's name
// and a colon if named is set. It is good until the next call.
func (t *SearchText) Field(f mime.Field, named bool) []byte {
	t.folded = t.folded[:0]
	if named {
		t.folded = append(AppendFold(t.folded, []byte(f.Name)), ": "...)
	}
	t.folded = AppendFold(t.folded, []byte(mime.DecodeHeader(f.Value())))
	return t.folded
}

// Message calls piece for the texts of a message: the fields of its own header
// if header is set, those of messages within it, and its text parts (RFC 9051
// §6.4.4, BODY and TEXT). A text comes in one piece or several, the first of
// which says begins. piece returns false to stop.
func (t *SearchText) Message(message io.ReaderAt, parts *mime.Parts, header bool, piece func(text []byte, begins bool) bool) error {
	for r := range parts.Headers() {
		if r.Header == 0 && !header {
			continue
		}
		block := make([]byte, min(r.Body-r.Header, maxSearchedHeader))
		if n, err := message.ReadAt(block, r.Header); n < len(block) {
			return fmt.Errorf("reading a header: %w", orUnexpected(err))
		}
		for f := range mime.Fields(block) {
			if !piece(t.Field(f, true), true) {
				return nil
			}
		}
	}
	for r := range parts.Texts() {
		content := io.NewSectionReader(message, r.Body, r.End-r.Body)
		if more, err := t.text(mime.NewTextReader(content, r.Encoding, r.Charset), piece); !more || err != nil {
			return err
		}
	}
	return nil
}

func orUnexpected(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// text reads one text, of any length, and reports whether more are wanted.
func (t *SearchText) text(r io.Reader, piece func([]byte, bool) bool) (more bool, err error) {
	if t.raw == nil {
		t.raw = make([]byte, searchChunk)
	}
	kept := 0 // octets of a character that the last chunk cut
	for begins := true; ; begins = false {
		n, err := r.Read(t.raw[kept:])
		n += kept
		whole := n
		if err == nil {
			whole = wholeCharacters(t.raw[:n])
		}
		t.folded = AppendFold(t.folded[:0], t.raw[:whole])
		if !piece(t.folded, begins) {
			return false, nil
		}
		kept = copy(t.raw, t.raw[whole:n])
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("reading a text: %w", err)
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
