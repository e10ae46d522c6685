package ldif

import (
	"bufio"
	"encoding/base64"
	"io"
)

// width is where lines are folded, in bytes.
const width = 76

// Writer writes entries. Call Flush at the end.
type Writer struct {
	out   *bufio.Writer
	begun bool
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{out: bufio.NewWriter(w)} }

// Entry writes one entry.
func (w *Writer) Entry(dn string, attributes []Attribute) error {
	if !w.begun {
		w.begun = true
		w.line("version", "1")
		_ = w.out.WriteByte('\n')
	}
	w.line("dn", dn)
	for _, a := range attributes {
		for _, v := range a.Values {
			w.line(a.Name, v)
		}
	}
	return w.out.WriteByte('\n') // tells the first error, too
}

// Flush writes what is buffered.
func (w *Writer) Flush() error { return w.out.Flush() }

func (w *Writer) line(name, value string) {
	text := name + ": " + value
	if !safe(value) {
		text = name + ":: " + base64.StdEncoding.EncodeToString([]byte(value))
	}
	for limit := width; len(text) > limit; limit = width - 1 {
		_, _ = w.out.WriteString(text[:limit] + "\n ")
		text = text[limit:]
	}
	_, _ = w.out.WriteString(text + "\n")
}

// safe reports whether value may stand as it is (RFC 2849's SAFE-STRING, that
// ends with no space).
func safe(value string) bool {
	for i := range len(value) {
		c := value[i]
		if c == 0 || c == '\n' || c == '\r' || c >= 0x80 || i == 0 && (c == ' ' || c == ':' || c == '<') {
			return false
		}
	}
	return value == "" || value[len(value)-1] != ' '
}
