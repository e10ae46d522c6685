package mime

import "strings"

// words walks over the structured body of a MIME field (RFC 2045 §5.1),
// always forward.
type words struct {
	s   string
	pos int
}

// skip passes white space and comments.
func (w *words) skip() {
	for w.pos < len(w.s) {
		switch w.s[w.pos] {
		case ' ', '\t', '\r', '\n':
			w.pos++
		case '(':
			w.pos = commentEnd(w.s, w.pos)
		default:
			return
		}
	}
}

// commentEnd returns where the comment that opens at pos ends; comments nest
// (RFC 5322 §3.2.2). One that never closes takes the rest.
func commentEnd(s string, pos int) int {
	depth := 0
	for ; pos < len(s); pos++ {
		switch s[pos] {
		case '\\':
			pos++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return pos + 1
			}
		}
	}
	return len(s)
}

func (w *words) take(c byte) bool {
	w.skip()
	if w.pos < len(w.s) && w.s[w.pos] == c {
		w.pos++
		return true
	}
	return false
}

// token reads a token; empty if none is there. It is lenient: only separators end it.
func (w *words) token(stop string) string {
	w.skip()
	start := w.pos
	for w.pos < len(w.s) && !strings.ContainsRune(stop, rune(w.s[w.pos])) {
		w.pos++
	}
	return strings.TrimRight(w.s[start:w.pos], " \t\r\n")
}

// value reads a token or a quoted string.
func (w *words) value() string {
	w.skip()
	if w.pos < len(w.s) && w.s[w.pos] == '"' {
		var v string
		v, w.pos = quotedString(w.s, w.pos)
		return v
	}
	return w.token(";(")
}

// quotedString reads the quoted string that opens at pos and returns where it
// ends. One that never closes takes the rest.
func quotedString(s string, pos int) (string, int) {
	pos++
	start := pos
	for ; pos < len(s) && s[pos] != '\\'; pos++ {
		if s[pos] == '"' {
			return s[start:pos], pos + 1 // the usual case needs no copy
		}
	}
	var b strings.Builder
	b.WriteString(s[start:pos])
	for ; pos < len(s); pos++ {
		switch s[pos] {
		case '"':
			return b.String(), pos + 1
		case '\\':
			if pos++; pos == len(s) {
				return b.String(), pos
			}
		}
		b.WriteByte(s[pos])
	}
	return b.String(), pos
}

// params reads `;name=value` to the end, at most limit of them.
func (w *words) params(limit int) []Param {
	var list []Param
	for len(list) < limit {
		for w.pos < len(w.s) && !w.take(';') { // pass what follows a value and is no parameter
			w.pos++
		}
		if w.pos >= len(w.s) {
			break
		}
		name := w.token("=;( \t")
		if name == "" || !w.take('=') {
			continue
		}
		list = append(list, Param{Name: name, Value: w.value()})
	}
	return list
}

// contentType reads a Content-Type body; ok is false where RFC 2045 §5.2 says
// to take text/plain.
func contentType(s string, limit int) (typ, subtype string, params []Param, ok bool) {
	w := words{s: s}
	typ = w.token("/;( \t")
	if typ == "" || !w.take('/') {
		return "", "", nil, false
	}
	subtype = w.token(";( \t/")
	if subtype == "" || !isToken(typ) || !isToken(subtype) {
		return "", "", nil, false
	}
	return strings.ToLower(typ), strings.ToLower(subtype), w.params(limit), true
}

// isToken reports whether s is a token of RFC 2045 §5.1.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// languages splits Content-Language (RFC 3282).
func languages(s string, limit int) []string {
	var tags []string
	w := words{s: s}
	for w.pos < len(s) && len(tags) < limit {
		if tag := w.token(",( \t"); tag != "" {
			tags = append(tags, tag)
		}
		for w.pos < len(s) && !w.take(',') {
			w.pos++
		}
	}
	return tags
}
