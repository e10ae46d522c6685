package autoreply

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// Bounds of what is read of a message.
const (
	maxHeader = 256 << 10
	maxEcho   = 1 << 20 // a larger message is not sent back
)

// message is what a reply needs of the message that it answers.
type message struct {
	subject, messageID, references string
	recipients                     []mail.Address // of To, Cc and the like
	program                        string         // why a program must have sent it; empty: a person did
	whole                          []byte         // for an echo; nil: too large, or not wanted
	eightBit                       bool
}

func readMessage(body mail.Body, whole bool) (message, error) {
	rc, err := body.Open()
	if err != nil {
		return message{}, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	limit := int64(maxHeader)
	if whole && body.Size() <= maxEcho {
		limit = maxEcho
	}
	text, err := io.ReadAll(io.LimitReader(rc, limit))
	if err != nil {
		return message{}, fmt.Errorf("reading the message: %w", err)
	}
	var m message
	if limit == maxEcho {
		m.whole = text
		m.eightBit = bytes.ContainsFunc(text, func(c rune) bool { return c > '~' })
	}
	header := text
	if end := bytes.Index(text, []byte("\r\n\r\n")); end >= 0 {
		header = text[:end+2]
	}
	for f := range mime.Fields(header) {
		m.field(f)
	}
	return m, nil
}

func (m *message) field(f mime.Field) {
	value := strings.ToLower(strings.TrimSpace(f.Value()))
	switch {
	case f.Is("Subject"):
		m.subject = oneLine(mime.DecodeHeader(f.Value()))
	case f.Is("Message-ID"):
		m.messageID = identifiers(f.Value())
	case f.Is("References"):
		m.references = identifiers(f.Value())
	case f.Is("To"), f.Is("Cc"), f.Is("Bcc"), f.Is("Resent-To"), f.Is("Resent-Cc"):
		for _, a := range mime.ParseAddressList(f.Value()) {
			if domain, err := mail.ParseDomain(a.Domain); a.Kind == mime.Mailbox && err == nil {
				m.recipients = append(m.recipients, mail.Address{Local: a.Local, Domain: domain})
			}
		}
	case f.Is("Auto-Submitted") && !strings.HasPrefix(value, "no"): // RFC 3834 §5
		m.program = "Auto-Submitted: " + value
	case f.Is("Precedence") && (value == "bulk" || value == "list" || value == "junk"):
		m.program = "Precedence: " + value
	case f.Is("X-Auto-Response-Suppress") && value != "none":
		m.program = "X-Auto-Response-Suppress"
	case strings.HasPrefix(strings.ToLower(f.Name), "list-"), f.Is("Mailing-List"), f.Is("X-Loop"), f.Is("Feedback-ID"):
		m.program = f.Name
	}
}

// unanswered says why no reply is due; empty: one is (RFC 3834 §2).
func (m *message) unanswered(from mail.Address, u *directory.User) string {
	own := func(a mail.Address) bool {
		for _, o := range append(append([]mail.Address{u.Mail}, u.Alternates...), u.Equivalents...) {
			if o.Local == "" && o.Domain == a.Domain || o.Key() == a.Key() || o.Key() == withoutDetail(a).Key() {
				return true
			}
		}
		return false
	}
	switch local := strings.ToLower(from.Local); {
	case from.IsNull():
		return "no sender"
	case own(from):
		return "the user's own message"
	case m.program != "":
		return m.program
	case local == "mailer-daemon", local == "listserv", local == "majordomo", strings.HasPrefix(local, "owner-"),
		strings.HasSuffix(local, "-owner"), strings.HasSuffix(local, "-request"), strings.HasSuffix(local, "-bounces"),
		strings.HasPrefix(strings.NewReplacer("-", "", "_", "", ".", "").Replace(local), "noreply"), strings.HasPrefix(local, "bounce"):
		return "the sender is a program"
	}
	if u.AutoReply.Mode == directory.ReplyVacation {
		for _, a := range m.recipients {
			if own(a) {
				return ""
			}
		}
		return "not addressed to the user"
	}
	return ""
}

func withoutDetail(a mail.Address) mail.Address {
	base, _, _ := strings.Cut(a.Local, "+")
	return mail.Address{Local: base, Domain: a.Domain}
}

// identifiers keeps the message identifiers of a field that are safe to quote.
func identifiers(s string) string {
	var keep []string
	for word := range strings.FieldsSeq(s) {
		if strings.HasPrefix(word, "<") && strings.HasSuffix(word, ">") && len(word) < 500 && len(keep) < 20 &&
			!strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
			keep = append(keep, word)
		}
	}
	return strings.Join(keep, " ")
}

// oneLine makes a stranger's text safe for a field.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "..."
	}
	return strings.TrimSpace(s)
}
