package mta

import (
	"bytes"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// edited is a message as a group changes it; nil changes nothing. The texts
// around a message are added where it is one part of plain text that is not
// encoded, since anything else would have to be taken apart.
func edited(body mail.Body, e *directory.Edit) (mail.Body, error) {
	if e == nil {
		return body, nil
	}
	h, err := readHeader(body)
	if err != nil {
		return nil, err
	}
	drop := func(f mime.Field) bool {
		for _, name := range e.Remove {
			if f.Is(strings.TrimSuffix(strings.TrimSpace(name), ":")) {
				return true
			}
		}
		return false
	}
	block, ends := bytes.CutSuffix(h.without(drop), []byte("\r\n\r\n"))
	if ends {
		block = append(block, "\r\n"...)
	}
	for _, field := range e.Add {
		if isField(field) {
			block = append(append(block, field...), "\r\n"...)
		}
	}
	block = append(block, "\r\n"...)
	out := &amended{head: block, original: body, skip: int64(len(h.Block))}
	if isPlain(h.Block) {
		out.head = append(out.head, crlf(e.Prefix)...)
		out.tail = []byte(crlf(e.Suffix))
	}
	return out, nil
}

// isField reports whether a line of configuration can stand in a header.
func isField(s string) bool {
	name, _, ok := strings.Cut(s, ":")
	return ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) &&
		!strings.ContainsAny(s, "\r\n\x00")
}

// crlf ends each line of a text, the last too, with CRLF.
func crlf(s string) string {
	if s == "" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\r\n") + "\r\n"
}

// isPlain reports whether the message is text/plain that is not encoded.
func isPlain(header []byte) bool {
	for f := range mime.Fields(header) {
		value := strings.ToLower(strings.TrimSpace(f.Value()))
		switch {
		case f.Is("Content-Type") && !strings.HasPrefix(value, "text/plain"):
			return false
		case f.Is("Content-Transfer-Encoding") && value != "7bit" && value != "8bit":
			return false
		}
	}
	return true
}
