package queue

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"mailsrv/pkg/mail"
)

// report is a delivery status notification (RFC 3464), to the sender of a
// message about some of its recipients.
type report struct {
	action   string // failed, delayed, delivered or relayed
	entry    entryRow
	rows     []recipientRow
	original original
	hostname string
	at       time.Time
	// trace is the report's own.
	trace mail.TraceID
	// retryFor is the lifetime of a recipient.
	retryFor time.Duration
}

// utf8 reports whether the report needs RFC 6533: an address in it is not
// ASCII.
func (r *report) utf8() bool {
	return !r.entry.env.From.IsASCII() || slices.ContainsFunc(r.rows, func(row recipientRow) bool { return !row.Address.IsASCII() })
}

// dateLayout is date-time of RFC 5322 §3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// append appends the whole message, with CRLF line ends.
func (r *report) append(dst []byte) []byte {
	boundary := "=_" + string(r.trace)
	subject, status, quoted := "Message not delivered", "message/delivery-status", "text/rfc822-headers"
	switch r.action {
	case "delayed":
		subject = "Message delayed, still trying"
	case "delivered":
		subject = "Message delivered"
	case "relayed":
		subject = "Message relayed"
	}
	if r.original.whole {
		quoted = "message/rfc822"
	}
	encoding := "7bit"
	if r.utf8() {
		encoding, status = "8bit", "message/global-delivery-status"
		quoted = strings.NewReplacer("text/rfc822-headers", "message/global-headers", "message/rfc822", "message/global").Replace(quoted)
	}
	line := func(format string, args ...any) { dst = append(fmt.Appendf(dst, format, args...), "\r\n"...) }

	line("From: Mail Delivery System <MAILER-DAEMON@%s>", r.hostname)
	line("To: <%s>", r.entry.env.From)
	line("Subject: %s", subject)
	line("Date: %s", r.at.Format(dateLayout))
	line("Message-ID: <%s@%s>", r.trace, r.hostname)
	if id := r.original.messageID; id != "" {
		line("In-Reply-To: %s", id)
	}
	line("Auto-Submitted: auto-replied")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"", boundary)
	line("\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n", boundary, encoding)
	dst = r.appendText(dst)
	line("\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n", boundary, status, encoding)
	dst = r.appendStatus(dst)
	encoding = "7bit"
	if r.original.eightBit {
		encoding = "8bit"
	}
	line("\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n", boundary, quoted, encoding)
	dst = append(dst, r.original.text...)
	line("\r\n--%s--", boundary)
	return dst
}

// appendText appends what a person reads.
func (r *report) appendText(dst []byte) []byte {
	line := func(format string, args ...any) { dst = append(fmt.Appendf(dst, format, args...), "\r\n"...) }
	line("This is the mail server %s.\r\n", r.hostname)
	line("Your message of %s", r.entry.arrived.Format(dateLayout))
	switch r.action {
	case "failed":
		line("could not be delivered to the recipients below. It will not be tried again.")
	case "delayed":
		line("could not be delivered to the recipients below yet. It is still being tried:\r\nyou need not send it again.")
	case "relayed":
		line("was handed to the next host for the recipients below. That host sends no\r\nreports of success: you will hear no more of it, unless delivery fails.")
	default:
		line("was delivered to the recipients below.")
	}
	for _, row := range r.rows {
		line("\r\n  <%s>", row.Address)
		line("    %s", r.clean(row.status))
	}
	return dst
}

// appendStatus appends what a program reads (RFC 3464 §2.1): the fields of the
// message, then of each recipient.
func (r *report) appendStatus(dst []byte) []byte {
	line := func(format string, args ...any) { dst = append(fmt.Appendf(dst, format, args...), "\r\n"...) }
	line("Reporting-MTA: dns; %s", r.hostname)
	if id := r.entry.env.EnvID; id != "" {
		line("Original-Envelope-Id: %s", r.clean(id))
	}
	line("Arrival-Date: %s", r.entry.arrived.Format(dateLayout))
	for _, row := range r.rows {
		line("")
		if row.ORCPT != "" {
			line("Original-Recipient: %s", r.clean(row.ORCPT))
		}
		kind := "rfc822"
		if !row.Address.IsASCII() {
			kind = "utf-8"
		}
		line("Final-Recipient: %s; %s", kind, row.Address)
		line("Action: %s", r.action)
		line("Status: %s", enhancedOf(row.status))
		line("Diagnostic-Code: smtp; %s", r.clean(row.status))
		line("Last-Attempt-Date: %s", row.tried.Format(dateLayout))
		if r.action == "delayed" {
			line("Will-Retry-Until: %s", r.at.Add(r.retryFor-row.waited).Format(dateLayout))
		}
	}
	return dst
}

// enhancedOf takes the enhanced code out of a reply.
func enhancedOf(reply string) string {
	if words := strings.Fields(reply); len(words) > 1 {
		return words[1]
	}
	return "4.0.0"
}

// clean makes a stranger's text safe for one line of the report.
func (r *report) clean(s string) string {
	const most = 700
	keep := r.utf8()
	s = strings.Map(func(c rune) rune {
		switch {
		case unicode.IsControl(c):
			return ' '
		case c > '~' && !keep:
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// original is what a report quotes of the message it is about.
type original struct {
	text      []byte // the header, or all of the message
	whole     bool
	messageID string
	eightBit  bool
}

// readOriginal reads the header of body or, if the sender asked for it and it
// is not large, all of it (RFC 3461 §4.3, §6.2).
func readOriginal(body mail.Body, full bool) (original, error) {
	rc, err := body.Open()
	if err != nil {
		return original{}, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	text, err := io.ReadAll(io.LimitReader(rc, inline))
	if err != nil {
		return original{}, fmt.Errorf("reading the message: %w", err)
	}
	o := original{text: text, whole: full && int64(len(text)) == body.Size()}
	header := text
	if end := bytes.Index(text, []byte("\r\n\r\n")); end >= 0 {
		header = text[:end+2]
	} else if end := bytes.LastIndex(text, []byte("\r\n")); end >= 0 {
		header = text[:end+2]
	}
	if !o.whole {
		o.text = header
	}
	o.messageID = messageIDOf(header)
	o.eightBit = bytes.ContainsFunc(o.text, func(c rune) bool { return c > '~' })
	return o, nil
}

// messageIDOf finds a Message-ID that is safe to quote.
func messageIDOf(header []byte) string {
	const name = "message-id:"
	for line := range bytes.Lines(header) {
		if len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			id := strings.TrimSpace(string(line[len(name):]))
			if strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && !strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
				return id
			}
			return ""
		}
	}
	return ""
}
