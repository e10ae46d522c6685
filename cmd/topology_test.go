package cmd

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsrv/pkg/listen"
)

// TestMain lets the test binary be mailsrv itself, for the tests that need
// processes.
func TestMain(m *testing.M) {
	if os.Getenv("MAILSRV_TEST_MAIN") != "" {
		os.Exit(Execute())
	}
	os.Exit(m.Run())
}

// install is an installation in a folder: its files, and its processes.
type install struct {
	t         *testing.T
	dir       string
	cert, key string
}

func newInstall(t *testing.T) *install {
	t.Helper()
	dir, err := os.MkdirTemp("", "ms") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cert, key, err := listen.SelfSigned(dir, "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return &install{t: t, dir: dir, cert: cert, key: key}
}

func (i *install) file(name, text string) string {
	i.t.Helper()
	path := filepath.Join(i.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
	return path
}

func (i *install) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(context.Background(), os.Args[0], args...)
	c.Env = append(os.Environ(), "MAILSRV_TEST_MAIN=1")
	return c
}

// serve starts a process and waits until it is ready. The returned function
// ends it by the signal and waits.
func (i *install) serve(config string) func(syscall.Signal) {
	i.t.Helper()
	c := i.command("serve", "--config", config)
	log := &strings.Builder{}
	c.Stderr = log
	out, err := c.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		i.t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		// The table of doors is printed once all of them are open.
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
	case <-ended:
		_ = c.Wait()
		i.t.Fatalf("%s ended:\n%s", config, log)
	case <-time.After(20 * time.Second):
		c.Process.Kill()
		i.t.Fatalf("%s did not start:\n%s", config, log)
	}
	stopped := false
	stop := func(s syscall.Signal) {
		if stopped {
			return
		}
		stopped = true
		_ = c.Process.Signal(s)
		err := c.Wait()
		if s == syscall.SIGTERM && err != nil {
			i.t.Errorf("stopping %s: %v\n%s", config, err, log)
		}
		if i.t.Failed() {
			i.t.Logf("%s:\n%s", config, log)
		}
	}
	i.t.Cleanup(func() { stop(syscall.SIGTERM) })
	return stop
}

// run runs a command to its end.
func (i *install) run(args ...string) string {
	i.t.Helper()
	out, err := i.command(args...).CombinedOutput()
	if err != nil {
		i.t.Fatalf("mailsrv %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ports returns n free ports of loopback, from below the range that the system
// gives to whoever asks for any: no other test can take one meanwhile.
func ports(t *testing.T, n int) []any {
	t.Helper()
	var list []any
	for p := 21000 + os.Getpid()%9000; len(list) < n; p++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			continue
		}
		defer ln.Close()
		list = append(list, p)
	}
	return list
}

func (i *install) common(name, roles string) string {
	data := filepath.Join(i.dir, name)
	return fmt.Sprintf("hostname: localhost\nroles: [%s]\ndata: %s\ngrace: 2s\ntls: {cert: %s, key: %s}\nadmin: {listen: []}\n", roles, data, i.cert, i.key)
}

// TestJoined runs the three use cases with all roles in one process, and again
// after that process was killed.
func TestJoined(t *testing.T) {
	i := newInstall(t)
	p := ports(t, 5)
	config := i.file("all.yaml", i.common("all", "directory, store, mta, mmp")+fmt.Sprintf(`
directory: {default_domain: example.test}
mmp: {imap: {listen: ["127.0.0.1:%d"], listen_tls: []}, pop3: {listen: ["127.0.0.1:%d"], listen_tls: []}}
mta: {smtp: {listen: ["127.0.0.1:%d"]}, submission: {listen: ["127.0.0.1:%d"]}, submissions: {listen: ["127.0.0.1:%d"]}}
`, p...))
	stop := i.serve(config)
	i.run("domain", "add", "example.test", "--config", config)
	i.useCases(config)
	stop(syscall.SIGKILL)
	i.serve(config)
	i.useCases(config)
	i.pop3(config, p[1])
}

// TestSplit runs them with one process for each role, over LDAP, LMTP, IMAP
// and SMTP with TLS.
func TestSplit(t *testing.T) {
	i := newInstall(t)
	p := ports(t, 9)
	ldap, imap, lmtp, front := p[0], p[1], p[2], p[3]
	service, proxy := i.file("service.secret", "service-password\n"), i.file("proxy.secret", "proxy-password\n")
	remote := fmt.Sprintf("directory: {default_domain: example.test, url: [\"ldap://localhost:%d\"], starttls: true, ca: %s, bind_dn: \"cn=service,o=mail\", bind_password_file: %s}\n", ldap, i.cert, service)
	dir := i.file("directory.yaml", i.common("directory", "directory")+fmt.Sprintf(
		"directory: {default_domain: example.test, listen: {ldap: [\"127.0.0.1:%d\"]}, services: [{dn: \"cn=service,o=mail\", password_file: %s}]}\nmmp: {imap: {listen: [\"127.0.0.1:%d\"]}}\nmta: {submission: {listen: [\"127.0.0.1:%d\"]}}\n", ldap, service, front, p[5]))
	store := i.file("store.yaml", i.common("store", "store")+remote+fmt.Sprintf(
		"store: {imap: {listen: [\"127.0.0.1:%d\"]}, pop3: {listen: [\"127.0.0.1:%d\"]}, lmtp: {listen: [\"127.0.0.1:%d\"]}, proxies: [{name: mmp, secret_file: %s, networks: [127.0.0.0/8]}]}\n", imap, p[7], lmtp, proxy))
	mta := i.file("mta.yaml", i.common("mta", "mta")+remote+fmt.Sprintf(
		"mta: {smtp: {listen: [\"127.0.0.1:%d\"]}, submission: {listen: [\"127.0.0.1:%d\"]}, submissions: {listen: [\"127.0.0.1:%d\"]}, stores: [{host: localhost, address: \"127.0.0.1:%d\", tls: starttls, ca: %s}]}\n", p[4], p[5], p[6], lmtp, i.cert))
	mmp := i.file("mmp.yaml", i.common("mmp", "mmp")+remote+fmt.Sprintf(
		"mmp: {imap: {listen: [\"127.0.0.1:%d\"], listen_tls: []}, pop3: {listen: [\"127.0.0.1:%d\"], listen_tls: []}, stores: [{host: localhost, address: \"127.0.0.1:%d\", pop3_address: \"127.0.0.1:%d\", tls: starttls, ca: %s, proxy_name: mmp, secret_file: %s}]}\n", front, p[8], imap, p[7], i.cert, proxy))
	for _, config := range []string{dir, store, mta, mmp} {
		i.serve(config)
	}
	i.run("domain", "add", "example.test", "--config", dir)
	i.useCases(dir)
	i.pop3(dir, p[8])
}

// pop3 logs a new user in by POP3 with STLS.
func (i *install) pop3(config string, port any) {
	i.t.Helper()
	add := i.command("user", "add", "pop@example.test", "--password-stdin", "--config", config)
	add.Stdin = strings.NewReader("secret\n")
	if out, err := add.CombinedOutput(); err != nil {
		i.t.Fatalf("adding a user: %v\n%s", err, out)
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		i.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	lines := bufio.NewReader(conn)
	for _, step := range []struct{ send, want string }{
		{"", "+OK [XCLIENT] localhost ready"}, {"STLS\r\n", "+OK begin TLS"}, {"USER pop@example.test\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", "+OK send the password"},
		{"", "+OK 0 messages (0 octets)"}, {"", "+OK 0 0"}, {"", "+OK bye"},
	} {
		if _, err := io.WriteString(conn, step.send); err != nil {
			i.t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil || strings.TrimRight(line, "\r\n") != step.want {
			i.t.Fatalf("after %q: %q %v, want %q", step.send, line, err, step.want)
		}
		if step.send == "STLS\r\n" {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			lines = bufio.NewReader(conn)
		}
	}
}

// useCases runs mailsrv check, and looks that it left nothing behind.
func (i *install) useCases(config string) {
	i.t.Helper()
	out := i.run("check", "--config", config)
	if n := strings.Count(out, " ok "); n != 9 {
		i.t.Errorf("%d steps passed, want 9:\n%s", n, out)
	}
	i.t.Log("\n" + out)
	if list := i.run("user", "list", "--config", config); strings.Contains(list, "check-") {
		i.t.Errorf("the check left users behind:\n%s", list)
	}
}

// TestStartRefused looks at what an admin sees when a start cannot succeed.
func TestStartRefused(t *testing.T) {
	i := newInstall(t)
	p := ports(t, 2)
	text := i.common("data", "directory") + fmt.Sprintf("directory: {listen: {ldap: [\"127.0.0.1:%d\"]}}\n", p[0])
	i.serve(i.file("a.yaml", text))
	for name, c := range map[string]struct{ text, want string }{
		"locked data": {strings.Replace(text, fmt.Sprint(p[0]), fmt.Sprint(p[1]), 1), "in use by another process"},
		"taken port":  {strings.Replace(text, "/data\n", "/other\n", 1), "taken by another program"},
		"unknown key": {text + "bogus: 1\n", `unknown field "bogus"`},
	} {
		out, err := i.command("serve", "--config", i.file("b.yaml", c.text)).CombinedOutput()
		code := 0
		if e, ok := err.(*exec.ExitError); ok {
			code = e.ExitCode()
		}
		last := strings.TrimSpace(string(out))
		last = last[strings.LastIndexByte(last, '\n')+1:]
		if code != 1 || !strings.Contains(last, c.want) {
			t.Errorf("%s: exit %d, %q; want 1 and %q", name, code, last, c.want)
		}
	}
}
