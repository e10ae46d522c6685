package smtpserver

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailsrv/pkg/peertest"
)

// TestPeerGoSMTP speaks with emersion's client, TLS and login included.
func TestPeerGoSMTP(t *testing.T) {
	pair := testTLS(t)
	in := &intake{}
	c, err := smtp.DialStartTLS(start(t, Options{Intake: in, TLS: pair.server, Submission: true, Authenticator: logins{}}), pair.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "alice", "wrong")); err == nil {
		t.Fatal("a wrong password was accepted")
	}
	if err := c.Auth(sasl.NewPlainClient("", "alice", "secret")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		text := "Subject: x\r\n\r\n.\r\n..\r\nbody\r\n"
		if err := c.SendMail("alice@us.test", []string{"a@us.test", "far@away.test"}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if got := in.all()[0]; got.Text != text || len(got.To) != 2 || got.Login != "alice@us.test" {
			t.Errorf("taken: %+v", got)
		}
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
}

// TestPeerPrograms speaks with the clients that are installed here; swaks in
// plaintext, for which loopback is enough.
func TestPeerPrograms(t *testing.T) {
	in := &intake{}
	host, port, _ := net.SplitHostPort(start(t, Options{Intake: in, TLS: testTLS(t).server, Submission: true, Authenticator: logins{}}))
	text := "From: alice@us.test\r\nSubject: x\r\n\r\n.\r\nbody\r\n"
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "\r\n", "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	const script = `
import smtplib, ssl, sys
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
s = smtplib.SMTP(sys.argv[1], int(sys.argv[2])); s.starttls(context=c); s.login("alice", "secret")
refused = s.sendmail("alice@us.test", ["a@us.test", "x%y@us.test"], open(sys.argv[3]).read())
assert list(refused) == ["x%y@us.test"], refused
s.quit()`
	programs := []struct {
		name string
		args []string
	}{
		{"swaks", []string{"--silent", "2", "--server", host, "--port", port, "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "secret",
			"--from", "alice@us.test", "--to", "a@us.test", "--data", "@" + file}},
		{"msmtp", []string{"--host=" + host, "--port=" + port, "--tls=on", "--tls-certcheck=off", "--auth=login", "--user=alice", "--passwordeval=echo secret",
			"--from=alice@us.test", "a@us.test"}},
		{"python3", []string{"-c", script, host, port, file}},
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			path := peertest.Program(t, p.name, p.name)
			before := len(in.all())
			cmd := exec.CommandContext(t.Context(), path, p.args...)
			cmd.Stdin = bytes.NewReader([]byte(strings.ReplaceAll(text, "\r\n", "\n")))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := in.all()
			if len(got) != before+1 || !strings.Contains(got[before].Text, "\r\n\r\n.\r\nbody\r\n") || got[before].Login == "" {
				t.Errorf("taken: %+v", got[before:])
			}
		})
	}
}
