package cmd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// The tests in peer_*_test.go run the whole product against other people's
// programs, one file each; pkg/peertest finds and runs these.

// whole is an installation with all its doors in one process.
type whole struct {
	*install
	config string
	// Addresses, host:port.
	imap, imaps, smtp, submission, submissions string
}

// serveWhole starts the roles with further settings of each section, in YAML's
// flow style, and waits until they are ready.
func (i *install) serveWhole(roles string, sections map[string]string) *whole {
	i.t.Helper()
	w := &whole{install: i}
	p := ports(i.t, 5)
	address := func(n int) string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(p[n])) }
	w.imap, w.imaps, w.smtp, w.submission, w.submissions = address(0), address(1), address(2), address(3), address(4)
	text := w.common("all", roles) + fmt.Sprintf("directory: {default_domain: example.test, %s}\n", sections["directory"]) +
		fmt.Sprintf("mmp: {imap: {listen: [%q], listen_tls: [%q]}, %s}\n", w.imap, w.imaps, sections["mmp"]) +
		fmt.Sprintf("mta: {smtp: {listen: [%q]}, submission: {listen: [%q]}, submissions: {listen: [%q]}, %s}\n", w.smtp, w.submission, w.submissions, sections["mta"])
	w.config = w.file("all.yaml", text)
	w.serve(w.config)
	return w
}

// allRoles are those of serveWhole without a foreign server.
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
func (w *whole) dial(login, password string) *imapclient.Client {
	w.t.Helper()
	return w.dialWith(login, password, nil)
}

// dialWith is dial for who wants to hear what the server says unasked.
func (w *whole) dialWith(login, password string, unilateral *imapclient.UnilateralDataHandler) *imapclient.Client {
	w.t.Helper()
	c := w.connect(nil, unilateral)
	if err := c.Login(login, password).Wait(); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// connect is a client that has not logged in, from a loopback address of its
// own unless that is nil.
func (w *whole) connect(from net.Addr, unilateral *imapclient.UnilateralDataHandler) *imapclient.Client {
	w.t.Helper()
	c, err := imapclient.DialTLS(w.imaps, &imapclient.Options{
		TLSConfig: &tls.Config{RootCAs: w.roots(), ServerName: "localhost"}, Dialer: &net.Dialer{LocalAddr: from}, UnilateralDataHandler: unilateral,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
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
	if _, err := c.Select(mailbox, nil).Wait(); err != nil {
		t.Fatal(err)
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
func (w *whole) roots() *x509.CertPool {
	w.t.Helper()
	pem, err := os.ReadFile(w.cert)
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}
