package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"mailsrv/pkg/listen"
)

// TestMain lets the test binary be mailsrv itself, for the tests that need
// processes: it is found under that name in PATH.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mailsrv": func() { os.Exit(Execute()) }})
}

// install is an installation in a folder: its files, and its processes.
type install struct {
	t         testing.TB
	dir       string
	cert, key string
}

func newInstall(t testing.TB) *install {
	t.Helper()
	dir, err := os.MkdirTemp("", "ms") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cert, key, err := listen.SelfSigned(dir, "localhost", "127.0.0.1", loopback())
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
	return exec.CommandContext(context.Background(), "mailsrv", args...)
}

// process is a running mailsrv serve.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when err holds how it ended
	err    error
}

// launch starts mailsrv serve and waits until all its doors are open.
func launch(config string, log io.Writer) (*process, error) {
	p := &process{cmd: exec.CommandContext(context.Background(), "mailsrv", "serve", "--config", config), exited: make(chan struct{})}
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		// The table of doors is printed once all of them are open.
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				close(ready)
			}
		}
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	select {
	case <-ready:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("serving %s: %w", config, p.err)
	case <-time.After(20 * time.Second):
		return nil, errors.Join(fmt.Errorf("serving %s: not ready after 20 s", config), p.end(syscall.SIGKILL))
	}
}

// end ends the process by a signal and waits. A clean stop that does not exit
// with 0 is an error.
func (p *process) end(s syscall.Signal) error {
	_ = p.cmd.Process.Signal(s)
	<-p.exited
	if s == syscall.SIGTERM {
		return p.err
	}
	return nil
}

// serve starts a process that is stopped after the test.
func (i *install) serve(config string) {
	i.t.Helper()
	log := &strings.Builder{}
	p, err := launch(config, log)
	if err != nil {
		i.t.Fatalf("%v\n%s", err, log)
	}
	i.t.Cleanup(func() {
		if err := p.end(syscall.SIGTERM); err != nil {
			i.t.Errorf("stopping %s: %v", config, err)
		}
		if i.t.Failed() {
			i.t.Logf("%s:\n%s", config, log)
		}
	})
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

// useCases runs mailsrv check, and looks that it left nothing behind.
func (i *install) useCases(config string) {
	i.t.Helper()
	out := i.run("check", "--config", config)
	if n, want := strings.Count(out, " ok "), len((&check{}).steps()); n != want {
		i.t.Errorf("%d steps passed, want %d:\n%s", n, want, out)
	}
	i.t.Log("\n" + out)
	if list := i.run("user", "list", "--config", config); strings.Contains(list, "check-") {
		i.t.Errorf("the check left users behind:\n%s", list)
	}
}

// loopback is an address of this process alone where the system has all of
// 127.0.0.0/8, so that tests of two processes never want the same port.
func loopback() string {
	pid := os.Getpid()
	own := net.IPv4(127, byte(128|pid>>15&127), byte(pid>>7), byte(pid&127<<1|1)).String()
	ln, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
	if err != nil {
		return "127.0.0.1"
	}
	ln.Close()
	return own
}

// portCounter gives every test of this process ports of its own.
type portCounter struct {
	mu   sync.Mutex
	next int
}

var allPorts = portCounter{next: os.Getpid()}

// ports returns n free ports of loopback, from below the range that the system
// gives to whoever asks for any: no other test can take one meanwhile.
func ports(t testing.TB, n int) []any {
	t.Helper()
	return portsOf(t, "127.0.0.1", n)
}

func portsOf(t testing.TB, host string, n int) []any {
	t.Helper()
	const lowest, count = 16000, 16000
	allPorts.mu.Lock()
	defer allPorts.mu.Unlock()
	var list []any
	for range count {
		p := lowest + allPorts.next%count
		allPorts.next++
		ln, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(p)))
		if err != nil {
			continue
		}
		ln.Close()
		if list = append(list, p); len(list) == n {
			return list
		}
	}
	t.Fatal("no free ports")
	return nil
}

func (i *install) common(name, roles string) string {
	data := filepath.Join(i.dir, name)
	return fmt.Sprintf("hostname: localhost\nroles: [%s]\ndata: %s\ngrace: 2s\ntls: {cert: %s, key: %s}\nadmin: {listen: []}\n", roles, data, i.cert, i.key)
}
