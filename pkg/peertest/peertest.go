// Package peertest runs other people's programs for tests: clients that speak
// to our doors, and servers (Dovecot, Postfix, OpenLDAP's slapd) in the place
// of one of our roles.
//
// Where a program is missing the test is skipped, and says which Debian package
// brings it. With MAILSRV_PEERS=1 in the environment, as CI has it, the test
// fails instead, so that nothing is skipped unseen.
//
// Each server is a private instance: its files lie in a folder of its own, it
// listens on an address of its own in 127.0.0.0/8, so every port is free there,
// and it ends with the test.
package peertest

import (
	"fmt"
	"math/rand/v2"
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

// Program returns the path of a program, which the Debian package brings.
func Program(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/lib/postfix/sbin"} { // not in every PATH
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	missing(t, "%s is not installed (Debian's package %s)", name, debian)
	return ""
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}

// Missing is for what Program cannot see, such as the module of a language: it ends
// the test as a missing program does.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	missing(t, format, args...)
}

// missing skips the test, or ends it where peers are demanded.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("MAILSRV_PEERS") != "" {
		t.Fatalf("MAILSRV_PEERS is set, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// needRoot is for servers that drop their rights themselves.
func needRoot(t testing.TB, name string) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "%s must be started by root", name)
	}
}

// Folder makes one that every user may enter, with a short path (that of a
// socket has 108 octets at most). It is removed after the test.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// Host returns a loopback address that is the caller's alone.
func Host(t testing.TB) string {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		missing(t, "this system's loopback is a single address: %v", err)
	}
	must(t, ln.Close())
	return host
}

// Client runs a program to its end, with stdin as its input, and returns what
// it printed; any other exit than 0 ends the test.
func Client(t testing.TB, stdin, path string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Eventually waits until what holds is nil; the test ends with its last error
// after the limit.
func Eventually(t testing.TB, limit time.Duration, holds func() error) {
	t.Helper()
	err := holds()
	for deadline := time.Now().Add(limit); err != nil; err = holds() {
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// certificate makes one for those names and addresses in dir.
func certificate(t testing.TB, dir string, hosts ...string) (cert, key string) {
	t.Helper()
	cert, key, err := listen.SelfSigned(dir, hosts...)
	must(t, err)
	return cert, key
}

// daemon is a server that runs in the foreground, in a process group of its own.
type daemon struct {
	cmd    *exec.Cmd
	dir    string // holds what it prints, and its file "log"
	exited chan struct{}
	err    error // once exited is closed
}

// start runs a server and waits until it answers at all addresses. It is
// stopped after the test.
func start(t testing.TB, dir string, addresses []string, path string, args ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.Command(path, args...), dir: dir, exited: make(chan struct{})}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.OpenFile(filepath.Join(dir, "out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer out.Close()
	d.cmd.Stdout, d.cmd.Stderr = out, out
	must(t, d.cmd.Start())
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), d.messages())
		}
	})
	for _, a := range addresses {
		d.answers(t, a)
	}
	return d
}

func (d *daemon) answers(t testing.TB, address string) {
	t.Helper()
	Eventually(t, 20*time.Second, func() error {
		select {
		case <-d.exited:
			t.Fatalf("%s ended: %v\n%s", d.cmd.Path, d.err, d.messages())
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// stop ends the server and all that it started.
func (d *daemon) stop(t testing.TB) {
	select {
	case <-d.exited:
		return
	default:
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(20 * time.Second):
		t.Errorf("%s is still there 20 s after SIGTERM", d.cmd.Path)
	}
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // stragglers of its group
	<-d.exited
}

// messages is what the server printed and wrote down so far.
func (d *daemon) messages() string {
	var all []byte
	for _, name := range []string{"out", "log"} {
		text, _ := os.ReadFile(filepath.Join(d.dir, name)) // there is none before the first message
		all = append(all, text...)
	}
	return string(all)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), mode))
	return path
}
