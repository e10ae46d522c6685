package autoreply

import (
	"bytes"
	"cmp"
	"fmt"
	gomime "mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// reply is one automatic reply.
type reply struct {
	user     *directory.User
	message  message
	to       mail.Address
	internal bool
	hostname string
	at       time.Time
	trace    mail.TraceID
}

// dateLayout is date-time of RFC 5322 §3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// append appends the whole message, with CRLF line ends.
func (r *reply) append(dst []byte) []byte {
	line := func(format string, args ...any) { dst = append(fmt.Appendf(dst, format, args...), "\r\n"...) }
	a, m := r.user.AutoReply, r.message
	line("From: %s<%s>", displayName(r.user.Name), r.user.Mail)
	line("To: <%s>", r.to)
	subject := oneLine(r.fill(a.Subject))
	if subject == "" {
		subject = "Auto: " + cmp.Or(m.subject, "your message")
	}
	line("Subject: %s", gomime.QEncoding.Encode("utf-8", subject))
	line("Date: %s", r.at.Format(dateLayout))
	line("Message-ID: <%s@%s>", r.trace, r.hostname)
	if m.messageID != "" {
		line("In-Reply-To: %s", m.messageID)
		line("References: %s", strings.ReplaceAll(strings.TrimSpace(m.references+" "+m.messageID), " ", "\r\n\t"))
	}
	kind := "auto-replied"
	if a.Mode == directory.ReplyVacation {
		kind += " (vacation)"
	}
	line("Auto-Submitted: %s", kind)
	line("Precedence: bulk")
	line("MIME-Version: 1.0")
	text := a.Text
	if r.internal && a.Internal != "" {
		text = a.Internal
	}
	part := "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted(r.fill(text)) + "\r\n"
	if a.Mode != directory.ReplyEcho {
		return append(dst, part...)
	}
	boundary := "=_" + string(r.trace)
	line("Content-Type: multipart/mixed; boundary=\"%s\"\r\n", boundary)
	line("--%s\r\n%s", boundary, part)
	if m.whole != nil {
		encoding := "7bit"
		if m.eightBit {
			encoding = "8bit"
		}
		line("--%s\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: %s\r\n", boundary, encoding)
		dst = append(dst, m.whole...)
		line("")
	}
	line("--%s--", boundary)
	return dst
}

// fill puts the message's subject and sender into a text.
func (r *reply) fill(text string) string {
	return strings.NewReplacer("$SUBJECT", r.message.subject, "$FROM", r.to.String()).Replace(text)
}

func quoted(text string) string {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n"))) // a Buffer does not fail
	_ = w.Close()
	return b.String()
}

// displayName is a name before an address, with a blank; empty for none.
func displayName(name string) string {
	name = oneLine(name)
	switch encoded := gomime.QEncoding.Encode("utf-8", name); {
	case name == "":
		return ""
	case encoded != name:
		return encoded + " "
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `" `
}
