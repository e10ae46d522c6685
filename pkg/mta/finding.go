package mta

import (
	"bytes"
	"strings"

	"mailsrv/pkg/mime"
)

// Finding is what a Check established about the origin of a message: one
// result of Authentication-Results (RFC 8601 §2.2).
type Finding struct {
	// Method is "spf", "dkim", "dmarc", "arc" or "iprev"; Result is the method's
	// own word: "pass", "fail", "none", "temperror" and so on (RFC 8601 §2.7).
	Method, Result string
	// Reason says why, for people; it may be empty.
	Reason string
	// Properties are what was judged, in order.
	Properties []Property
	// Domain is the domain that passed, or would have; DMARC compares it with
	// the author's. Lower-case A-labels.
	Domain string
}

// Property is a ptype.property of RFC 8601 §2.2, such as smtp.mailfrom, with its value.
type Property struct{ Name, Value string }

// Pass reports whether the method vouches for Domain.
func (f Finding) Pass() bool { return f.Result == "pass" }

const (
	resultsField = "Authentication-Results"
	verdictField = "Mailsrv-Verdict"
)

// judgement renders what the Checks found as the fields that stand before the
// message, CRLF included, and those that they added; nothing if there are none. host is the
// authserv-id.
func judgement(e *Evidence, host string) []byte {
	if len(e.Findings) == 0 && e.Junk == "" {
		return bytes.Clone(e.Fields)
	}
	return append([]byte(resultsField+": "+results(e, host)+"\r\n"+verdictField+": "+verdict(e)+"\r\n"), e.Fields...)
}

// verdict says what the Checks came to, and why: the value of the verdict field.
func verdict(e *Evidence) string {
	if e.Junk != "" {
		return "junk; " + quoted(e.Junk)
	}
	if len(e.Findings) == 0 {
		return "accepted"
	}
	var why []string
	for _, f := range e.Findings {
		w := f.Method + " " + f.Result
		if f.Domain != "" {
			w += " for " + f.Domain
		}
		why = append(why, w)
	}
	return "accepted; " + quoted(strings.Join(why, ", "))
}

// results is the value of Authentication-Results, folded (RFC 8601 §2.2).
func results(e *Evidence, host string) string {
	var b strings.Builder
	b.WriteString(host)
	if len(e.Findings) == 0 {
		b.WriteString("; none")
	}
	for _, f := range e.Findings {
		b.WriteString(";\r\n\t" + f.Method + "=" + f.Result)
		if f.Reason != "" {
			b.WriteString(" reason=" + quoted(f.Reason))
		}
		for _, p := range f.Properties {
			b.WriteString("\r\n\t " + p.Name + "=" + value(p.Value))
		}
	}
	return b.String()
}

// value is v as it stands in a pvalue: bare where the grammar allows it.
func value(v string) string {
	bare := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_+=/:", r)
	}
	if v != "" && strings.IndexFunc(v, func(r rune) bool { return !bare(r) }) < 0 {
		return v
	}
	return quoted(v)
}

// maxQuoted bounds one value in a field, in bytes.
const maxQuoted = 500

// quoted is a quoted-string (RFC 5322 §3.2.4); control characters, which a
// stranger may have put there, become question marks.
func quoted(s string) string {
	if len(s) > maxQuoted {
		s = strings.ToValidUTF8(s[:maxQuoted], "")
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r < ' ' || r == 0x7f || r == '\uFFFD':
			r = '?'
		case r == '"' || r == '\\':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

// forged reports whether f is a field that only we may have written, and that
// a message from outside brings along (RFC 8601 §5).
func forged(f mime.Field, host string) bool {
	switch {
	case f.Is(verdictField):
		return true
	case !f.Is(resultsField):
		return false
	}
	id, _, _ := strings.Cut(f.Value(), ";")
	for skipped := false; !skipped; { // comments may stand before the authserv-id
		id = strings.TrimLeft(id, " \t")
		_, after, found := strings.Cut(id, ")")
		if skipped = !strings.HasPrefix(id, "(") || !found; !skipped {
			id = after
		}
	}
	id, _, _ = strings.Cut(strings.Trim(id, " \t"), " ")
	return equalHost(strings.Trim(id, `"`), host)
}
