package cmd

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsrv/pkg/peertest"
)

// The tests in peer_*_test.go run the whole product against other people's
// programs, one file each; pkg/peertest finds and runs these.

// whole is an installation with all its doors in one process.
type whole struct {
	*install
	config string
	// Addresses, host:port.
	imap, imaps, pop3, pop3s, smtp, submission, submissions string
}

// newWhole chooses the addresses of one that is still to start.
func newWhole(t *testing.T) *whole {
	t.Helper()
	w := &whole{install: newInstall(t)}
	p := ports(t, 7)
	address := func(n int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(p[n])) }
	w.imap, w.imaps, w.smtp, w.submission, w.submissions = address(0), address(1), address(2), address(3), address(4)
	w.pop3, w.pop3s = address(5), address(6)
	return w
}

// start starts the roles with further settings of each section, in YAML's flow
// style, and waits until they are ready.
func (w *whole) start(roles string, sections map[string]string) {
	w.t.Helper()
	text := w.common("all", roles) + fmt.Sprintf("directory: {default_domain: example.test, %s}\n", sections["directory"]) +
		fmt.Sprintf("mmp: {imap: {listen: [%q], listen_tls: [%q]}, pop3: {listen: [%q], listen_tls: [%q]}, %s}\n", w.imap, w.imaps, w.pop3, w.pop3s, sections["mmp"]) +
		fmt.Sprintf("mta: {smtp: {listen: [%q]}, submission: {listen: [%q]}, submissions: {listen: [%q]}, %s}\n", w.smtp, w.submission, w.submissions, sections["mta"])
	w.config = w.file("all.yaml", text)
	w.serve(w.config)
}

// allRoles are those of start without a foreign server.
const allRoles = "directory, store, mta, mmp"

// mailsrv runs a command with this installation's configuration.
func (w *whole) mailsrv(args ...string) string {
	w.t.Helper()
	return w.run(append(args, "--config", w.config)...)
}

// user makes a user and returns the password.
func (w *whole) user(login string) string {
	w.t.Helper()
	out := w.mailsrv("user", "add", login)
	_, password, ok := strings.Cut(strings.TrimSpace(out), "password: ")
	if !ok {
		w.t.Fatalf("no password in %q", out)
	}
	return password
}

// dial logs in through the MMP with TLS.
func (w *whole) dial(t *testing.T, login, password string) *imapclient.Client {
	t.Helper()
	return w.dialWith(t, login, password, nil)
}

// dialWith is dial for who wants to hear what the server says unasked.
func (w *whole) dialWith(t *testing.T, login, password string, unilateral *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	c := w.connect(t, nil, unilateral)
	if err := c.Login(login, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// connect is a client that has not logged in, from a loopback address of its
// own unless that is nil.
func (w *whole) connect(t *testing.T, from net.Addr, unilateral *imapclient.UnilateralDataHandler) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(w.imaps, &imapclient.Options{
		TLSConfig: &tls.Config{RootCAs: w.roots(), ServerName: "localhost"}, Dialer: &net.Dialer{LocalAddr: from}, UnilateralDataHandler: unilateral,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// message is one in a mailbox.
type message struct {
	uid   imap.UID
	flags string // sorted, without \Recent
	text  string
}

// messages fetches a whole mailbox, in order of UID.
func messages(t *testing.T, c *imapclient.Client, mailbox string) []message {
	t.Helper()
	if selected, err := c.Select(mailbox, nil).Wait(); err != nil {
		t.Fatal(err)
	} else if selected.NumMessages == 0 {
		return nil
	}
	section := &imap.FetchItemBodySection{Peek: true}
	all, err := c.Fetch(imap.SeqSet{{Start: 1}}, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	list := make([]message, len(all))
	for i, m := range all {
		list[i] = message{m.UID, flagsOf(m.Flags), string(m.FindBodySection(section))}
	}
	return list
}

// flagsOf are flags as text that can be compared.
func flagsOf(flags []imap.Flag) string {
	var list []string
	for _, f := range flags {
		if f != "\\Recent" {
			list = append(list, strings.ToLower(string(f)))
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// roots trust the installation's certificate.
func (i *install) roots() *x509.CertPool {
	i.t.Helper()
	pem, err := os.ReadFile(i.cert)
	if err != nil {
		i.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// arrived waits until the mailbox holds n messages, and returns the last.
func (w *whole) arrived(t *testing.T, c *imapclient.Client, mailbox string, n int) string {
	t.Helper()
	var all []message
	peertest.Eventually(t, 20*time.Second, func() error {
		if all = messages(t, c, mailbox); len(all) < n {
			return fmt.Errorf("%d messages in %s, not %d", len(all), mailbox, n)
		}
		return nil
	})
	return all[n-1].text
}

// notification is a delivery status notification (RFC 3464) of one recipient,
// read by Go's library.
type notification struct {
	header netmail.Header
	// message and recipient are the fields of the two blocks.
	message, recipient textproto.MIMEHeader
	// original is the message that it is about, or its header.
	original string
}

func parseNotification(t *testing.T, text string) (n notification) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
	m, err := netmail.ReadMessage(strings.NewReader(text))
	must(err)
	n.header = m.Header
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	must(err)
	if kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("no notification, but %s:\n%s", kind, text)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for i := range 3 {
		part, err := parts.NextPart()
		must(err)
		body, err := io.ReadAll(part)
		must(err)
		switch i {
		case 1:
			r := textproto.NewReader(bufio.NewReader(strings.NewReader(string(body) + "\r\n\r\n")))
			n.message, err = r.ReadMIMEHeader()
			must(err)
			n.recipient, err = r.ReadMIMEHeader()
			must(err)
		case 2:
			n.original = string(body)
		}
	}
	return n
}
