package mime

import (
	"bytes"
	"iter"
	"strings"
)

// Field is one field of a header block.
type Field struct {
	// Name is as written, without white space before the colon. It is empty
	// for lines that are no field.
	Name string
	// Raw is the whole field with its line ends; it aliases the block.
	Raw []byte
}

// Value is the field's body, unfolded (RFC 5322 §2.2.3) and without white
// space around it.
func (f Field) Value() string { return string(unfold(f.body())) }

func (f Field) body() []byte {
	if f.Name == "" {
		return nil
	}
	return f.Raw[bytes.IndexByte(f.Raw, ':')+1:]
}

// Is reports whether f has that name, in any case.
func (f Field) Is(name string) bool { return equalFold(f.Name, name) }

// Fields yields the fields of a header block in order, up to the empty line or
// the end. Lines that are no field come as one without a name.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(header) > 0 {
			end := lineEnd(header)
			if isEmptyLine(header[:end]) {
				return
			}
			for end < len(header) && (header[end] == ' ' || header[end] == '\t') {
				next := lineEnd(header[end:])
				if isEmptyLine(header[end : end+next]) {
					break
				}
				end += next
			}
			if !yield(newField(header[:end:end])) {
				return
			}
			header = header[end:]
		}
	}
}

func newField(raw []byte) Field {
	f := Field{Raw: raw}
	if raw[0] == ' ' || raw[0] == '\t' {
		return f
	}
	first := raw[:lineEnd(raw)]
	if colon := bytes.IndexByte(first, ':'); colon > 0 {
		f.Name = string(bytes.TrimRight(first[:colon], " \t"))
	}
	return f
}

// First returns the value of the first field of that name, unfolded but not
// decoded, and reports whether there is one.
func First(header []byte, name string) (string, bool) {
	for f := range Fields(header) {
		if f.Is(name) {
			return f.Value(), true
		}
	}
	return "", false
}

// lineEnd is the length of b's first line with its line end.
func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i + 1
	}
	return len(b)
}

func isEmptyLine(line []byte) bool {
	return len(line) == 1 && line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

// unfold drops all line ends and trims. It copies only where it must.
func unfold(b []byte) []byte {
	b = bytes.Trim(b, " \t\r\n")
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return out
}

// equalFold compares ASCII words.
func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }
