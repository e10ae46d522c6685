package cmd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailsrv/pkg/peertest"
)

// TestPeerClients runs the programs that people have at hand against all doors,
// as the README tells them to.
func TestPeerClients(t *testing.T) {
	w := newWhole(t)
	w.start(allRoles, nil)
	w.mailsrv("domain", "add", "example.test")
	x := &clientsTest{whole: w}
	x.alice, x.bob = w.user("alice@example.test"), w.user("bob@example.test")
	t.Run("curl", x.curl)
	t.Run("swaks", x.swaks)
	t.Run("msmtp", x.msmtp)
	t.Run("python3", x.python)
	t.Run("fetchmail", x.fetchmail)
	t.Run("openssl", x.openssl)
}

type clientsTest struct {
	*whole
	alice, bob string // passwords
	toBob      int    // how many messages have come to him
}

// came demands that one more message came to bob, and that it holds want.
func (x *clientsTest) came(t *testing.T, want string) {
	t.Helper()
	x.toBob++
	if text := x.arrived(t, x.dial(t, "bob", x.bob), "INBOX", x.toBob); !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}

func (x *clientsTest) message(subject string) string {
	return "From: alice@example.test\r\nTo: bob@example.test\r\nSubject: " + subject + "\r\n\r\n.\r\n" + subject + "\r\n"
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func (x *clientsTest) curl(t *testing.T) {
	curl := peertest.Program(t, "curl", "curl")
	run := func(stdin string, args ...string) string {
		t.Helper()
		return peertest.Client(t, stdin, curl, append([]string{"-sS", "--cacert", x.cert}, args...)...)
	}
	for url, tls := range map[string]string{"smtp://localhost:" + port(x.submission): "--ssl-reqd", "smtps://localhost:" + port(x.submissions): "--ssl"} {
		run(x.message("by "+url), tls, url, "--user", "alice:"+x.alice, "--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test", "--upload-file", "-")
		x.came(t, "\r\n\r\n.\r\nby "+url+"\r\n")
	}
	for url, tls := range map[string]string{"pop3://localhost:" + port(x.pop3): "--ssl-reqd", "pop3s://localhost:" + port(x.pop3s): "--ssl"} {
		as := []string{tls, "--user", "bob:" + x.bob}
		if out := run("", append(as, url)...); strings.Count(out, "\r\n") != x.toBob {
			t.Errorf("LIST:\n%s", out)
		}
		if out := run("", append(as, url+"/1")...); !strings.Contains(out, "\r\n\r\n.\r\nby smtp") {
			t.Errorf("RETR:\n%s", out)
		}
	}
	for url, tls := range map[string]string{"imap://localhost:" + port(x.imap): "--ssl-reqd", "imaps://localhost:" + port(x.imaps): "--ssl"} {
		as := []string{tls, "--user", "bob:" + x.bob}
		if out := run("", append(as, url+"/INBOX", "-X", "FETCH 1:* (FLAGS ENVELOPE)")...); strings.Count(out, " FETCH (") != x.toBob || !strings.Contains(out, `"by smtp://`) {
			t.Errorf("the list:\n%s", out)
		}
		if out := run("", append(as, url+"/INBOX;MAILINDEX=1")...); !strings.Contains(out, "\r\n\r\n.\r\nby smtp") {
			t.Errorf("the first message:\n%s", out)
		}
		run("", append(as, url+"/Drafts", "-T", x.file("draft", x.message("up")))...)
		if out := run("", append(as, url+"/Drafts?SUBJECT%20up")...); strings.TrimSpace(out) != "* SEARCH 1" {
			t.Errorf("the search: %q", out)
		}
		run("", append(as, url+"/Drafts", "-X", `STORE 1 +FLAGS (\Deleted)`, "--next", "-sS", "--cacert", x.cert, tls, "--user", "bob:"+x.bob, url+"/Drafts", "-X", "EXPUNGE")...)
		if out := run("", append(as, url+"/", "-X", "STATUS Drafts (MESSAGES)")...); !strings.Contains(out, "(MESSAGES 0)") {
			t.Errorf("after the deletion: %q", out)
		}
	}
}

func (x *clientsTest) swaks(t *testing.T) {
	swaks := peertest.Program(t, "swaks", "swaks")
	login := []string{"--auth-user", "alice", "--auth-password", x.alice}
	for name, args := range map[string][]string{
		"port 25":             {"--port", port(x.smtp), "--tls"},
		"submission, PLAIN":   append(login, "--port", port(x.submission), "--tls", "--auth", "PLAIN"),
		"submissions, LOGIN":  append(login, "--port", port(x.submissions), "--tls-on-connect", "--auth", "LOGIN"),
		"port 25, pipelining": {"--port", port(x.smtp), "--tls", "--pipeline"},
	} {
		peertest.Client(t, "", swaks, append(args, "--server", "localhost", "--tls-verify", "--tls-ca-path", x.cert, "--from", "alice@example.test", "--to", "bob@example.test", "--header", "Subject: "+name)...)
		x.came(t, "Subject: "+name)
	}
}

func (x *clientsTest) msmtp(t *testing.T) {
	msmtp := peertest.Program(t, "msmtp", "msmtp")
	for address, starttls := range map[string]string{x.submission: "on", x.submissions: "off"} {
		peertest.Client(t, strings.ReplaceAll(x.message("msmtp "+starttls), "\r\n", "\n"), msmtp, "--host=localhost", "--port="+port(address), "--tls=on", "--tls-starttls="+starttls,
			"--tls-trust-file="+x.cert, "--auth=plain", "--user=alice", "--passwordeval=echo "+x.alice, "--from=alice@example.test",
			"--dsn-notify=failure", "--", "bob@example.test")
		x.came(t, "\r\n\r\n.\r\nmsmtp "+starttls)
	}
}

func (x *clientsTest) python(t *testing.T) {
	script := x.file("clients.py", pythonScript)
	peertest.Client(t, "", peertest.Program(t, "python3", "python3"), script, x.cert, port(x.imap), port(x.imaps), port(x.pop3), port(x.pop3s), port(x.submission), port(x.submissions), x.alice, x.bob)
	x.toBob++ // of the two, one is taken away
}

const pythonScript = `
import email, imaplib, poplib, smtplib, ssl, sys
cert, imap, imaps, pop3, pop3s, submission, submissions, alice, bob = sys.argv[1:]
context = ssl.create_default_context(cafile=cert)
near, far = smtplib.SMTP("localhost", int(submission)), smtplib.SMTP_SSL("localhost", int(submissions), context=context)
near.starttls(context=context)
for n, s in enumerate((near, far)):
    s.login("alice", alice)
    m = email.message.EmailMessage()
    m["From"], m["To"], m["Subject"] = "alice@example.test", "bob@example.test", "python %d" % n
    m.set_content("grüße\n.\n")
    refused = s.send_message(m, to_addrs=["bob@example.test", "nobody@example.test"])
    assert refused["nobody@example.test"][0] == 550, refused
    s.quit()
near, far = imaplib.IMAP4("localhost", int(imap)), imaplib.IMAP4_SSL("localhost", int(imaps), ssl_context=context)
near.starttls(context)
near.login("bob", bob)
far.authenticate("PLAIN", lambda _: ("\0bob\0" + bob).encode())
def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]
for m in (near, far):
    ok(m.create("python"))
    ok(m.append("python", "(\\Flagged odd)", imaplib.Time2Internaldate(86400), b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nx\r\n"))
    ok(m.select("python"))
    assert ok(m.uid("SEARCH", "KEYWORD", "odd", "SENTSINCE", "1-Jan-2020")) == [b""]
    assert ok(m.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT", "gr\u00fc\u00dfe".encode())) == [b"1"]
    assert b"\\Flagged" in ok(m.fetch("1", "(FLAGS INTERNALDATE BODYSTRUCTURE)"))[0]
    ok(m.copy("1", "python"))
    ok(m.store("1", "+FLAGS", "\\Deleted"))
    assert ok(m.expunge()) == [b"1"]
    ok(m.close())
    ok(m.delete("python"))
    m.logout()
near, far = poplib.POP3("localhost", int(pop3)), poplib.POP3_SSL("localhost", int(pop3s), context=context)
near.stls(context)
counts = []
for n, m in enumerate((near, far)): # the first takes the last message away
    m.user("bob")
    m.pass_(bob)
    count, size = m.stat()
    assert (count, size) == (len(m.list()[1]), sum(int(l.split()[1]) for l in m.list()[1]))
    assert len(m.uidl()[1]) == count
    assert b"Subject: python %d" % (1 - n) in m.top(count, 0)[1], m.top(count, 0)
    text = m.retr(count)[1]
    assert sum(len(l) + 2 for l in text) == int(m.list(count).split()[2]), text
    if m is near:
        m.dele(count)
    m.quit()
    counts.append(count)
assert counts[0] == counts[1] + 1
`

// fetchmail takes bob's mail away, by IMAP and by POP3 with TLS.
func (x *clientsTest) fetchmail(t *testing.T) {
	fetchmail := peertest.Program(t, "fetchmail", "fetchmail")
	t.Setenv("FETCHMAILHOME", x.dir)
	for protocol, address := range map[string]string{"IMAP": x.imaps, "POP3": x.pop3s} {
		if err := x.deliver("bob@example.test"); err != nil {
			t.Fatal(err)
		}
		x.toBob++
		taken := filepath.Join(x.dir, protocol)
		config := x.file("fetchmailrc", fmt.Sprintf("poll localhost protocol %s port %s user bob password %q fetchall no keep ssl sslcertck sslcertfile %q mda \"cat >>%s\"\n",
			protocol, port(address), x.bob, x.cert, taken))
		peertest.Client(t, "", fetchmail, "-f", config, "--nodetach", "--nosyslog", "--pidfile", filepath.Join(x.dir, "fetchmail.pid"))
		mail, err := os.ReadFile(taken)
		if err != nil || strings.Count(string(mail), "Return-Path: ") != x.toBob || !strings.Contains(string(mail), "stranger@elsewhere.test") {
			t.Errorf("%s: %d of %d messages, %v", protocol, strings.Count(string(mail), "Return-Path: "), x.toBob, err)
		}
		if left := messages(t, x.dial(t, "bob", x.bob), "INBOX"); len(left) != 0 {
			t.Errorf("%s: %d messages are left", protocol, len(left))
		}
		x.toBob = 0
	}
}

// openssl looks at the TLS of each door, and demands a certificate that it can verify.
func (x *clientsTest) openssl(t *testing.T) {
	openssl := peertest.Program(t, "openssl", "openssl")
	for name, c := range map[string]struct {
		address, bye string
		args         []string
	}{
		"imap":        {x.imap, "a LOGOUT\n", []string{"-starttls", "imap"}},
		"imaps":       {x.imaps, "a LOGOUT\n", []string{"-alpn", "imap"}},
		"pop3":        {x.pop3, "QUIT\n", []string{"-starttls", "pop3"}},
		"pop3s":       {x.pop3s, "QUIT\n", []string{"-alpn", "pop3"}},
		"smtp":        {x.smtp, "QUIT\n", []string{"-starttls", "smtp"}},
		"submission":  {x.submission, "QUIT\n", []string{"-starttls", "smtp", "-tls1_2"}},
		"submissions": {x.submissions, "QUIT\n", nil},
	} {
		out := peertest.Client(t, c.bye, openssl, append(append([]string{"s_client"}, c.args...), "-connect", c.address, "-CAfile", x.cert, "-verify_return_error", "-verify_hostname", "localhost", "-crlf", "-ign_eof")...)
		if !strings.Contains(out, "Verify return code: 0 (ok)") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
	for _, old := range []string{"-tls1", "-tls1_1"} {
		cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", x.imaps, old, "-cipher", "ALL:@SECLEVEL=0")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "alert protocol version") {
			t.Errorf("%s: %v\n%s", old, err, out)
		}
	}
}
