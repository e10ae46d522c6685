package pop3server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/peertest"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/pop3server"
)

const (
	first  = "Subject: one\r\n\r\nline 1\r\n.\r\n..dots\r\nline 4\r\n"
	second = "Subject: two\r\n\r\nsecond\r\n"
	third  = "Subject: three\r\nno body\r\n"
)

// TestSession is RFC 1939's TRANSACTION state, line by line.
func TestSession(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	p.put(first, second, third)
	c := p.login(t.Context(), nil)
	total := len(first) + len(second) + len(third)
	for _, step := range []struct{ say, want string }{
		{"STAT", fmt.Sprintf("+OK 3 %d", total)},
		{"list 2", fmt.Sprintf("+OK 2 %d", len(second))},
		{"LIST 4", "-ERR no such message"},
		{"LIST 0", "-ERR no such message"},
		{"LIST x", "-ERR expected a message number"},
		{"LIST 18446744073709551617", "-ERR expected a message number"},
		{"RETR", "-ERR expected a message number"},
		{"RETR 4", "-ERR no such message"},
		{"TOP 1", "-ERR syntax is TOP message lines"},
		{"TOP 1 -1", "-ERR syntax is TOP message lines"},
		{"TOP 9 1", "-ERR no such message"},
		{"NOOP", "+OK nothing done"},
		{"NOOP x", "-ERR NOOP takes no arguments"},
		{"DELE 2", "+OK message 2 goes with QUIT"},
		{"DELE 2", "-ERR no such message"},
		{"RETR 2", "-ERR no such message"},
		{"UIDL 2", "-ERR no such message"},
		{"STAT", fmt.Sprintf("+OK 2 %d", len(first)+len(third))},
		{"RSET", fmt.Sprintf("+OK 3 %d", total)},
		{"USER alice", "-ERR unknown command, or not after a login"},
		{"UTF8", "-ERR unknown command, or not after a login"},
		{"LANG *", "+OK i-default Language is English"},
	} {
		if got := c.do(step.say); got != step.want {
			t.Errorf("%s: got %q, want %q", step.say, got, step.want)
		}
	}
	for command, want := range map[string]string{
		"RETR 1":   "Subject: one\r\n\r\nline 1\r\n..\r\n...dots\r\nline 4\r\n",
		"RETR 3":   third,
		"TOP 1 0":  "Subject: one\r\n\r\n",
		"TOP 1 2":  "Subject: one\r\n\r\nline 1\r\n..\r\n",
		"TOP 1 99": "Subject: one\r\n\r\nline 1\r\n..\r\n...dots\r\nline 4\r\n",
		"TOP 3 0":  third,
		"LIST":     fmt.Sprintf("1 %d\r\n2 %d\r\n3 %d\r\n", len(first), len(second), len(third)),
		"CAPA": "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nEXPIRE NEVER\r\nLOGIN-DELAY 0\r\nUTF8 USER\r\nLANG\r\n" +
			"IMPLEMENTATION mailsrv\r\n",
	} {
		if got := c.text(command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	if c.text("DELE 2\r\nLIST"); c.text("LIST") != fmt.Sprintf("1 %d\r\n3 %d\r\n", len(first), len(third)) {
		t.Error("LIST shows a message that is marked")
	}
	if got := c.do("QUIT"); got != "+OK bye" || c.line() != "(closed)" {
		t.Errorf("QUIT: %q", got)
	}
}

// TestUpdateOnQuitAlone: only a QUIT that was answered +OK removes anything
// (RFC 1939 §6, hardening row I12), and UIDL outlives restarts.
func TestUpdateOnQuitAlone(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	p.put(first, second, third)
	c := p.login(t.Context(), nil)
	ids := c.text("UIDL")
	c.do("DELE 1")
	c.hangUp()

	_ = p.engine.Close()
	p.open()
	c = p.login(t.Context(), nil)
	if got := c.text("UIDL"); got != ids || strings.Count(got, "\r\n") != 3 {
		t.Fatalf("after a lost connection and a restart %q, want %q", got, ids)
	}
	c.text("RETR 3")
	c.do("DELE 1")
	if got := c.do("QUIT"); got != "+OK bye" {
		t.Fatal(got)
	}
	_ = p.engine.Close()
	p.open()
	c = p.login(t.Context(), nil)
	lines := strings.SplitAfter(ids, "\r\n")
	want := "1" + strings.TrimPrefix(lines[1], "2") + "2" + strings.TrimPrefix(lines[2], "3")
	if got := c.text("UIDL"); got != want {
		t.Errorf("after QUIT %q, want %q", got, want)
	}
	var seen []bool
	for m, err := range p.inbox().Messages(t.Context(), store.AllUIDs(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, m.Flags.Has(store.Seen))
	}
	if fmt.Sprint(seen) != "[false true]" {
		t.Errorf("seen %v: only what was retrieved is", seen)
	}
}

// TestBesideIMAP: what other sessions do changes nothing a POP3 client was
// told, and nothing comes back.
func TestBesideIMAP(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	p.put(first, second, third)
	c := p.login(t.Context(), nil)
	other := p.login(t.Context(), nil)
	p.put("Subject: later\r\n\r\n") // a delivery
	if _, err := p.inbox().Remove(t.Context(), store.UIDsOf(2)); err != nil {
		t.Fatal(err)
	}
	if got, want := c.do("STAT"), fmt.Sprintf("+OK 3 %d", len(first)+len(second)+len(third)); got != want {
		t.Errorf("STAT %q, want %q", got, want)
	}
	if got := c.do("RETR 2"); got != "-ERR another session removed the message" {
		t.Errorf("RETR of an expunged message: %q", got)
	}
	if got := c.text("RETR 3"); got != third {
		t.Errorf("RETR 3: %q", got)
	}
	for _, say := range []string{"DELE 1", "DELE 2", "QUIT"} {
		if got := c.do(say); !strings.HasPrefix(got, "+OK") {
			t.Errorf("%s: %q", say, got)
		}
	}
	if got := other.do("RETR 1"); !strings.HasPrefix(got, "-ERR") {
		t.Errorf("the other session: %q", got)
	}
	var left []store.UID
	for m, err := range p.inbox().Messages(t.Context(), store.AllUIDs(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, m.UID)
	}
	if fmt.Sprint(left) != "[3 4]" {
		t.Errorf("left %v, want 3 and 4", left)
	}
}

// brokenStore fails to remove.
type brokenStore struct{ store.Store }

func (b brokenStore) Account(ctx context.Context, name string) (store.Account, error) {
	a, err := b.Store.Account(ctx, name)
	return brokenAccount{a}, err
}

type brokenAccount struct{ store.Account }

func (b brokenAccount) Open(ctx context.Context, name string) (store.Mailbox, error) {
	m, err := b.Account.Open(ctx, name)
	return brokenMailbox{m}, err
}

type brokenMailbox struct{ store.Mailbox }

func (brokenMailbox) Remove(context.Context, store.UIDSet) ([]store.UID, error) {
	return nil, errors.New("disk on fire")
}

func TestFailedUpdateIsTold(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	p.put(first)
	p.server = pop3server.New(pop3server.Options{Store: brokenStore{p.engine}, Directory: p.dir})
	c := p.login(t.Context(), nil)
	c.do("DELE 1")
	if got := c.do("QUIT"); got != "-ERR [SYS/TEMP] messages were not removed" || c.line() != "(closed)" {
		t.Errorf("QUIT: %q", got)
	}
}

func TestUTF8(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	eai := "From: Jos\u00e9 <jos\u00e9@example.test>\r\nSubject: hi\r\n\r\nbody\r\n"
	p.put(eai, "From: Jos\u00e9 <jose@example.test>\r\nSubject: caf\u00e9 @ home\r\n\r\njos\u00e9@example.test\r\n", "To: a\r\n b@\u00e9xample.test\r\n\r\n")
	c := p.login(t.Context(), nil)
	for _, command := range []string{"RETR 1", "TOP 1 0", "RETR 3"} {
		if got := c.do(command); !strings.HasPrefix(got, "-ERR [UTF8] ") {
			t.Errorf("%s: %q", command, got)
		}
	}
	c.text("RETR 2")
	c = p.login(t.Context(), func(h *mmp.Handover) { h.UTF8 = true })
	if got := c.text("RETR 1"); got != eai {
		t.Errorf("RETR in UTF-8 mode: %q", got)
	}
}

func TestLargeMessages(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	header := "Subject: " + strings.Repeat("long ", 10000) + "\r\n\r\n" // more than a chunk
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n.\r\n", 20000)
	p.put(header + body)
	c := p.login(t.Context(), nil)
	want := header + strings.ReplaceAll(body, "\r\n.\r\n", "\r\n..\r\n")
	if got := c.text("RETR 1"); got != want {
		t.Errorf("RETR returned %d octets, want %d", len(got), len(want))
	}
	if got := c.text("TOP 1 1"); got != header+strings.Repeat("x", 70)+"\r\n" {
		t.Errorf("TOP returned %d octets", len(got))
	}
}

func TestRefusedBeforeAnything(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPeer(t, pop3server.Options{LoginDelay: time.Minute, Now: func() time.Time { return now }})
	attach := func() *mmp.RefusedError {
		near, far := net.Pipe()
		near.Close()
		refused := (*mmp.RefusedError)(nil)
		errors.As(p.server.Attach(t.Context(), p.handover(far, "")), &refused)
		return refused
	}
	if r := attach(); r != nil {
		t.Errorf("first login: %v", r)
	}
	if r := attach(); r == nil || r.Code != "LOGIN-DELAY" || !r.Unavailable {
		t.Errorf("second login at once: %v", r)
	}
	now = now.Add(time.Minute)
	if r := attach(); r != nil {
		t.Errorf("login after the delay: %v", r)
	}
	now = now.Add(time.Hour)
	p.dir.user.Status = directory.Disabled
	if r := attach(); r == nil || r.Unavailable {
		t.Errorf("disabled account: %v", r)
	}
	p.dir.err = directory.ErrUnavailable
	if r := attach(); r == nil || !r.Unavailable {
		t.Errorf("directory down: %v", r)
	}
}

// TestNoStall: commands in one packet, or one by one, never wait for a delayed
// acknowledgement (40 ms each).
func TestNoStall(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	p.put(first)
	c := p.login(t.Context(), nil)
	begun := time.Now()
	for range 200 {
		c.text("RETR 1")
	}
	if _, err := c.conn.Write([]byte(strings.Repeat("NOOP\r\n", 200))); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if got := c.line(); got != "+OK nothing done" {
			t.Fatal(got)
		}
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("400 commands took %v", took)
	}
}

func TestShutdownAndSilence(t *testing.T) {
	p := newPeer(t, pop3server.Options{IdleTimeout: 50 * time.Millisecond})
	p.put(first)
	c := p.login(t.Context(), nil)
	if got := c.line(); got != "-ERR idle for too long" || c.line() != "(closed)" {
		t.Errorf("silence: %q", got)
	}
	p.server = pop3server.New(pop3server.Options{Store: p.engine, Directory: p.dir})
	ctx, cancel := context.WithCancel(context.Background())
	c = p.login(ctx, nil)
	c.do("DELE 1")
	cancel()
	if got := c.line(); got != "-ERR [SYS/TEMP] server is shutting down" || c.line() != "(closed)" {
		t.Errorf("shutdown: %q", got)
	}
	if st, err := p.inbox().Status(t.Context()); err != nil || st.Messages != 1 {
		t.Errorf("shutdown removed mail: %+v %v", st, err)
	}
}

func TestTooManyBadCommands(t *testing.T) {
	p := newPeer(t, pop3server.Options{})
	c := p.login(t.Context(), nil)
	for range 20 {
		if got := c.do("NOPE"); !strings.HasPrefix(got, "-ERR") {
			t.Fatal(got)
		}
	}
	if got := c.line(); got != "(closed)" {
		t.Errorf("after 20 bad commands: %q", got)
	}
	c.conn.Close()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
	c.done = nil
}

// TestPoplib runs Python's client over a whole mailbox.
func TestPoplib(t *testing.T) {
	python := peertest.Program(t, "python3", "python3")
	p := newPeer(t, pop3server.Options{})
	p.put(first, second, third)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			err = p.server.Attach(context.Background(), p.handover(conn, ""))
		}
		served <- err
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	out, err := exec.CommandContext(t.Context(), python, "-c", `
import poplib, sys
p = poplib.POP3("127.0.0.1", int(sys.argv[1]), timeout=10)
assert p.stat()[0] == 3
assert len(p.list()[1]) == 3 and len(p.uidl()[1]) == 3
assert b"\r\n".join(p.retr(1)[1]) == b"Subject: one\r\n\r\nline 1\r\n.\r\n..dots\r\nline 4", p.retr(1)
assert p.top(1, 1)[1][-1] == b"line 1"
p.dele(1); p.rset(); p.dele(2)
assert p.capa()["EXPIRE"] == ["NEVER"]
p.quit()
`, port).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if st, err := p.inbox().Status(t.Context()); err != nil || st.Messages != 2 {
		t.Errorf("%+v %v", st, err)
	}
}
