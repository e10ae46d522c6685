package mta

import (
	"bytes"
	"io"
	"log/slog"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// FuzzHeader feeds messages of strangers to the reader of headers, and looks
// whether what we send on is still the same message under our fields.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "\r\n", "From: a@b\r\nBcc: c@d\r\n e@f\r\nSubject: x\r\n\r\nbody", "From : a@b\r\n\r\n", "x\r\ny\r\n\r\n",
		"Bcc: only", "Bcc:\r\n\r\nbody\r\n", "From: \"a, b\" <c@d>, e: f@g, h;\r\nbcc: x\r\n\r\n", " x\r\nBcc: y\r\n\r\n", "Message-ID:\r\n <x@y>\r\nDate: z\r\n"} {
		f.Add([]byte(s), "helo")
	}
	f.Fuzz(func(t *testing.T, text []byte, helo string) {
		h, err := readHeader(mail.Bytes(text))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(text, h.Block) {
			t.Fatalf("header %q is not the beginning of %q", h.Block, text)
		}
		s := &Session{Submission: true, Identity: &auth.Identity{}, Helo: helo, Log: slog.New(slog.DiscardHandler)}
		tx := &transaction{agent: &Agent{o: Options{Hostname: "mx.us.example"}, now: time.Now}, trace: mail.NewTraceID(), evidence: Evidence{Session: s, Header: h}}
		body := tx.amend(mail.Bytes(text))
		rc, err := body.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		if err != nil || int64(len(got)) != body.Size() {
			t.Fatalf("%d bytes of %d, %v", len(got), body.Size(), err)
		}
		if rest := text[len(h.Block):]; !bytes.HasSuffix(got, rest) {
			t.Fatalf("%q does not end in %q", got, rest)
		}
		if form := (form{}).Check(t.Context(), AtMessage, &tx.evidence); form != nil {
			return
		}
		for field := range mime.Fields(got) {
			if field.Is("Bcc") {
				t.Fatalf("Bcc left in %q", got)
			}
		}
		if v, ok := mime.First(got, "Received"); !ok || bytes.ContainsAny([]byte(v), "\r\n") {
			t.Fatalf("Received field %q of %q", v, got)
		}
	})
}
