package cmd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/peertest"
	"mailsrv/pkg/store"
)

// fleet is an installation with two stores: a process for each of them, one for
// the directory, and one for the MTA and the MMP.
type fleet struct {
	*install
	config  map[string]string
	running map[string]*process
	log     map[string]*os.File
	// imap, smtp are the doors of the MMP and of the MTA.
	imap, smtp string
	second     string // the IMAP door of another MMP, "second"
	password   string // everybody's
}

// storeNames are the mail hosts, and the names of the processes.
var storeNames = []string{"store1.example.test", "store2.example.test"}

// newFleet writes the configurations; more are further stores of the MMP, in
// YAML's flow style.
func newFleet(t *testing.T, more ...string) *fleet {
	t.Helper()
	f := &fleet{install: newInstall(t), config: map[string]string{}, running: map[string]*process{}, log: map[string]*os.File{}, password: "secret-of-all"}
	certs := filepath.Join(f.dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.cert, f.key, err = listen.SelfSigned(certs, append([]string{"localhost", "127.0.0.1"}, storeNames...)...); err != nil {
		t.Fatal(err)
	}
	client, key := f.clientCertificate("mmp.example.test")
	p := ports(t, 10)
	at := func(n int) string { return fmt.Sprintf("127.0.0.1:%d", p[n]) }
	f.imap, f.smtp = at(7), at(8)
	service, proxy := f.file("service.secret", "service-password\n"), f.file("proxy.secret", "proxy-password\n")
	directory := fmt.Sprintf("directory: {default_domain: example.test, url: [\"ldap://%s\"], starttls: true, ca: %s, bind_dn: \"cn=service,o=mail\", bind_password_file: %s}\n", at(0), f.cert, service)
	var imapStores, lmtpStores []string
	for i, name := range storeNames {
		f.config[name] = f.file(name+".yaml", strings.Replace(f.common(name, "store"), "hostname: localhost", "hostname: "+name, 1)+directory+
			fmt.Sprintf("store: {imap: {listen: [%q]}, pop3: {listen: [%q]}, lmtp: {listen: [%q]}, proxies: [{name: mmp, secret_file: %s, networks: [127.0.0.0/8], certificate: mmp.example.test}], proxy_ca: %s}\n",
				at(1+3*i), at(2+3*i), at(3+3*i), proxy, client))
		imapStores = append(imapStores, fmt.Sprintf("{host: %s, address: %q, pop3_address: %q, tls: starttls, ca: %s, client_cert: %s, client_key: %s, proxy_name: mmp, secret_file: %s}", name, at(1+3*i), at(2+3*i), f.cert, client, key, proxy))
		lmtpStores = append(lmtpStores, fmt.Sprintf("{host: %s, address: %q, tls: starttls, ca: %s}", name, at(3+3*i), f.cert))
	}
	mmp := fmt.Sprintf("mmp: {imap: {listen: [], listen_tls: [%q]}, pop3: {listen: [], listen_tls: []}, stores: [%s]}\n", f.imap, strings.Join(append(imapStores, more...), ", "))
	f.config["directory"] = f.file("directory.yaml", f.common("directory", "directory")+
		fmt.Sprintf("directory: {default_domain: example.test, listen: {ldap: [%q]}, services: [{dn: \"cn=service,o=mail\", password_file: %s}]}\n", at(0), service)+mmp)
	f.config["front"] = f.file("front.yaml", f.common("front", "mta, mmp")+directory+mmp+"limits: {smtp: {per_minute: 0}, mailbox: {per_minute: 0}}\n"+
		fmt.Sprintf("mta: {smtp: {listen: [%q]}, submission: {listen: []}, submissions: {listen: []}, dns: \"127.0.0.1:1\", queue: {retry: [200ms]}, checks: {rate: {stranger_minute: 0}}, stores: [%s]}\n",
			f.smtp, strings.Join(lmtpStores, ", ")))
	f.second = strings.Replace(mmp, f.imap, "%s", 1)
	f.config["second"] = f.file("second.yaml", f.common("second", "mmp")+directory+fmt.Sprintf(f.second, at(9))+"limits: {mailbox: {per_minute: 0}}\n")
	f.second = at(9)
	return f
}

// clientCertificate makes one, signed by itself, that a client shows.
func (f *fleet) clientCertificate(name string) (cert, key string) {
	f.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		f.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.file("client.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		f.file("client.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// fleetOrder is an order to start them in.
func fleetOrder() []string { return append([]string{"directory"}, append(storeNames, "front")...) }

func (f *fleet) up(names ...string) {
	f.t.Helper()
	for _, name := range names {
		if f.log[name] == nil {
			file, err := os.OpenFile(filepath.Join(f.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				f.t.Fatal(err)
			}
			f.log[name] = file
			f.t.Cleanup(func() {
				if p := f.running[name]; p != nil {
					if err := p.end(syscall.SIGTERM); err != nil {
						f.t.Errorf("stopping %s: %v", name, err)
					}
				}
				file.Close()
				if text, err := os.ReadFile(file.Name()); f.t.Failed() && err == nil {
					f.t.Logf("log of %s:\n%s", name, text[max(0, len(text)-20_000):])
				}
			})
		}
		p, err := launch(f.config[name], f.log[name])
		if err != nil {
			f.t.Fatal(err)
		}
		f.running[name] = p
	}
}

func (f *fleet) kill(name string) {
	f.t.Helper()
	if err := f.running[name].end(syscall.SIGKILL); err != nil {
		f.t.Fatal(err)
	}
	delete(f.running, name)
}

// admin runs a command on the directory's host.
func (f *fleet) admin(args ...string) string {
	f.t.Helper()
	return f.run(append(args, "--config", f.config["directory"])...)
}

// try is admin that may fail.
func (f *fleet) try(args ...string) (string, error) {
	out, err := f.command(append(args, "--config", f.config["directory"])...).CombinedOutput()
	return string(out), err
}

func (f *fleet) user(login string) {
	f.t.Helper()
	c := f.command("user", "add", login, "--password-stdin", "--config", f.config["directory"])
	c.Stdin = strings.NewReader(f.password + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
}

// dial logs in through the MMP.
func (f *fleet) dial(login string) (*imapclient.Client, error) { return f.dialAt(f.imap, login) }

// dialAt is dial through one of the MMPs.
func (f *fleet) dialAt(address, login string) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(address, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: f.roots(), ServerName: "localhost"}})
	if err != nil {
		return nil, err
	}
	if err := c.Login(login, f.password).Wait(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (f *fleet) mustDial(t *testing.T, login string) *imapclient.Client {
	t.Helper()
	c, err := f.dial(login)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// holds is each store's hold of an account; "none" where there is no account.
func (f *fleet) holds(t *testing.T, account string) (holds []string) {
	t.Helper()
	for _, name := range storeNames {
		c, err := config.Load(f.config[name])
		if err != nil {
			t.Fatal(err)
		}
		carrier, err := daemon.Carrier(c, name)
		if err != nil {
			t.Fatal(err)
		}
		census, err := carrier.Census(context.Background(), account, false)
		switch {
		case errors.Is(err, store.ErrNoAccount):
			holds = append(holds, "none")
		case err != nil:
			t.Fatal(err)
		case census.Hold == store.HoldNone:
			holds = append(holds, "open")
		default:
			holds = append(holds, string(census.Hold))
		}
	}
	return holds
}

// mailHost is what the directory says.
func (f *fleet) mailHost(login string) (host, status string) {
	f.t.Helper()
	for line := range strings.Lines(f.admin("user", "show", login)) {
		switch word := strings.Fields(line); {
		case len(word) == 2 && word[0] == "mailhost":
			host = word[1]
		case len(word) == 2 && word[0] == "status":
			status = word[1]
		}
	}
	return host, status
}

// post sends a message by SMTP; nil: it was acknowledged.
func (f *fleet) post(to, id string) error {
	conn, err := net.DialTimeout("tcp", f.smtp, 5*time.Second)
	if err != nil {
		return err
	}
	return sendPlain(conn, to, fmt.Sprintf("From: x@elsewhere.test\r\nMessage-ID: <%s@test>\r\nSubject: %s\r\n\r\nText of %s\r\n", id, id, id))
}

// TestMove moves users between two stores of ours, and back.
func TestMove(t *testing.T) {
	f := newFleet(t)
	f.up(fleetOrder()...)
	one, two := storeNames[0], storeNames[1]
	f.admin("domain", "add", "example.test", "--mailhost", one)
	for _, u := range []string{"alice", "bob", "carol"} {
		f.user(u + "@example.test")
	}
	const alice = "alice@example.test"
	c := f.mustDial(t, alice)
	for i := range 5 {
		add(t, c, "INBOX", fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat("text\r\n", 1+i*20_000)), imap.FlagFlagged, "$Work")
	}
	before := messages(t, c, "INBOX")
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}

	t.Run("dry run", func(t *testing.T) {
		out := f.admin("user", "move", alice, "--to", two, "--dry-run")
		if !strings.Contains(out, "would move from "+one+" to "+two+": 5 messages in 6 mailboxes") {
			t.Error(out)
		}
		if host, status := f.mailHost(alice); host != one || status != "active" {
			t.Errorf("the dry run did something: %s %s", host, status)
		}
	})
	t.Run("without the proxy's certificate", func(t *testing.T) {
		text, err := os.ReadFile(f.config["directory"])
		if err != nil {
			t.Fatal(err)
		}
		bare := f.file("bare.yaml", regexp.MustCompile(` client_cert: [^ ]*, client_key: [^ ]*,`).ReplaceAllString(string(text), ""))
		out, err := f.command("user", "move", alice, "--to", two, "--dry-run", "--config", bare).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "AUTHENTICATIONFAILED") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("there", func(t *testing.T) {
		out := f.admin("user", "move", alice, "--to", two)
		if !strings.Contains(out, "moved from "+one+" to "+two+": 5 messages in 6 mailboxes") || !strings.Contains(out, "keeps a copy until") {
			t.Error(out)
		}
		select {
		case <-c.Closed(): // one BYE
		case <-time.After(10 * time.Second):
			t.Error("a session goes on at the old store")
		}
		if host, status := f.mailHost(alice); host != two || status != "active" {
			t.Errorf("mail host %s, status %s", host, status)
		}
		if holds := f.holds(t, alice); holds[0] != "sealed" || holds[1] != "open" {
			t.Errorf("the stores say %q", holds)
		}
		c := f.mustDial(t, alice)
		if after := messages(t, c, "INBOX"); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Error("messages differ")
		}
		if now, err := c.Select("INBOX", nil).Wait(); err != nil || now.UIDValidity != selected.UIDValidity || now.UIDNext != selected.UIDNext {
			t.Errorf("%+v became %+v: %v", selected, now, err)
		}
		if err := f.post(alice, "after"); err != nil {
			t.Fatal(err)
		}
		peertest.Eventually(t, 10*time.Second, func() error {
			if n := len(messages(t, c, "INBOX")); n != 6 {
				return fmt.Errorf("%d messages", n)
			}
			return nil
		})
		if out, err := f.try("user", "move", alice, "--to", two); err == nil || !strings.Contains(out, "is there already") {
			t.Errorf("moving again: %v %s", err, out)
		}
	})
	t.Run("resumed, with mail held meanwhile", func(t *testing.T) {
		f.kill(one) // which alice is to come back to
		if out, err := f.try("user", "move", alice, "--to", one); err == nil {
			t.Error(out)
		}
		if _, status := f.mailHost(alice); status != "active" {
			t.Errorf("a store that cannot be reached is seen before anybody is on hold; status %s", status)
		}
		f.up(one)
		f.interrupted(t, "copying", alice, one)
		if out := f.admin("user", "moves"); !strings.Contains(out, alice) || !strings.Contains(out, "copying") {
			t.Error(out)
		}
		if err := f.post(alice, "held"); err != nil {
			t.Errorf("mail to a mailbox that moves: %v", err)
		}
		if _, err := f.dial(alice); err == nil {
			t.Error("somebody logs in to a mailbox that moves")
		}
		if out, err := f.try("user", "move", alice, "--to", "store3.example.test"); err == nil || !strings.Contains(out, "another move is not finished") {
			t.Errorf("%v %s", err, out)
		}
		f.admin("user", "move", alice, "--to", one)
		c := f.mustDial(t, alice)
		peertest.Eventually(t, 20*time.Second, func() error {
			if n := len(messages(t, c, "INBOX")); n != 7 {
				return fmt.Errorf("%d messages", n)
			}
			return nil
		})
		if after := messages(t, c, "INBOX"); fmt.Sprint(after[:5]) != fmt.Sprint(before) {
			t.Error("messages differ")
		}
		if holds := f.holds(t, alice); holds[0] != "open" || holds[1] != "sealed" {
			t.Errorf("the stores say %q", holds)
		}
	})
	t.Run("undone", func(t *testing.T) {
		f.interrupted(t, "changing the mail host", alice, two)
		f.admin("user", "move", alice, "--undo")
		if host, status := f.mailHost(alice); host != one || status != "active" {
			t.Errorf("mail host %s, status %s", host, status)
		}
		if holds := f.holds(t, alice); holds[0] != "open" || holds[1] == "open" {
			t.Errorf("the stores say %q", holds)
		}
		if n := len(messages(t, f.mustDial(t, alice), "INBOX")); n != 7 {
			t.Errorf("%d messages", n)
		}
		f.admin("user", "move", alice, "--to", two)
		f.admin("user", "move", alice, "--undo")
		if host, _ := f.mailHost(alice); host != one {
			t.Errorf("mail host %s", host)
		}
	})
	t.Run("over mail that an old backup brought back", func(t *testing.T) {
		f.admin("user", "set", "carol@example.test", "mailhost="+two)
		add(t, f.mustDial(t, "carol@example.test"), "INBOX", "Subject: stray\r\n\r\n")
		f.admin("user", "set", "carol@example.test", "mailhost="+one)
		add(t, f.mustDial(t, "carol@example.test"), "INBOX", "Subject: hers\r\n\r\n")
		if out, err := f.try("user", "move", "carol@example.test", "--to", two); err == nil || !strings.Contains(out, "--replace") {
			t.Errorf("%v %s", err, out)
		}
		if _, status := f.mailHost("carol@example.test"); status != "active" {
			t.Errorf("status %s", status)
		}
		f.admin("user", "move", "carol@example.test", "--to", two, "--replace")
		if got := messages(t, f.mustDial(t, "carol@example.test"), "INBOX"); len(got) != 1 || subjectOf(got[0].text) != "hers" {
			t.Errorf("%d messages", len(got))
		}
		f.admin("user", "move", "carol@example.test", "--to", one)
	})
	t.Run("drain", func(t *testing.T) {
		if out := f.admin("store", "drain", one, "--to", two, "--dry-run"); strings.Count(out, "would move") != 3 {
			t.Error(out)
		}
		if out := f.admin("store", "drain", one, "--to", two); !strings.Contains(out, "3 users moved off "+one) {
			t.Error(out)
		}
		for _, u := range []string{"alice", "bob", "carol"} {
			if host, _ := f.mailHost(u + "@example.test"); host != two {
				t.Errorf("%s is at %s", u, host)
			}
			f.mustDial(t, u+"@example.test")
		}
		if err := f.post("bob@example.test", "bob's first"); err != nil {
			t.Error(err)
		}
	})
}

// interrupted moves until a step begins, and goes no further.
func (f *fleet) interrupted(t *testing.T, step, login, to string) {
	t.Helper()
	c, err := config.Load(f.config["directory"])
	if err != nil {
		t.Fatal(err)
	}
	p, done, err := openProvisioner(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	o := moveOptions{keep: time.Hour}
	m := o.mover(c, p)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m.Progress = func(now string, _, _ int64) {
		if now == step {
			cancel()
		}
	}
	if _, err := m.Move(ctx, login, to); err == nil {
		t.Fatalf("the move was not interrupted at %q", step)
	}
}

// sendPlain speaks SMTP up to the answer to DATA.
func sendPlain(conn net.Conn, to, text string) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	if err := c.Mail("x@elsewhere.test"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return w.Close()
}
