package mta_test

import (
	"bufio"
	"errors"
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
)

// faultClient sends one message and returns the reply to it, or the refusal of
// what comes before it; the ledger has it.
func (c *crashRun) faultClient(addr string, m *crashMessage) string {
	c.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(conn)
	c.sent = append(c.sent, m)
	steps := []string{"", "EHLO far.test\r\n", "MAIL FROM:<" + m.kind.from + ">\r\n"}
	for _, to := range m.kind.to {
		steps = append(steps, "RCPT TO:<"+to+">\r\n")
	}
	steps = append(steps, "DATA\r\n", m.text()+".\r\n")
	for i, s := range steps {
		if _, err := io.WriteString(conn, s); err != nil {
			return err.Error()
		}
		line := "   -"
		for len(line) > 3 && line[3] == '-' {
			if line, err = r.ReadString('\n'); err != nil {
				return err.Error()
			}
		}
		if last := i == len(steps)-1; last || line[0] >= '4' {
			m.acked = last && line[0] == '2'
			return strings.TrimSpace(line)
		}
	}
	return "nothing"
}

// faultMessage is the nth message of a run: a submission that goes to bob's
// mailbox, alice's Sent and the queue, and every other a file of its own.
func faultMessage(n int) *crashMessage {
	return &crashMessage{id: fmt.Sprintf("f%d-%d", n, n%2), kind: crashKinds[3]}
}

// isTransient tells the replies that a fault may have.
func isTransient(reply string) bool {
	return strings.HasPrefix(reply, "452 4.3.1 ") || strings.HasPrefix(reply, "451 4.3.0 ")
}

// TestFullDisk fills the disk under spool, store and queue: clients hear 452 or
// 451 and are served again at once when there is room; nothing that was
// acknowledged is lost, and nothing torn.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := newCrashRun(t, dir)
	c.faults = true
	child := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	addr, in, _ := c.start(child, 0)
	defer in.Close()
	n, full := 0, 0
	next := func() string { n++; return c.faultClient(addr, faultMessage(n)) }
	for range 4 {
		if got := next(); !strings.HasPrefix(got, "250 ") {
			t.Fatal(got)
		}
	}
	for range 3 {
		filler := filepath.Join(dir, "filler")
		if err := fillDisk(filler); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		for i := 0; i < 40 && full < 3; i++ {
			if got := next(); isTransient(got) {
				full++
			} else if !strings.HasPrefix(got, "250 ") {
				t.Fatalf("on a full disk: %s", got)
			}
		}
		if full < 3 {
			t.Fatal("the disk was never full")
		}
		full = 0
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		roomy := time.Now()
		for got := next(); !strings.HasPrefix(got, "250 "); got = next() {
			if time.Since(roomy) > 5*time.Second || !isTransient(got) {
				t.Fatalf("%v after room came: %s", time.Since(roomy), got)
			}
		}
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	c.drain(1)
	if acked := c.check(); acked < 7 {
		t.Errorf("%d acknowledged", acked)
	}
}

// fillDisk writes until there is no room.
func fillDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	return errors.Join(err, f.Close())
}

// TestFailingDisk has the system refuse syncs and writes of queue and store:
// what fails is answered by 451 or 452, and nothing acknowledged is lost.
func TestFailingDisk(t *testing.T) {
	if exec.Command("strace", "-f", "-o", "/dev/null", "true").Run() != nil {
		t.Skip("strace is not installed, or may not trace")
	}
	for name, inject := range map[string]string{
		"sync fails once":     "fdatasync:error=EIO:when=%d",
		"syncs fail for good": "fdatasync:error=EIO:when=%d+",
		"writes fail":         "pwrite64:error=EIO:when=%d",
		"a moment of no room": "pwrite64:error=ENOSPC:when=%d..%d",
	} {
		t.Run(name, func(t *testing.T) {
			// strace counts each thread's calls by itself: which one meets the
			// fault, and whether that is after the start, is left to chance.
			for when := 6; ; when += when / 3 {
				if when > 300 {
					t.Fatal("the fault was never met")
				}
				in := fmt.Sprintf(strings.ReplaceAll(inject, "%d..%d", fmt.Sprintf("%%d..%d", when+2)), when)
				if failingDisk(t, in) {
					return
				}
			}
		})
	}
}

// failingDisk reports whether the fault was met by a message.
func failingDisk(t *testing.T, inject string) bool {
	t.Helper()
	c := newCrashRun(t, t.TempDir())
	child := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,pwrite64", "-e", "inject="+inject,
		os.Args[0], "-test.run=^TestCrash$")
	c.faults = true
	addr, in, out, err := c.tryStart(child, 0)
	if err != nil {
		return false // met at the start
	}
	failed := 0
	for n := range 100 {
		switch got := c.faultClient(addr, faultMessage(n)); {
		case strings.HasPrefix(got, "250 "):
		case isTransient(got):
			failed++
		default:
			t.Errorf("%s: %s", inject, got)
		}
		if failed > 5 {
			break
		}
	}
	in.Close() // the child leaves
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()
	c.drain(1)
	c.check()
	return failed > 0
}
