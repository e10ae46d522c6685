package mta_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/mta/queue"
)

var crashCycles = flag.Int("crash.cycles", 24, "how often TestCrash kills the MTA")

// crashPoints are where the MTA dies in every other cycle: "accept: 354" and
// the like by the hand of its client, "relay: ..." by that of the next hop, and
// the others by its own.
var crashPoints = []string{
	"accept: MAIL", "accept: 354", "accept: half of it", "accept: dot", "accept: taken", "accept: before the reply", "accept: 250",
	"resolve: before", "resolve: after", "through: before", "through: after",
	"queue: before", "log: message queued", "queue: after",
	"attempt: before", "relay: MAIL", "relay: RCPT", "relay: dot", "relay: taken", "relay: told", "attempt: after", "settled",
	"attempt: refused", "log: report queued", "dsn: written",
}

// crashKind is a kind of message, with what must come of one that was
// acknowledged: copies in mailboxes of ours, recipients outside, and reports.
type crashKind struct {
	from    string
	to      []string
	copies  []string // account/mailbox
	outside []string
	// report is who hears of a failure: a mailbox of ours, or an address outside.
	report string
}

const aliceInbox, aliceSent, bobInbox = "alice@us.example/INBOX", "alice@us.example/Sent", "bob@us.example/INBOX"

var crashKinds = []crashKind{
	{"s@far1.test", []string{"alice@us.example"}, []string{aliceInbox}, nil, ""},
	{"s@far1.test", []string{"alice@us.example", "bob@us.example"}, []string{aliceInbox, bobInbox}, nil, ""},
	{"s@far1.test", []string{"team@us.example"}, []string{aliceInbox, bobInbox}, []string{"x@far1.test"}, ""},
	{"alice@us.example", []string{"bob@us.example", "x@far1.test"}, []string{aliceSent, bobInbox}, []string{"x@far1.test"}, ""},
	{"alice@us.example", []string{"x@far1.test", "y@far2.test", "z@far3.test"}, []string{aliceSent}, []string{"x@far1.test", "y@far2.test", "z@far3.test"}, ""},
	{"alice@us.example", []string{"no@far1.test", "bob@us.example"}, []string{aliceSent, bobInbox}, nil, aliceInbox},
	{"s@far2.test", []string{"gone@us.example"}, nil, nil, "s@far2.test"}, // a forward to no@far3.test
}

// crashMessage is what the client's ledger knows of a message.
type crashMessage struct {
	id    string
	kind  crashKind
	acked bool
}

func (m crashMessage) text() string {
	size := 20
	if n := len(m.id); m.id[n-1] == '0' {
		size = 20_000 // a file of its own, in spool and queue
	}
	return "From: <" + m.kind.from + ">\r\nSubject: crash\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\nMessage-ID: <" + m.id + "@crash>\r\n\r\n" +
		strings.Repeat(m.id+"\r\n", size)
}

// crashRun is the test's side: the clients' ledger, and the far host's.
type crashRun struct {
	t   *testing.T
	dir string
	far *farHost

	mu      sync.Mutex
	sent    []*crashMessage
	child   *exec.Cmd
	point   string
	nth     int
	met     map[string]int
	killing bool
	// left is after how many more acknowledgements the child of a cycle
	// without a point is killed, by and by.
	left int
	// faults says that outcomes may be lost without a kill: a delivery may come
	// again in the same life.
	faults bool
}

// pass kills the child if this is the point for it, and reports whether it did.
func (c *crashRun) pass(point string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if point != c.point || c.killing {
		return false
	}
	if c.nth--; c.nth > 0 {
		return false
	}
	c.killing = true
	c.met[point]++
	_ = c.child.Process.Kill()
	return true
}

// TestCrash kills the MTA again and again, at random and at named points of
// all that it does between a client and the next hop, whose ledgers are kept
// in another process. What was acknowledged is in each of its mailboxes once,
// was taken outside, or was reported once; what was not is nowhere twice; and
// a kill repeats at most the one delivery to a host that was in flight.
func TestCrash(t *testing.T) {
	if dir := os.Getenv("MTA_CRASH"); dir != "" {
		var port, life, nth int
		if _, err := fmt.Sscan(os.Getenv("MTA_CRASH_AT"), &port, &life, &nth); err != nil {
			t.Fatal(err)
		}
		if err := crashChild(dir, port, life, os.Getenv("MTA_CRASH_POINT"), nth); err != nil {
			t.Fatal(err)
		}
		return
	}
	c := newCrashRun(t, t.TempDir())
	c.far.at = func(p string) { c.pass(p) }
	for cycle := range *crashCycles {
		c.cycle(cycle)
		if t.Failed() {
			return
		}
	}
	c.drain(*crashCycles)
	if acked := c.check(); acked < *crashCycles/2 {
		t.Errorf("only %d messages were acknowledged", acked)
	}
	for i, p := range crashPoints {
		if cycles := (*crashCycles/2 + len(crashPoints) - 1 - i) / len(crashPoints); c.met[p] == 0 && cycles > 1 {
			t.Errorf("in %d cycles nobody came to %q", cycles, p)
		}
	}
}

// newCrashRun has the far host, and the house's entries in dir.
func newCrashRun(t *testing.T, dir string) *crashRun {
	t.Helper()
	c := &crashRun{t: t, dir: dir, met: map[string]int{}}
	var err error
	if c.far, err = newFarHost(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.far.Close() })
	peopleCrashHouse(t, dir)
	return c
}

// peopleCrashHouse makes the entries of the house.
func peopleCrashHouse(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	o, err := crashOptions()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := sqldir.Open(ctx, filepath.Join(dir, "directory.db"), sqldir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := directory.NewProvisioner(tree, o)
	if err := errors.Join(p.EnsureBase(ctx), p.AddDomain(ctx, "us.example", ""), p.AddUser(ctx, "alice@us.example", "", "secret", ""),
		p.AddUser(ctx, "bob@us.example", "", "secret", ""), p.AddGroup(ctx, "team@us.example", []string{"alice@us.example", "bob@us.example", "x@far1.test"}),
		p.AddAlias(ctx, "gone@us.example", "no@far3.test"), tree.Close()); err != nil {
		t.Fatal(err)
	}
}

// cycle runs a child with three clients until it is killed.
func (c *crashRun) cycle(cycle int) {
	c.mu.Lock()
	c.point, c.nth, c.killing, c.left = "", 1+rand.IntN(6), false, 1+rand.IntN(40)
	if cycle%2 == 1 {
		c.point = crashPoints[cycle/2%len(crashPoints)]
	}
	c.child = exec.Command(os.Args[0], "-test.run=^TestCrash$")
	child := c.child
	c.mu.Unlock()
	addr, in, out := c.start(child, cycle)
	defer in.Close()
	var late atomic.Bool
	timer := time.AfterFunc(30*time.Second, func() { late.Store(true); _ = child.Process.Kill() })
	var clients sync.WaitGroup
	for n := range 3 {
		clients.Go(func() { c.client(addr, fmt.Sprintf("c%d-%d", cycle, n)) })
	}
	clients.Wait()
	_, _ = io.Copy(io.Discard, out)
	_ = child.Wait()
	timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.point != "" && !late.Load() && !c.killing { // by its own hand
		c.met[c.point]++
	}
}

// start runs a child in the life of that number, and returns where it takes
// mail, and its input, whose end tells it that we are gone.
func (c *crashRun) start(child *exec.Cmd, life int) (addr string, in io.Closer, out io.Reader) {
	c.t.Helper()
	addr, in, out, err := c.tryStart(child, life)
	if err != nil {
		c.t.Fatal(err)
	}
	return addr, in, out
}

func (c *crashRun) tryStart(child *exec.Cmd, life int) (addr string, in io.Closer, out io.Reader, err error) {
	c.t.Helper()
	child.Env = append(os.Environ(), "MTA_CRASH="+c.dir, "MTA_CRASH_POINT="+c.point, fmt.Sprint("MTA_CRASH_AT=", c.far.port(), " ", life, " ", c.nth))
	child.Stderr = os.Stderr
	in, err1 := child.StdinPipe()
	pipe, err2 := child.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		c.t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		c.t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	lines.Scan()
	addr, ok := strings.CutPrefix(lines.Text(), "ready ")
	if !ok {
		_ = child.Process.Kill()
		return "", nil, nil, fmt.Errorf("the child said %q, %w", lines.Text(), child.Wait())
	}
	return addr, in, pipe, nil
}

// client sends messages until the server is gone, and keeps the ledger.
func (c *crashRun) client(addr, name string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	// say sends and wants a reply of that class; false if the server is gone.
	say := func(text, want string) bool {
		if _, err := io.WriteString(conn, text); err != nil {
			return false
		}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return false
			}
			if !strings.HasPrefix(line, want) {
				c.t.Errorf("%s: %q was answered %q", name, text[:min(len(text), 60)], line)
				return false
			}
			if len(line) > 3 && line[3] == ' ' {
				return true
			}
		}
	}
	if !say("", "220") || !say("EHLO "+name+".test\r\n", "250") {
		return
	}
	for i := 0; ; i++ {
		m := &crashMessage{id: fmt.Sprintf("%s-%d", name, i), kind: crashKinds[rand.IntN(len(crashKinds))]}
		c.mu.Lock()
		c.sent = append(c.sent, m)
		c.mu.Unlock()
		if !say("MAIL FROM:<"+m.kind.from+">\r\n", "250") || c.pass("accept: MAIL") {
			return
		}
		for _, to := range m.kind.to {
			if !say("RCPT TO:<"+to+">\r\n", "250") {
				return
			}
		}
		if !say("DATA\r\n", "354") || c.pass("accept: 354") {
			return
		}
		text := m.text()
		if _, err := io.WriteString(conn, text[:len(text)/2]); err != nil || c.pass("accept: half of it") {
			return
		}
		if _, err := io.WriteString(conn, text[len(text)/2:]+".\r\n"); err != nil || c.pass("accept: dot") {
			return
		}
		if !say("", "250") {
			return
		}
		c.acknowledged(m)
		if c.pass("accept: 250") {
			return
		}
	}
}

func (c *crashRun) acknowledged(m *crashMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.acked = true
	if c.left--; c.left == 0 && c.point == "" {
		child := c.child
		time.AfterFunc(rand.N(10*time.Millisecond), func() { _ = child.Process.Kill() })
	}
}

// drain serves the house in this process until its queue is empty.
func (c *crashRun) drain(life int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	h, err := openCrashHouse(ctx, c.dir, c.far.port(), life, false, func(string) {})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.point = ""
	c.mu.Unlock()
	served := make(chan error, 1)
	go func() { served <- h.queue.Serve(ctx) }()
	deadline := time.After(2 * time.Minute)
	for {
		n, err := h.queue.Counts(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		if n.Pending+n.Held == 0 {
			break
		}
		select {
		case <-h.settled:
		case <-deadline:
			left, err := h.queue.List(ctx, queue.Filter{})
			c.t.Fatalf("the queue does not drain: %+v, %+v, %v", n, left, err)
		}
	}
	cancel()
	if err := errors.Join(<-served, h.close()); err != nil {
		c.t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(c.dir, "queue", "bodies", "*", "*", "*")); err != nil || len(left) > 0 {
		c.t.Errorf("message files left: %q, %v", left, err)
	}
}
