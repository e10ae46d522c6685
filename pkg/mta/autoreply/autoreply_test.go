package autoreply

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// office is a Directory with one user, alice.
type office struct {
	directory.Directory
	user *directory.User
	down bool
}

func (o *office) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	switch {
	case o.down:
		return directory.Recipient{}, directory.ErrUnavailable
	case a.Local != "alice":
		return directory.Recipient{}, directory.ErrNotFound
	}
	return directory.Recipient{User: o.user}, nil
}

func (o *office) Domain(_ context.Context, name string) (directory.Domain, error) {
	if name == "us.example" || name == "us.test" {
		return directory.Domain{Name: "us.example"}, nil
	}
	return directory.Domain{}, directory.ErrNotFound
}

// outbox is a queue that keeps what it gets.
type outbox struct {
	mu   sync.Mutex
	env  []mail.Envelope
	text []string
	err  error
}

func (o *outbox) Deliver(_ context.Context, env mail.Envelope, body mail.Body) []error {
	o.mu.Lock()
	defer o.mu.Unlock()
	rc, err := body.Open()
	if err != nil || o.err != nil {
		return mail.All(len(env.To), o.err)
	}
	defer rc.Close()
	text, err := io.ReadAll(rc)
	o.env, o.text = append(o.env, env), append(o.text, string(text))
	return mail.All(len(env.To), err)
}

func alice() *directory.User {
	return &directory.User{UID: "alice", Domain: "us.example", Name: `Alice "A." Müller`, Mail: mail.Address{Local: "alice", Domain: "us.example"},
		Alternates: []mail.Address{{Local: "al", Domain: "us.example"}, {Domain: "vanity.example"}},
		AutoReply: directory.AutoReply{Mode: directory.ReplyVacation, Interval: 24 * time.Hour, Subject: "Away: $SUBJECT", Text: "I am away.\nAsk $FROM, für 5 =.",
			Internal: "Gone fishing."}}
}

func open(t *testing.T, dir string, o *office, q *outbox, now *time.Time) *Replier {
	t.Helper()
	r, err := Open(t.Context(), Options{Path: filepath.Join(dir, "autoreply.db"), Directory: o, Queue: q, Hostname: "mx.us.example", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.now = func() time.Time { return *now }
	t.Cleanup(func() { r.Close() })
	return r
}

func deliver(t *testing.T, r *Replier, from, message string) error {
	t.Helper()
	env := mail.Envelope{Trace: mail.NewTraceID(), To: []mail.Recipient{{Address: mail.Address{Local: "alice", Domain: "us.example"}}}}
	if from != "" {
		var err error
		if env.From, err = mail.ParseAddress(from); err != nil {
			t.Fatal(err)
		}
	}
	return r.Deliver(t.Context(), env, mail.Bytes(strings.ReplaceAll(message, "\n", "\r\n")))[0]
}

const letter = "From: Sam <sam@far.test>\nTo: Alice <Alice@us.example>\nSubject: =?utf-8?q?H=C3=A4llo?=\nMessage-ID: <1@far.test>\nReferences: <0@far.test>\n\nhi\n"

// signer signs for its domain.
type signer string

func (s signer) Sign(_ context.Context, domain string, body mail.Body) ([]byte, error) {
	if domain != string(s) || body.Size() == 0 {
		return nil, errors.New("asked to sign for " + domain)
	}
	return []byte("DKIM-Signature: d=" + domain + "\r\n"), nil
}

// TestRepliesAreSigned: a reply is in the user's name, which his domain may let
// nobody use without a signature.
func TestRepliesAreSigned(t *testing.T) {
	q, now := &outbox{}, time.Now()
	r := open(t, t.TempDir(), &office{user: alice()}, q, &now)
	r.o.Signer = signer("us.example")
	if err := deliver(t, r, "sam@far.test", letter); err != nil {
		t.Fatal(err)
	}
	if len(q.text) != 1 || !strings.HasPrefix(q.text[0], "DKIM-Signature: d=us.example\r\nFrom: ") {
		t.Errorf("%q", q.text)
	}
	r.o.Signer = signer("elsewhere.test")
	if err := deliver(t, r, "tim@far.test", letter); err == nil || len(q.text) != 1 {
		t.Errorf("without its signature: %v, %d replies", err, len(q.text))
	}
}

func TestManners(t *testing.T) {
	tests := []struct {
		name, from, message string
		mode                directory.ReplyMode
		want                int
	}{
		{"a letter", "sam@far.test", letter, directory.ReplyVacation, 1},
		{"to an alternate", "sam@far.test", "To: al@us.example\n\n", directory.ReplyVacation, 1},
		{"to a detail", "sam@far.test", "Cc: x@y.test, alice+list@us.example\n\n", directory.ReplyVacation, 1},
		{"to the vanity domain", "sam@far.test", "To: any@vanity.example\n\n", directory.ReplyVacation, 1},
		{"to somebody else", "sam@far.test", "To: bob@us.example\n\n", directory.ReplyVacation, 0},
		{"to somebody else, mode reply", "sam@far.test", "To: bob@us.example\n\n", directory.ReplyAlways, 1},
		{"null sender", "", letter, directory.ReplyAlways, 0},
		{"herself", "alice@us.example", letter, directory.ReplyAlways, 0},
		{"herself by an alternate", "al+x@us.example", letter, directory.ReplyAlways, 0},
		{"Auto-Submitted", "sam@far.test", "Auto-Submitted: auto-replied\n" + letter, directory.ReplyAlways, 0},
		{"Auto-Submitted: no", "sam@far.test", "Auto-Submitted: no\n" + letter, directory.ReplyAlways, 1},
		{"Precedence", "sam@far.test", "Precedence: Bulk\n" + letter, directory.ReplyAlways, 0},
		{"list", "sam@far.test", "List-Id: <x.far.test>\n" + letter, directory.ReplyAlways, 0},
		{"suppressed", "sam@far.test", "X-Auto-Response-Suppress: All\n" + letter, directory.ReplyAlways, 0},
		{"MAILER-DAEMON", "MAILER-DAEMON@far.test", letter, directory.ReplyAlways, 0},
		{"owner", "owner-x@far.test", letter, directory.ReplyAlways, 0},
		{"request", "x-request@far.test", letter, directory.ReplyAlways, 0},
		{"no-reply", "no-reply+3@far.test", letter, directory.ReplyAlways, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, q, now := alice(), &outbox{}, time.Now()
			u.AutoReply.Mode = tt.mode
			r := open(t, t.TempDir(), &office{user: u}, q, &now)
			if err := deliver(t, r, tt.from, tt.message); err != nil {
				t.Fatal(err)
			}
			if len(q.env) != tt.want {
				t.Errorf("%d replies, want %d", len(q.env), tt.want)
			}
			for _, env := range q.env {
				if !env.From.IsNull() || env.To[0].Address.String() != tt.from {
					t.Errorf("from %q to %v", env.From, env.To)
				}
			}
		})
	}
}

func TestVacationIsToldOnceOverRestarts(t *testing.T) {
	dir, o, q, now := t.TempDir(), &office{user: alice()}, &outbox{}, time.Now()
	r := open(t, dir, o, q, &now)
	for _, from := range []string{"sam@far.test", "SAM@far.test", "kim@far.test"} {
		if err := deliver(t, r, from, letter); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir, o, q, &now)
	if err := deliver(t, r, "sam@far.test", letter); err != nil || len(q.env) != 2 {
		t.Errorf("%d replies to two senders, %v", len(q.env), err)
	}
	now = now.Add(25 * time.Hour)
	if err := deliver(t, r, "sam@far.test", letter); err != nil || len(q.env) != 3 {
		t.Errorf("%d replies a day later, %v", len(q.env), err)
	}
	o.user.AutoReply.Mode = directory.ReplyAlways
	for range 2 {
		if err := deliver(t, r, "sam@far.test", letter); err != nil {
			t.Fatal(err)
		}
	}
	if len(q.env) != 5 {
		t.Errorf("%d replies, mode reply answers each message", len(q.env))
	}
}

func TestTroubleIsTransient(t *testing.T) {
	o, q, now := &office{user: alice(), down: true}, &outbox{}, time.Now()
	r := open(t, t.TempDir(), o, q, &now)
	if err := deliver(t, r, "sam@far.test", letter); err == nil || mail.IsPermanent(err) {
		t.Errorf("directory down: %v", err)
	}
	o.down, q.err = false, io.ErrShortWrite
	env := mail.Envelope{From: mail.Address{Local: "sam", Domain: "far.test"}, Trace: mail.NewTraceID(), To: []mail.Recipient{{Address: o.user.Mail}}}
	body := mail.Bytes(strings.ReplaceAll(letter, "\n", "\r\n"))
	if err := r.Deliver(t.Context(), env, body)[0]; err == nil || mail.IsPermanent(err) {
		t.Errorf("queue down: %v", err)
	}
	q.err = nil
	if err := r.Deliver(t.Context(), env, body)[0]; err != nil || len(q.env) != 1 {
		t.Errorf("the second attempt for the same message: %d replies, %v", len(q.env), err)
	}
}

func TestReply(t *testing.T) {
	o, q := &office{user: alice()}, &outbox{}
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	r := open(t, t.TempDir(), o, q, &now)
	if err := deliver(t, r, "sam@far.test", letter); err != nil {
		t.Fatal(err)
	}
	if err := deliver(t, r, "bob@us.test", letter); err != nil {
		t.Fatal(err)
	}
	want := "From: =?utf-8?q?Alice_\"A.\"_M=C3=BCller?= <alice@us.example>\nTo: <sam@far.test>\nSubject: =?utf-8?q?Away:_H=C3=A4llo?=\n" +
		"Date: Mon, 15 Jun 2026 12:00:00 +0000\nMessage-ID: <TRACE@mx.us.example>\nIn-Reply-To: <1@far.test>\nReferences: <0@far.test>\n\t<1@far.test>\n" +
		"Auto-Submitted: auto-replied (vacation)\nPrecedence: bulk\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n" +
		"Content-Transfer-Encoding: quoted-printable\n\nI am away.\nAsk sam@far.test, f=C3=BCr 5 =3D.\n"
	got := strings.ReplaceAll(strings.ReplaceAll(q.text[0], string(q.env[0].Trace), "TRACE"), "\r\n", "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
	if !strings.Contains(q.text[1], "\r\n\r\nGone fishing.\r\n") {
		t.Errorf("to a colleague: %s", q.text[1])
	}
}

func TestEcho(t *testing.T) {
	o, q, now := &office{user: alice()}, &outbox{}, time.Now()
	o.user.AutoReply.Mode = directory.ReplyEcho
	r := open(t, t.TempDir(), o, q, &now)
	if err := deliver(t, r, "sam@far.test", letter); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(q.text[0], "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"+strings.ReplaceAll(letter, "\n", "\r\n")+"\r\n--=_") {
		t.Error(q.text[0])
	}
	if err := deliver(t, r, "sam@far.test", letter+strings.Repeat("x\n", 1<<20)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(q.text[1], "message/rfc822") || len(q.text[1]) > 2000 {
		t.Errorf("a message of 2 MB came back: %d bytes", len(q.text[1]))
	}
}

// FuzzReply: whatever a message says, each line of the reply's header is a
// field that we chose.
func FuzzReply(f *testing.F) {
	f.Add("sam@far.test", letter)
	f.Add("a b@far.test", "Subject: =?utf-8?q?a=0D=0AX-Evil:_1?=\nTo: alice@us.example\nMessage-ID: <a\n\tb>\n\n")
	f.Fuzz(func(t *testing.T, sender, text string) {
		from, err := mail.ParseAddress(sender)
		if err != nil {
			return
		}
		m, err := readMessage(mail.Bytes(strings.ReplaceAll(text, "\n", "\r\n")), false)
		if err != nil {
			t.Fatal(err)
		}
		u := alice()
		r := reply{user: u, message: m, to: from, hostname: "mx", at: time.Now(), trace: mail.NewTraceID()}
		header, _, _ := strings.Cut(string(r.append(nil)), "\r\n\r\n")
		known := []string{"From: ", "To: ", "Subject: ", "Date: ", "Message-ID: ", "In-Reply-To: ", "References: ", "\t<", "Auto-Submitted: ", "Precedence: ", "MIME-Version: ", "Content-"}
		for line := range strings.SplitSeq(header, "\r\n") {
			ours := strings.HasPrefix(line, " =?")
			for _, k := range known {
				ours = ours || strings.HasPrefix(line, k)
			}
			if !ours || strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("line %q of the header", line)
			}
		}
	})
}
