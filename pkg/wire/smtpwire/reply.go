package smtpwire

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// maxReplyText keeps a reply line within its 512 octets (RFC 5321 §4.5.3.1.5).
const maxReplyText = 480

// AppendStatus appends st as one reply line. The zero enhanced code is left
// out. Whatever is not printable ASCII becomes a question mark, so that no
// text, wherever it came from, can end the line.
func AppendStatus(dst []byte, st *mail.Status) []byte {
	dst = strconv.AppendInt(dst, int64(st.Code), 10)
	dst = append(dst, ' ')
	if st.Enhanced != [3]int{} {
		for i, n := range st.Enhanced {
			if i > 0 {
				dst = append(dst, '.')
			}
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
		dst = append(dst, ' ')
	}
	return append(appendText(dst, st.Text), "\r\n"...)
}

func appendText(dst []byte, s string) []byte {
	if len(s) > maxReplyText {
		s = s[:maxReplyText]
	}
	for _, r := range s {
		if r < ' ' || r > '~' {
			r = '?'
		}
		dst = append(dst, byte(r))
	}
	return dst
}

// appendLines appends a multi-line reply without enhanced codes.
func appendLines(dst []byte, code int, lines []string) []byte {
	for i, l := range lines {
		dst = strconv.AppendInt(dst, int64(code), 10)
		if i < len(lines)-1 {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		dst = append(appendText(dst, l), "\r\n"...)
	}
	return dst
}

// Bounds of a reply that a client reads.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
)

// ErrReply is in the chain of an error about bytes that are no SMTP reply.
// The connection is of no more use.
var ErrReply = errors.New("malformed reply")

// Reply is a server's reply.
type Reply struct {
	// Code is from 200 to 599.
	Code int
	// Enhanced is zero if the server gave none.
	Enhanced [3]int
	// Lines are the texts, without codes; at least one. Any bytes may be in
	// them but CR and LF.
	Lines []string
}

// OK reports whether the reply is positive and final (2yz).
func (r Reply) OK() bool { return r.Code/100 == 2 }

// Status returns the reply as a Status with its lines joined, and an enhanced
// code made up from the code's class if the server gave none.
func (r Reply) Status() *mail.Status {
	st := &mail.Status{Code: r.Code, Enhanced: r.Enhanced, Text: strings.ToValidUTF8(strings.Join(r.Lines, " "), "?")}
	if st.Enhanced == [3]int{} {
		st.Enhanced[0] = r.Code / 100
	}
	return st
}

// ReadReply reads one reply of at most 128 lines of 2048 octets. A lone LF
// ends a line too: servers that send it exist, and nothing is executed here.
func ReadReply(c *wire.Conn) (Reply, error) {
	var r Reply
	for len(r.Lines) < maxReplyLines {
		line, err := c.ReadLine(maxReplyLine)
		if errors.Is(err, io.EOF) && len(r.Lines) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, wire.ErrBareLF) {
			return Reply{}, fmt.Errorf("reading a reply: %w", err)
		}
		code, last, text, ok := ParseReplyLine(string(line))
		if !ok || len(r.Lines) > 0 && code != r.Code {
			return Reply{}, fmt.Errorf("%w: %.80q", ErrReply, line)
		}
		r.Code = code
		enhanced, text := cutEnhanced(code, text)
		if len(r.Lines) == 0 {
			r.Enhanced = enhanced
		}
		r.Lines = append(r.Lines, text)
		if last {
			return r, nil
		}
	}
	return Reply{}, fmt.Errorf("%w: more than %d lines", ErrReply, maxReplyLines)
}

// ParseReplyLine reads one line of a reply, without its CRLF (RFC 5321 §4.2.1).
func ParseReplyLine(s string) (code int, last bool, text string, ok bool) {
	if len(s) < 3 || len(s) > 3 && s[3] != ' ' && s[3] != '-' {
		return 0, false, "", false
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false, "", false
		}
		code = code*10 + int(s[i]-'0')
	}
	if len(s) == 3 { // RFC 5321 §4.2: the text may be missing, with its blank
		return code, true, "", code >= 200 && code < 600
	}
	return code, s[3] == ' ', s[4:], code >= 200 && code < 600
}

// cutEnhanced splits an enhanced code of the reply's class from the front of
// text (RFC 2034 §4); the zero code if none is there.
func cutEnhanced(code int, text string) ([3]int, string) {
	word, rest, _ := strings.Cut(text, " ")
	var e [3]int
	parts := strings.SplitN(word, ".", 4)
	if len(parts) != 3 {
		return [3]int{}, text
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 || p[0] == '+' {
			return [3]int{}, text
		}
		e[i] = int(n)
	}
	if e[0] != code/100 {
		return [3]int{}, text
	}
	return e, rest
}

// Extensions are what a server announced: upper-case keyword to parameters.
type Extensions map[string]string

// ParseExtensions reads the reply to EHLO or LHLO; its first line is a greeting.
func ParseExtensions(r Reply) Extensions {
	e := make(Extensions)
	for _, l := range r.Lines[1:] {
		if !utf8.ValidString(l) {
			continue
		}
		key, params, _ := strings.Cut(strings.TrimSpace(l), " ")
		if key, mech, ok := strings.Cut(key, "="); ok && strings.EqualFold(key, ExtAuth) {
			params = mech + " " + params // "AUTH=LOGIN", older than the RFC
			e[ExtAuth] = strings.TrimSpace(e[ExtAuth] + " " + params)
			continue
		}
		key = strings.ToUpper(key)
		e[key] = strings.TrimSpace(e[key] + " " + params)
	}
	return e
}

// Has reports whether the keyword was announced.
func (e Extensions) Has(keyword string) bool {
	_, ok := e[keyword]
	return ok
}

// MaxSize is the SIZE limit in bytes; 0: none was announced (RFC 1870 §3).
func (e Extensions) MaxSize() int64 {
	n, err := strconv.ParseInt(e[ExtSize], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
