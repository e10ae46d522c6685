package lmtpclient_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/lmtpclient"
	"mailsrv/pkg/store/lmtpserver"
	"mailsrv/pkg/store/sqlstore"
)

// TestChain is the split form with real engines: client, door, the store's own
// look at the directory, and the database.
func TestChain(t *testing.T) {
	dir, err := sqldir.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), sqldir.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	names := directory.ViewOptions{Base: base(t), DefaultDomain: "example.test"}
	p := directory.NewProvisioner(dir, names)
	for _, err := range []error{
		p.EnsureBase(t.Context()), p.AddDomain(t.Context(), "example.test", "store.test"),
		p.AddUser(t.Context(), "alice@example.test", "Alice", "secret", "store.test"),
		p.AddUser(t.Context(), "bob@example.test", "Bob", "secret", "store.test"),
		p.AddAlias(t.Context(), "a.l@example.test", "alice@example.test"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	engine, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: t.TempDir(), Mailboxes: []store.MailboxEntry{{Name: "Sent", SpecialUse: `\Sent`}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	door := lmtpserver.New(lmtpserver.Options{Deliverer: store.NewDeliverer(engine, directory.NewView(dir, names), store.NoQuota()),
		Hostname: "store.test", SpoolDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	c := client(t, lmtpclient.Options{Addr: listen(t, door.ServeConn)})

	env := mail.Envelope{From: mail.Address{Local: "x", Domain: "sender.test"}, Trace: mail.NewTraceID(), To: to("A.L", "bob", "carol", "alice")}
	env.To[3].Mailbox, env.To[3].Flags, env.To[3].SentCopy = "Sent", []string{`\Seen`}, true
	text := "From: <x@sender.test>\r\nMessage-ID: <1@sender.test>\r\nSubject: chain\r\n\r\n.\r\nbody\r\n"
	for range 2 { // the second time all is done before
		got := replies(c.Deliver(t.Context(), env, mail.Bytes(text)))
		if got[0] != "" || got[1] != "" || !strings.HasPrefix(got[2], "550 5.1.1") || got[3] != "" {
			t.Fatal(got)
		}
	}
	for _, place := range []struct{ account, mailbox, head string }{
		{"alice@example.test", "INBOX", "Return-Path: <x@sender.test>\r\nDelivered-To: A.L@example.test\r\n"},
		{"alice@example.test", "Sent", ""},
		{"bob@example.test", "INBOX", "Return-Path: <x@sender.test>\r\nDelivered-To: bob@example.test\r\n"},
	} {
		a, err := engine.Account(t.Context(), place.account)
		if err != nil {
			t.Fatal(err)
		}
		m, err := a.Open(t.Context(), place.mailbox)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := m.Status(t.Context()); err != nil || s.Messages != 1 {
			t.Fatalf("%s of %s: %+v, %v", place.mailbox, place.account, s, err)
		}
		b, err := m.Body(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if want := place.head + text; err != nil || string(got) != want {
			t.Errorf("%s of %s: got %q, %v; want %q", place.mailbox, place.account, got, err, want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func base(t testing.TB) directory.DN {
	dn, err := directory.ParseDN("o=isp")
	if err != nil {
		t.Fatal(err)
	}
	return dn
}
