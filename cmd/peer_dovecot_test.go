package cmd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailsrv/pkg/peertest"
)

// TestPeerDovecot has Dovecot for its store: the MMP logs users in there by a
// master user, and the MTA delivers by LMTP.
func TestPeerDovecot(t *testing.T) {
	const host = "dovecot.example.test"
	d := peertest.StartDovecot(t, peertest.DovecotOptions{
		Name: host, MasterUser: "mmp", MasterSecret: "of-the-mmp",
		Users: map[string]string{"alice@example.test": "not the one she knows", "bob@example.test": "nor he"},
	})
	w := newWhole(t)
	secret := w.file("master.secret", "of-the-mmp\n")
	w.start("directory, mta, mmp", map[string]string{
		"mmp": fmt.Sprintf("stores: [{host: %s, address: %q, pop3_address: %q, tls: starttls, ca: %s, kind: dovecot, proxy_name: mmp, secret_file: %s}]", host, d.IMAP, d.POP3, d.CA, secret),
		"mta": fmt.Sprintf("stores: [{host: %s, address: %q, tls: starttls, ca: %s}], queue: {retry: [1s]}", host, d.LMTP, d.CA),
	})
	w.mailsrv("domain", "add", "example.test", "--mailhost", host)
	alice, bob := w.user("alice@example.test"), w.user("bob@example.test")
	w.user("carol@example.test") // unknown to Dovecot

	t.Run("a wrong password opens no connection", func(t *testing.T) {
		before := strings.Count(d.Log(), "imap-login")
		c := w.connect(t, nil, nil)
		if err := c.Login("bob@example.test", "nor he").Wait(); code(err) != imap.ResponseCodeAuthenticationFailed {
			t.Errorf("the answer: %v", err)
		}
		from := &net.TCPAddr{IP: net.IPv4(127, 9, 9, 9)}
		c = w.connect(t, from, nil)
		if err := c.Login("bob@example.test", bob).Wait(); err != nil {
			t.Fatal(err)
		}
		// What Dovecot writes down about this login stands behind all earlier.
		want := "Login: user=<bob@example.test>, method=PLAIN, rip=127.9.9.9,"
		peertest.Eventually(t, 5*time.Second, func() error {
			if !strings.Contains(d.Log(), want) {
				return errors.New("Dovecot's log has no " + want)
			}
			return nil
		})
		if n := strings.Count(d.Log(), "imap-login") - before; n != 1 {
			t.Errorf("%d connections for one login:\n%s", n, d.Log())
		}
	})
	t.Run("delivery, IDLE, FETCH", func(t *testing.T) {
		exists := make(chan uint32, 10)
		c := w.dialWith(t, "bob@example.test", bob, &imapclient.UnilateralDataHandler{Mailbox: func(m *imapclient.UnilateralDataMailbox) {
			if m.NumMessages != nil {
				exists <- *m.NumMessages
			}
		}})
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			t.Fatal(err)
		}
		idle, err := c.Idle()
		if err != nil {
			t.Fatal(err)
		}
		body := strings.Repeat(".\r\n..\r\ngr\xc3\xbc\xc3\x9fe\r\n", 30_000)
		if err := w.submit(t, "alice@example.test", alice, "Subject: one\r\n\r\n"+body, "bob@example.test"); err != nil {
			t.Fatal(err)
		}
		select {
		case n := <-exists:
			if n != 1 {
				t.Errorf("%d EXISTS", n)
			}
		case <-time.After(10 * time.Second):
			t.Error("IDLE heard nothing")
		}
		if err := idle.Close(); err != nil {
			t.Fatal(err)
		}
		got := messages(t, c, "INBOX")
		if len(got) != 1 || !strings.HasSuffix(got[0].text, "\r\n\r\n"+body) {
			t.Errorf("%d messages, or another text", len(got))
		}
		if sent := messages(t, w.dial(t, "alice@example.test", alice), "Sent"); len(sent) != 1 || !strings.HasSuffix(sent[0].text, body) {
			t.Errorf("%d messages in Sent", len(sent))
		}
	})
	t.Run("APPEND", func(t *testing.T) {
		c := w.dial(t, "alice@example.test", alice)
		text := "Subject: large\r\n\r\n" + string(bytes.Repeat([]byte("0123456789abcdef0123456789abcdef\r\n"), 60_000))
		add(t, c, "INBOX", text, imap.FlagFlagged)
		if got := messages(t, c, "INBOX"); len(got) != 1 || got[0].text != text || got[0].flags != `\flagged` {
			t.Errorf("%d messages, or another text", len(got))
		}
	})
	t.Run("POP3", func(t *testing.T) {
		script := w.file("pop3.py", `
import poplib, ssl, sys
m = poplib.POP3_SSL("localhost", int(sys.argv[2]), context=ssl.create_default_context(cafile=sys.argv[1]))
m.user("bob@example.test")
try:
    m.pass_("wrong")
    sys.exit("a wrong password was let in")
except poplib.error_proto:
    m.user("bob@example.test")
    m.pass_(sys.argv[3])
assert m.stat()[0] == 1
assert b"Subject: one" in m.retr(1)[1] and m.retr(1)[1].count(b"..") == 30000
m.quit()`)
		peertest.Client(t, "", peertest.Program(t, "python3", "python3"), script, w.cert, port(w.pop3s), bob)
		if want := "pop3-login: Info: Login: user=<bob@example.test>"; strings.Count(d.Log(), want) != 1 || strings.Contains(d.Log(), "auth failed") {
			t.Error("Dovecot saw another than one login by POP3")
		}
	})
	t.Run("a recipient that it does not know", func(t *testing.T) {
		err := w.submit(t, "alice@example.test", alice, "Subject: x\r\n\r\n", "carol@example.test")
		if e, ok := errors.AsType[*smtp.SMTPError](err); !ok || e.Code != 550 || e.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) {
			t.Errorf("the answer: %v", err)
		}
	})
	t.Run("while it is down", func(t *testing.T) {
		d.Stop(t)
		c := w.connect(t, nil, nil)
		if err := c.Login("bob@example.test", bob).Wait(); code(err) != imap.ResponseCodeUnavailable {
			t.Errorf("the answer to a login: %v", err)
		}
		if err := w.submit(t, "alice@example.test", alice, "Subject: later\r\n\r\n", "bob@example.test"); err != nil {
			t.Errorf("mail for the queue: %v", err)
		}
		d.Start(t)
		c = w.dial(t, "bob@example.test", bob)
		peertest.Eventually(t, 10*time.Second, func() error {
			if n := len(messages(t, c, "INBOX")); n != 2 {
				return fmt.Errorf("%d messages in INBOX", n)
			}
			return nil
		})
	})
}

// code is the response code of an IMAP server's NO.
func code(err error) imap.ResponseCode {
	e, ok := errors.AsType[*imap.Error](err)
	if !ok {
		return ""
	}
	return e.Code
}

// submit sends a message through the submission port.
func (w *whole) submit(t *testing.T, login, password, text string, to ...string) error {
	t.Helper()
	c, err := smtp.DialStartTLS(w.submission, &tls.Config{RootCAs: w.roots(), ServerName: "localhost"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", login, password)); err != nil {
		return err
	}
	if !strings.Contains(text, "From: ") {
		text = "From: " + login + "\r\n" + text
	}
	return c.SendMail(login, to, strings.NewReader(text))
}
