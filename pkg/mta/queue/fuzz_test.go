package queue

import (
	"bytes"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

// FuzzReport puts a stranger's words into a report, which must stay one.
func FuzzReport(f *testing.F) {
	f.Add("550 5.1.1 no", "id", "rfc822;x@y", []byte(letter), "a", true)
	f.Add("", "", "", []byte(""), "grün", false)
	f.Add("550 5.1.1 a\r\n\r\n--=_x", "a\nb", "c\rd", []byte("Message-ID: <a@b>\r\n"), "\"", true)
	f.Fuzz(func(t *testing.T, status, envid, orcpt string, text []byte, local string, full bool) {
		to := mail.Address{Local: local, Domain: "far.test"}
		if _, err := mail.ParseAddress(to.String()); err != nil {
			return
		}
		if i := bytes.IndexAny(text, "\r\n"); i >= 0 {
			text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r"), nil), []byte("\n"), []byte("\r\n"))
		}
		o, err := readOriginal(mail.Bytes(text), full)
		if err != nil {
			t.Fatal(err)
		}
		r := report{action: "failed", original: o, hostname: "mx.us.example", at: time.Unix(0, 0), trace: mail.NewTraceID(), retryFor: time.Hour,
			entry: entryRow{env: mail.Envelope{From: mail.Address{Local: "s", Domain: "us.example"}, EnvID: envid}},
			rows:  []recipientRow{{Recipient: mail.Recipient{Address: to, ORCPT: orcpt}, status: status}}}
		got := r.append(nil)
		if rest := bytes.ReplaceAll(got, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n") {
			t.Fatalf("bare CR or LF in %q", got)
		}
		checkReport(t, string(got))
	})
}
