package moderate

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"mailsrv/pkg/mail"
)

// question is a message to the moderators.
type question struct {
	group, from      mail.Address
	original         mail.Body
	approve, discard mail.Address // null: by the administrator's command alone
	hostname         string
	at               time.Time
	trace, held      mail.TraceID
}

// dateLayout is date-time of RFC 5322 §3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// message is the whole message; the one in question is attached as it is.
func (q *question) message() (mail.Body, error) {
	boundary := "=_" + string(q.trace)
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: %s <%s>", "Moderation", q.group)
	line("To: <%s>", q.group)
	if !q.approve.IsNull() {
		line("Reply-To: <%s>", q.approve)
	}
	line("Subject: A message to %s waits for you", q.group)
	line("Date: %s", q.at.Format(dateLayout))
	line("Message-ID: <%s@%s>", q.trace, q.hostname)
	line("Auto-Submitted: auto-generated")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/mixed; boundary=\"%s\"\r\n", boundary)
	line("--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", boundary)
	line("The attached message from <%s> to the list <%s> is kept until a", q.from, q.group)
	line("moderator lets it pass.\r\n")
	if q.approve.IsNull() {
		line("The administrator can release it: its trace is %s.", q.held)
	} else {
		line("To let it pass, reply to this message; what you write does not matter.")
		line("To refuse it, write to <%s>.", q.discard)
		line("If you do nothing, it stays where it is.")
	}
	line("\r\n--%s\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n", boundary)
	rc, err := q.original.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	if _, err := io.Copy(&b, rc); err != nil {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	line("\r\n--%s--", boundary)
	return mail.Bytes(b.Bytes()), nil
}
