package cmd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailsrv/pkg/peertest"
)

// TestPeerPostfix has Postfix for its smart host, with STARTTLS and a login,
// and takes mail from it: alice is ours, carol has her mailbox behind Postfix.
func TestPeerPostfix(t *testing.T) {
	w := newWhole(t)
	d := peertest.StartDovecot(t, peertest.DovecotOptions{Name: "postfix.test", Users: map[string]string{
		"carol@postfix.test": "of-carol", "office@postfix.test": "of-the-office"}})
	p := peertest.StartPostfix(t, peertest.PostfixOptions{Domain: "postfix.test", Users: []string{"carol@postfix.test"},
		Store: d, Next: map[string]string{"example.test": w.smtp}, CA: w.cert})
	w.start(allRoles, map[string]string{"mta": fmt.Sprintf(
		"smart_host: {address: %q, ca: %s, username: office@postfix.test, password_file: %s}, queue: {retry: [1s]}", p.Submission, p.CA, w.file("office.secret", "of-the-office"))})
	w.mailsrv("domain", "add", "example.test")
	alice := w.user("alice@example.test")
	w.mailsrv("alias", "add", "lost@example.test", "nobody@postfix.test")
	x := &postfixTest{whole: w, p: p, alice: w.dial(t, "alice@example.test", alice), password: alice, carol: dialDovecot(t, d, "carol@postfix.test", "of-carol")}
	// In this order: each looks at what came last.
	t.Run("out", x.out)
	t.Run("in", x.in)
	t.Run("refused by us", x.refusedByUs)
	t.Run("refused by Postfix", x.refusedByPostfix)
	t.Run("bounced to Postfix", x.bounced)
}

type postfixTest struct {
	*whole
	p            *peertest.Postfix
	alice, carol *imapclient.Client
	password     string // alice's
	// How many messages have come to each.
	toAlice, toCarol int
}

const oddBody = ".\r\n..\r\ngr\xc3\xbc\xc3\x9fe\r\nFrom x\r\n"

// out: a message by way of the smart host. Postfix reports that it went on to a
// store that knows no DSN.
func (x *postfixTest) out(t *testing.T) {
	c, err := smtp.DialStartTLS(x.submission, &tls.Config{RootCAs: x.roots(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := func() error {
		if err := c.Auth(sasl.NewPlainClient("", "alice@example.test", x.password)); err != nil {
			return err
		}
		if err := c.Mail("alice@example.test", &smtp.MailOptions{Body: smtp.Body8BitMIME, EnvelopeID: "out+1", Return: smtp.DSNReturnHeaders}); err != nil {
			return err
		}
		if err := c.Rcpt("carol@postfix.test", &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess},
			OriginalRecipientType: smtp.DSNAddressTypeRFC822, OriginalRecipient: "carol@postfix.test"}); err != nil {
			return err
		}
		d, err := c.Data()
		if err != nil {
			return err
		}
		_, err = d.Write([]byte("From: alice@example.test\r\nTo: carol@postfix.test\r\nSubject: out\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + oddBody))
		return errors.Join(err, d.Close())
	}
	if err := w(); err != nil {
		t.Fatal(err)
	}
	if got := x.next(t, x.carol, &x.toCarol); !strings.HasSuffix(got, "\r\n\r\n"+oddBody) {
		t.Errorf("came to carol:\n%q", got)
	}
	for _, want := range []string{"sasl_method=PLAIN, sasl_username=office@postfix.test", "TLS connection established from"} {
		if !strings.Contains(x.p.Log(), want) {
			t.Errorf("Postfix's log has no %q", want)
		}
	}
	n := parseNotification(t, x.next(t, x.alice, &x.toAlice))
	if n.recipient.Get("Action") != "relayed" || n.message.Get("Original-Envelope-Id") != "out+1" || !strings.EqualFold(n.recipient.Get("Original-Recipient"), "rfc822;carol@postfix.test") {
		t.Errorf("the report of success: %v %v", n.message, n.recipient)
	}
}

// in: Postfix hands a message over with all that both sides know.
func (x *postfixTest) in(t *testing.T) {
	text := "From: carol@postfix.test\nTo: alice@example.test\nSubject: in\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + oddBody
	x.p.Sendmail(t, strings.ReplaceAll(text, "\r\n", "\n"), "-i", "-f", "carol@postfix.test", "-N", "success,delay,failure", "-V", "in+1", "-R", "hdrs", "alice@example.test")
	if got := x.next(t, x.alice, &x.toAlice); !strings.HasSuffix(got, "\r\n\r\n"+oddBody) || !strings.HasPrefix(got, "Return-Path: <carol@postfix.test>\r\n") {
		t.Errorf("came to alice:\n%q", got)
	}
	n := parseNotification(t, x.next(t, x.carol, &x.toCarol))
	if n.recipient.Get("Action") != "delivered" || n.message.Get("Original-Envelope-Id") != "in+1" || n.recipient.Get("Final-Recipient") != "rfc822; alice@example.test" ||
		!strings.Contains(n.original, "Subject: in\r\n") || strings.Contains(n.original, oddBody) {
		t.Errorf("our report of success: %v %v\n%s", n.message, n.recipient, n.original)
	}
	log := x.p.Log()
	for _, want := range []string{
		"Verified TLS connection established to", "> 127.0.0.1[127.0.0.1]:" + x.smtp[strings.LastIndexByte(x.smtp, ':')+1:] + ": STARTTLS",
		" SIZE=", " BODY=8BITMIME", " ENVID=in+2B1 RET=HDRS", " NOTIFY=SUCCESS,FAILURE,DELAY", "status=sent (250 2.0.0",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("Postfix's log has no %q", want)
		}
	}
	// PIPELINING: DATA is said before MAIL is answered.
	_, mail, _ := strings.Cut(log, ": MAIL FROM:<carol@postfix.test>")
	data, answer := strings.Index(mail, "]:"+x.smtp[strings.LastIndexByte(x.smtp, ':')+1:]+": DATA"), strings.Index(mail, ": < ")
	if data < 0 || data > answer {
		t.Errorf("DATA at %d, the first answer at %d of\n%.1000s", data, answer, mail)
	}
}

// refusedByUs: our reply at RCPT is what Postfix tells carol.
func (x *postfixTest) refusedByUs(t *testing.T) {
	x.p.Sendmail(t, "From: carol@postfix.test\nSubject: x\n\nx\n", "-f", "carol@postfix.test", "noone@example.test")
	n := parseNotification(t, x.next(t, x.carol, &x.toCarol))
	if n.recipient.Get("Status") != "5.1.1" || n.recipient.Get("Action") != "failed" || !strings.HasPrefix(n.recipient.Get("Diagnostic-Code"), "smtp; 550 5.1.1 ") {
		t.Errorf("Postfix's report: %v", n.recipient)
	}
}

// refusedByPostfix: its reply at RCPT is what we tell alice.
func (x *postfixTest) refusedByPostfix(t *testing.T) {
	if err := x.submit(t, "alice@example.test", x.password, "Subject: refused\r\n\r\nx\r\n", "nobody@postfix.test"); err != nil {
		t.Fatal(err)
	}
	n := parseNotification(t, x.next(t, x.alice, &x.toAlice))
	if n.recipient.Get("Status") != "5.1.1" || n.recipient.Get("Action") != "failed" || n.recipient.Get("Final-Recipient") != "rfc822; nobody@postfix.test" ||
		!strings.Contains(n.recipient.Get("Diagnostic-Code"), "User unknown in virtual mailbox table") || !strings.Contains(n.original, "Subject: refused\r\n") {
		t.Errorf("our report: %v %v", n.message, n.recipient)
	}
}

// bounced: mail that we had taken from Postfix comes back there, from nobody.
func (x *postfixTest) bounced(t *testing.T) {
	x.p.Sendmail(t, "From: carol@postfix.test\nSubject: to be lost\n\nx\n", "-f", "carol@postfix.test", "lost@example.test")
	text := x.next(t, x.carol, &x.toCarol)
	n := parseNotification(t, text)
	if n.recipient.Get("Status") != "5.1.1" || n.recipient.Get("Action") != "failed" || n.header.Get("Return-Path") != "<>" || n.header.Get("Auto-Submitted") != "auto-replied" {
		t.Errorf("our report: %v %v", n.header, n.recipient)
	}
	if strings.Contains(x.p.Log(), "non-SMTP command") || strings.Contains(x.p.Log(), "improper command pipelining") {
		t.Error("Postfix objects to our manners; see its log")
	}
}

// next waits for the next message in an inbox.
func (x *postfixTest) next(t *testing.T, c *imapclient.Client, n *int) string {
	t.Helper()
	*n++
	return x.arrived(t, c, "INBOX", *n)
}

func dialDovecot(t *testing.T, d *peertest.Dovecot, login, password string) *imapclient.Client {
	t.Helper()
	pem, err := os.ReadFile(d.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := imapclient.DialTLS(d.IMAPS, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Login(login, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}
