package imapwire

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// Response is one line a server sent, as far as a login needs it: literals
// within it are not read.
type Response struct {
	// Tag is "*", "+", or the tag of the command that is answered.
	Tag string
	// Number stands before Name in "* 3 EXISTS"; else 0.
	Number uint32
	// Name is OK, NO, BAD, BYE, PREAUTH, CAPABILITY or another word, in upper
	// case; empty for "+".
	Name string
	// Code is the response code of a status response, in upper case, and
	// CodeArgs what followed it in the brackets.
	Code, CodeArgs string
	// Text is the rest of the line; for "+" it may be base64.
	Text string
}

var errResponse = errors.New("not an IMAP response")

// ParseResponse reads a line without its CRLF. A greeting is a Response with
// the tag "*" (RFC 9051 §7.1). The text comes from a stranger: quote it before
// it is logged or shown.
func ParseResponse(line []byte) (Response, error) {
	tag, rest, spaced := strings.Cut(string(line), " ")
	switch {
	case tag == "+":
		return Response{Tag: tag, Text: rest}, nil
	case tag != "*" && !isTag(tag) || !spaced:
		return Response{}, errResponse
	}
	r := Response{Tag: tag}
	word, rest, _ := strings.Cut(rest, " ")
	if n, err := strconv.ParseUint(word, 10, 32); err == nil && tag == "*" {
		r.Number = uint32(n)
		word, rest, _ = strings.Cut(rest, " ")
	}
	if word == "" {
		return Response{}, errResponse
	}
	r.Name, r.Text = strings.ToUpper(word), rest
	if inner, ok := strings.CutPrefix(rest, "["); ok && r.IsStatus() {
		inner, text, closed := strings.Cut(inner, "]")
		if !closed {
			return Response{}, errResponse
		}
		code, args, _ := strings.Cut(inner, " ")
		r.Code, r.CodeArgs = strings.ToUpper(code), args
		r.Text = strings.TrimPrefix(text, " ")
	}
	return r, nil
}

// IsStatus reports whether r is OK, NO, BAD, BYE or PREAUTH.
func (r Response) IsStatus() bool {
	switch r.Name {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return true
	}
	return false
}

// Capabilities returns what a CAPABILITY response or response code lists, in
// upper case; nil if r is neither.
func (r Response) Capabilities() []string {
	switch {
	case r.Name == "CAPABILITY":
		return capabilityWords(r.Text)
	case r.Code == "CAPABILITY":
		return capabilityWords(r.CodeArgs)
	}
	return nil
}

// ErrNotSendable: a string with CR, LF or NUL, or one that needs a literal the
// server does not take.
var ErrNotSendable = errors.New("string cannot be sent in this command")

// AppendLogin appends a LOGIN command with its CRLF (RFC 3501 §6.2.3). Strings
// that cannot be quoted go as non-synchronising literals, which needs
// literalPlus; ErrNotSendable without, or if they hold CR, LF or NUL.
func AppendLogin(dst []byte, tag, user, password string, literalPlus bool) ([]byte, error) {
	start := len(dst)
	dst = append(append(dst, tag...), " LOGIN"...)
	for _, s := range []string{user, password} {
		out, quoted := AppendQuoted(append(dst, ' '), s)
		if !quoted {
			if !literalPlus || strings.ContainsAny(s, "\r\n\x00") {
				return dst[:start], ErrNotSendable
			}
			out = append(out, '{')
			out = strconv.AppendInt(out, int64(len(s)), 10)
			out = append(append(out, "+}\r\n"...), s...)
		}
		dst = out
	}
	return append(dst, "\r\n"...), nil
}

// AppendAuthenticate appends an AUTHENTICATE command with its CRLF. A nil
// initial response is left out; an empty one is "=" (RFC 4959 §3).
func AppendAuthenticate(dst []byte, tag, mechanism string, initial []byte) []byte {
	dst = append(append(append(dst, tag...), " AUTHENTICATE "...), mechanism...)
	switch {
	case initial == nil:
	case len(initial) == 0:
		dst = append(dst, " ="...)
	default:
		dst = append(dst, ' ')
		dst = base64.StdEncoding.AppendEncode(dst, initial)
	}
	return append(dst, "\r\n"...)
}

// AppendBase64Line appends a challenge or response of AUTHENTICATE with its CRLF.
func AppendBase64Line(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(dst, b), "\r\n"...)
}

// capabilityWords are the words in upper case, but the rights of RIGHTS=, which
// are letters of lower case (RFC 4314 §7).
func capabilityWords(text string) []string {
	words := strings.Fields(text)
	for i, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if words[i] = strings.ToUpper(w); strings.EqualFold(name, "RIGHTS") {
			words[i] = "RIGHTS=" + value
		}
	}
	return words
}
