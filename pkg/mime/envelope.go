package mime

import (
	"bytes"
	"strconv"
	"strings"
)

// Envelope holds the fields of IMAP's ENVELOPE, unfolded and not decoded.
type Envelope struct {
	date, subject, inReplyTo, messageID text
	from, sender, replyTo, to, cc, bcc  text
}

// text is a field's body, and whether the field is there at all: NIL and ""
// differ (RFC 9051 §7.5.2).
type text struct {
	value string
	set   bool
}

// add takes f if it belongs to an envelope. The first field of a name counts;
// recipients in several fields are all recipients.
func (e *Envelope) add(s *scanner, f Field) {
	var t *text
	several := false
	switch strings.ToLower(f.Name) {
	case "date":
		t = &e.date
	case "subject":
		t = &e.subject
	case "from":
		t = &e.from
	case "sender":
		t = &e.sender
	case "reply-to":
		t = &e.replyTo
	case "to":
		t, several = &e.to, true
	case "cc":
		t, several = &e.cc, true
	case "bcc":
		t, several = &e.bcc, true
	case "in-reply-to":
		t = &e.inReplyTo
	case "message-id":
		t = &e.messageID
	default:
		return
	}
	switch {
	case !t.set:
		*t = text{value: s.text(f), set: true}
	case several && len(t.value) < maxListText:
		// Bounded, because joining copies what is there.
		t.value += ", " + s.text(f)
	}
}

// maxListText bounds the joining of several recipient fields, in octets.
const maxListText = 16 << 10

// messageID returns the first <...> of s, or s up to white space.
func messageID(s string) string {
	if i := strings.IndexByte(s, '<'); i >= 0 {
		if j := strings.IndexByte(s[i:], '>'); j > 0 {
			return s[i : i+j+1]
		}
	}
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i]
	}
	return s
}

// AppendEnvelope appends the message's ENVELOPE, parentheses included
// (RFC 9051 §7.5.2).
func (m *Message) AppendEnvelope(dst []byte) []byte { return m.envelope.append(dst, m.addresses) }

func (e *Envelope) append(dst []byte, limit int) []byte {
	dst = append(dst, '(')
	dst = appendText(dst, e.date)
	dst = append(dst, ' ')
	dst = appendText(dst, e.subject)
	dst = append(dst, ' ')
	mark := len(dst)
	dst = appendAddresses(dst, e.from, limit)
	end := len(dst)
	for _, t := range []text{e.sender, e.replyTo} {
		dst = append(dst, ' ')
		at := len(dst)
		dst = appendAddresses(dst, t, limit)
		if string(dst[at:]) == "NIL" { // absent or empty: the From list
			dst = append(dst[:at], dst[mark:end]...)
		}
	}
	for _, t := range []text{e.to, e.cc, e.bcc} {
		dst = append(dst, ' ')
		dst = appendAddresses(dst, t, limit)
	}
	dst = append(dst, ' ')
	dst = appendText(dst, e.inReplyTo)
	dst = append(dst, ' ')
	dst = appendText(dst, e.messageID)
	return append(dst, ')')
}

func appendText(dst []byte, t text) []byte {
	if !t.set {
		return append(dst, "NIL"...)
	}
	return appendString(dst, t.value)
}

// What stands for a missing half of an address: an empty or NIL host would
// make it a group.
const (
	missingLocal  = "MISSING_MAILBOX"
	missingDomain = "MISSING_DOMAIN"
)

func appendAddresses(dst []byte, t text, limit int) []byte {
	list := parseAddresses(t.value, limit)
	if len(list) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for _, a := range list {
		switch a.Kind {
		case GroupStart:
			dst = append(dst, "(NIL NIL "...)
			dst = appendString(dst, a.Name)
			dst = append(dst, " NIL)"...)
		case GroupEnd:
			dst = append(dst, "(NIL NIL NIL NIL)"...)
		default:
			dst = append(dst, '(')
			dst = appendNString(dst, a.Name)
			dst = append(dst, ' ')
			dst = appendNString(dst, a.Route)
			dst = append(dst, ' ')
			dst = appendString(dst, orElse(a.Local, missingLocal))
			dst = append(dst, ' ')
			dst = appendString(dst, orElse(a.Domain, missingDomain))
			dst = append(dst, ')')
		}
	}
	return append(dst, ')')
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// appendNString appends s, or NIL if it is empty.
func appendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return appendString(dst, s)
}

// appendString appends s quoted, or as a literal if it holds octets that a
// quoted string of IMAP4rev1 may not. NUL can stand in neither and becomes "?".
func appendString(dst []byte, s string) []byte {
	literal := false
	escape := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0 || c >= 0x80 || c == '\r' || c == '\n':
			literal = true
		case c == '"' || c == '\\':
			escape = true
		}
	}
	if literal {
		dst = append(dst, '{')
		dst = strconv.AppendInt(dst, int64(len(s)), 10)
		dst = append(dst, "}\r\n"...)
		start := len(dst)
		dst = append(dst, s...)
		for at := start; ; {
			i := bytes.IndexByte(dst[at:], 0)
			if i < 0 {
				return dst
			}
			at += i
			dst[at] = '?'
		}
	}
	dst = append(dst, '"')
	if !escape {
		dst = append(dst, s...)
	} else {
		for i := range len(s) {
			if s[i] == '"' || s[i] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, s[i])
		}
	}
	return append(dst, '"')
}
