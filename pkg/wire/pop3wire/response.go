package pop3wire

import (
	"encoding/base64"
	"errors"
	"strings"
)

// The codes of RFC 2449 §8, RFC 3206 and RFC 6856 that tell a client why.
const (
	CodeAuth       = "AUTH"
	CodeTemporary  = "SYS/TEMP"
	CodePermanent  = "SYS/PERM"
	CodeInUse      = "IN-USE"
	CodeLoginDelay = "LOGIN-DELAY"
	CodeUTF8       = "UTF8"
)

// AppendOK appends a positive status line.
func AppendOK(dst []byte, text string) []byte {
	return append(append(append(dst, "+OK "...), text...), "\r\n"...)
}

// AppendErr appends a negative one; code may be empty.
func AppendErr(dst []byte, code, text string) []byte {
	dst = append(dst, "-ERR "...)
	if code != "" {
		dst = append(append(append(dst, '['), code...), "] "...)
	}
	return append(append(dst, text...), "\r\n"...)
}

// AppendChallenge appends a challenge of AUTH (RFC 5034 §4).
func AppendChallenge(dst, challenge []byte) []byte {
	return AppendBase64Line(append(dst, "+ "...), challenge)
}

// AppendBase64Line appends a response of AUTH.
func AppendBase64Line(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(dst, b), "\r\n"...)
}

// AppendAuth appends an AUTH command. A nil initial response is left out; an
// empty one is "=" (RFC 5034 §4).
func AppendAuth(dst []byte, mechanism string, initial []byte) []byte {
	dst = append(append(dst, "AUTH "...), mechanism...)
	switch {
	case initial == nil:
	case len(initial) == 0:
		dst = append(dst, " ="...)
	default:
		dst = base64.StdEncoding.AppendEncode(append(dst, ' '), initial)
	}
	return append(dst, "\r\n"...)
}

// DecodeBase64 reads a client's response; "=" is an empty one.
func DecodeBase64(line []byte) ([]byte, error) {
	if string(line) == "=" {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Strict().Decode(out, line)
	if err != nil {
		return nil, &BadCommandError{Text: "response is not base64"}
	}
	return out[:n], nil
}

// Response is a status line of a server.
type Response struct {
	// OK is +OK. Continue is a challenge of AUTH, whose base64 is Text.
	OK, Continue bool
	// Code is the response code, in upper case, or empty.
	Code string
	// Text comes from a stranger: quote it before it is logged or shown.
	Text string
}

var errResponse = errors.New("not a POP3 response")

// ParseResponse reads a status line without its CRLF.
func ParseResponse(line []byte) (Response, error) {
	word, text, _ := strings.Cut(string(line), " ")
	r := Response{Text: text}
	switch strings.ToUpper(word) {
	case "+OK":
		r.OK = true
	case "-ERR":
	case "+":
		r.Continue = true
		return r, nil
	default:
		return Response{}, errResponse
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if code, rest, closed := strings.Cut(inner, "]"); closed {
			r.Code, r.Text = strings.ToUpper(code), strings.TrimPrefix(rest, " ")
		}
	}
	return r, nil
}
