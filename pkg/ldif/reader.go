package ldif

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Reader reads records one by one.
type Reader struct {
	in      *bufio.Scanner
	line    int // number of the last line read
	pending string
	has     bool // pending is a line read ahead
	started bool
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 4096), maxLine)
	return &Reader{in: in}
}

// line is a name and its value, unfolded and decoded.
type line struct {
	number      int
	name, value string
}

func (r *Reader) fault(number int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: "+format, append([]any{ErrSyntax, number}, args...)...)
}

// Next returns the next record; io.EOF: there is none. After another error the
// Reader is of no more use.
func (r *Reader) Next() (Record, error) {
	lines, err := r.record()
	if err != nil {
		return Record{}, err
	}
	if !r.started && strings.EqualFold(lines[0].name, "version") {
		if lines[0].value != "1" {
			return Record{}, r.fault(lines[0].number, "version %.10q is not 1", lines[0].value)
		}
		lines = lines[1:]
	}
	r.started = true
	if len(lines) == 0 {
		return r.Next()
	}
	return r.parse(lines)
}

func (r *Reader) parse(lines []line) (Record, error) {
	rec := Record{Line: lines[0].number, DN: lines[0].value}
	if !strings.EqualFold(lines[0].name, "dn") {
		return rec, r.fault(rec.Line, "a record begins with dn:")
	}
	rest := lines[1:]
	if len(rest) > 0 && strings.EqualFold(rest[0].name, "control") {
		return rec, r.fault(rest[0].number, "controls are not supported")
	}
	if len(rest) > 0 && strings.EqualFold(rest[0].name, "changetype") {
		rec.Type = ChangeType(strings.ToLower(rest[0].value))
		rest = rest[1:]
	}
	switch rec.Type {
	case Content, Add:
		if len(rest) == 0 {
			return rec, r.fault(rec.Line, "an entry without attributes")
		}
		rec.Attributes = collect(rest)
		return rec, r.names(rest)
	case Delete:
		if len(rest) > 0 {
			return rec, r.fault(rest[0].number, "lines behind a delete")
		}
		return rec, nil
	case Modify:
		return r.modify(rec, rest)
	case ModDN, "modrdn":
		rec.Type = ModDN
		return r.modDN(rec, rest)
	}
	return rec, r.fault(rec.Line, "unknown changetype %.20q", string(rec.Type))
}

// names refuses the separator of changes where none belongs.
func (r *Reader) names(lines []line) error {
	for _, l := range lines {
		if l.name == "-" {
			return r.fault(l.number, "a dash out of place")
		}
	}
	return nil
}

// collect gathers the values of each attribute.
func collect(lines []line) []Attribute {
	var out []Attribute
	at := map[string]int{}
	for _, l := range lines {
		key := strings.ToLower(l.name)
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key], out = i, append(out, Attribute{Name: l.name})
		}
		out[i].Values = append(out[i].Values, l.value)
	}
	return out
}

func (r *Reader) modify(rec Record, lines []line) (Record, error) {
	for len(lines) > 0 {
		kind, ok := kindOf(lines[0].name)
		if !ok || lines[0].value == "" {
			return rec, r.fault(lines[0].number, "add, delete, replace or increment, and an attribute, are wanted")
		}
		c := Change{Kind: kind, Attribute: Attribute{Name: lines[0].value}}
		lines = lines[1:]
		for len(lines) > 0 && lines[0].name != "-" {
			if !strings.EqualFold(lines[0].name, c.Name) {
				return rec, r.fault(lines[0].number, "%.40q within the change of %.40q", lines[0].name, c.Name)
			}
			c.Values, lines = append(c.Values, lines[0].value), lines[1:]
		}
		if len(lines) > 0 {
			lines = lines[1:] // the dash; the last may be missing, as many do
		}
		rec.Changes = append(rec.Changes, c)
	}
	if len(rec.Changes) == 0 {
		return rec, r.fault(rec.Line, "a modify without changes")
	}
	return rec, nil
}

func (r *Reader) modDN(rec Record, lines []line) (Record, error) {
	if len(lines) < 2 || len(lines) > 3 || !strings.EqualFold(lines[0].name, "newrdn") || lines[0].value == "" ||
		!strings.EqualFold(lines[1].name, "deleteoldrdn") || lines[1].value != "0" && lines[1].value != "1" {
		return rec, r.fault(rec.Line, "newrdn:, deleteoldrdn: 0 or 1, and perhaps newsuperior: are wanted")
	}
	rec.NewRDN, rec.DeleteOld = lines[0].value, lines[1].value == "1"
	if len(lines) == 3 {
		if !strings.EqualFold(lines[2].name, "newsuperior") {
			return rec, r.fault(lines[2].number, "%.40q where newsuperior: may be", lines[2].name)
		}
		rec.Superior = &lines[2].value
	}
	return rec, nil
}

// record reads lines up to an empty one.
func (r *Reader) record() ([]line, error) {
	var lines []line
	size := 0
	for {
		text, number, err := r.unfolded()
		if errors.Is(err, io.EOF) && len(lines) > 0 {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		if text == "" {
			if len(lines) > 0 {
				return lines, nil
			}
			continue
		}
		if text[0] == '#' {
			continue
		}
		if size += len(text); size > maxRecord {
			return nil, r.fault(number, "a record of more than %d bytes", maxRecord)
		}
		l, err := r.split(text, number)
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
}

// split parts "name: value", "name:: base64" and the dash by itself.
func (r *Reader) split(text string, number int) (line, error) {
	if text == "-" {
		return line{number: number, name: "-"}, nil
	}
	name, value, ok := strings.Cut(text, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return line{}, r.fault(number, "no name and colon")
	}
	l := line{number: number, name: name}
	switch {
	case strings.HasPrefix(value, "<"):
		return l, r.fault(number, "values by URL are not supported")
	case strings.HasPrefix(value, ":"):
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(value[1:], " "))
		if err != nil {
			return l, r.fault(number, "broken base64")
		}
		l.value = string(raw)
	default:
		l.value = strings.TrimLeft(value, " ")
	}
	return l, nil
}

// unfolded reads a line with those that continue it.
func (r *Reader) unfolded() (string, int, error) {
	text, err := r.raw()
	if err != nil {
		return "", 0, err
	}
	number := r.line
	var folded []byte // text as far as it goes on
	whole := func() string {
		if folded != nil {
			return string(folded)
		}
		return text
	}
	for {
		next, err := r.raw()
		if errors.Is(err, io.EOF) {
			return whole(), number, nil
		}
		if err != nil {
			return "", 0, err
		}
		if !strings.HasPrefix(next, " ") || text == "" {
			r.pending, r.has = next, true
			r.line--
			return whole(), number, nil
		}
		if folded == nil {
			folded = []byte(text)
		}
		if folded = append(folded, next[1:]...); len(folded) > maxLine {
			return "", 0, r.fault(number, "a line of more than %d bytes", maxLine)
		}
	}
}

func (r *Reader) raw() (string, error) {
	if r.has {
		r.has = false
		r.line++
		return r.pending, nil
	}
	if !r.in.Scan() {
		if errors.Is(r.in.Err(), bufio.ErrTooLong) {
			return "", r.fault(r.line+1, "a line of more than %d bytes", maxLine)
		}
		if err := r.in.Err(); err != nil {
			return "", fmt.Errorf("reading LDIF: %w", err)
		}
		return "", io.EOF
	}
	r.line++
	return strings.TrimSuffix(r.in.Text(), "\r"), nil
}
