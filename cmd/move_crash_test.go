package cmd

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsrv/pkg/peertest"
)

var moveCycles = flag.Int("move.cycles", 5, "how often TestMoveCrash kills something")

// TestMoveCrash moves a user to and fro, and kills the command or one of the
// processes at any moment, while mail comes in and a session sets flags. What
// was acknowledged is there afterwards, once, under the UID that it had; and one
// store has it.
func TestMoveCrash(t *testing.T) {
	f := newFleet(t)
	f.up(fleetOrder()...)
	f.admin("domain", "add", "example.test", "--mailhost", storeNames[0])
	const alice = "alice@example.test"
	f.user(alice)
	m := &moveModel{t: t, f: f, login: alice, keywords: map[imap.UID]string{}, subjects: map[imap.UID]string{}}
	c := f.mustDial(t, alice)
	for i := range 10 {
		add(t, c, "INBOX", fmt.Sprintf("Subject: old%d\r\n\r\n%s", i, strings.Repeat("text\r\n", 1+i*5000)))
	}
	m.look()
	for cycle := range *moveCycles {
		m.cycle(cycle)
		if t.Failed() {
			t.Fatalf("in cycle %d", cycle)
		}
	}
}

// moveModel is what must be true of a mailbox.
type moveModel struct {
	t     *testing.T
	f     *fleet
	login string

	validity uint32
	subjects map[imap.UID]string // of all messages ever seen
	mu       sync.Mutex
	sent     []string            // subjects of acknowledged mail
	keywords map[imap.UID]string // the last acknowledged keyword
}

// cycle moves the user, kills something meanwhile, and ends the move.
func (m *moveModel) cycle(n int) {
	from, _ := m.f.mailHost(m.login)
	to := storeNames[0]
	if from == to {
		to = storeNames[1]
	}
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	busy.Go(func() { m.send(ctx, n) })
	busy.Go(func() { m.mark(ctx, n) })
	move := m.f.command("user", "move", m.login, "--to", to, "--config", m.f.config["directory"])
	var said strings.Builder
	move.Stdout, move.Stderr = &said, &said
	if err := move.Start(); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- move.Wait() }()
	victim := append(fleetOrder(), "the command", "the command")[rand.N(6)]
	wait := rand.N(300 * time.Millisecond)
	ended := false
	select {
	case <-time.After(wait):
	case <-exited:
		ended = true
	}
	if victim == "the command" {
		_ = move.Process.Kill()
	} else {
		m.f.kill(victim)
	}
	if !ended {
		<-exited
	}
	cancel()
	busy.Wait()
	if victim != "the command" {
		m.f.up(victim)
	}
	m.end(to, rand.N(3) == 0)
	m.look()
	m.t.Logf("cycle %d: %s to %s, %s killed after %v; ended: %v; %d messages", n, from, to, victim, wait, ended, len(m.subjects))
}

// end ends the move, or takes it back.
func (m *moveModel) end(to string, undo bool) {
	m.t.Helper()
	peertest.Eventually(m.t, 20*time.Second, func() error { // what was killed is reached again
		args := []string{"user", "move", m.login, "--to", to}
		if undo {
			args = []string{"user", "move", m.login, "--undo"}
		}
		out, err := m.f.try(args...)
		if err != nil && (strings.Contains(out, "is there already") || strings.Contains(out, "no move to undo")) {
			return nil
		}
		if err != nil && strings.Contains(out, "being undone") {
			undo = true
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if out := m.f.admin("user", "moves"); strings.Contains(out, m.login) {
		m.t.Errorf("the move is not finished:\n%s", out)
	}
	host, status := m.f.mailHost(m.login)
	holds := m.f.holds(m.t, m.login)
	owner := slices.Index(storeNames, host)
	if owner < 0 || holds[owner] != "open" || holds[1-owner] == "open" || status != "active" {
		m.t.Errorf("mail host %s, status %s, the stores say %q", host, status, holds)
	}
}

// send sends mail until ctx ends.
func (m *moveModel) send(ctx context.Context, cycle int) {
	for i := 0; ctx.Err() == nil && i < 8; i++ {
		id := fmt.Sprintf("new%d.%d", cycle, i)
		if m.f.post(m.login, id) == nil {
			m.mu.Lock()
			m.sent = append(m.sent, id)
			m.mu.Unlock()
		}
	}
}

// mark sets keywords until the session ends.
func (m *moveModel) mark(ctx context.Context, cycle int) {
	c, err := m.f.dial(m.login)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		return
	}
	uids := slices.Sorted(maps.Keys(m.subjects))
	for i := 0; ctx.Err() == nil; i++ {
		uid := uids[rand.N(len(uids))]
		keyword := fmt.Sprintf("k%d.%d", cycle, i)
		if storeKeyword(c, uid, keyword) != nil {
			m.mu.Lock()
			delete(m.keywords, uid) // it may or may not be set
			m.mu.Unlock()
			return
		}
		m.mu.Lock()
		m.keywords[uid] = keyword
		m.mu.Unlock()
	}
}

func storeKeyword(c *imapclient.Client, uid imap.UID, keyword string) error {
	return c.Store(imap.UIDSetNum(uid), &imap.StoreFlags{Op: imap.StoreFlagsSet, Flags: []imap.Flag{imap.Flag(keyword)}, Silent: true}, nil).Close()
}

// look waits until all mail has come, and holds the mailbox against the model.
func (m *moveModel) look() {
	m.t.Helper()
	c := m.f.mustDial(m.t, m.login)
	defer c.Close()
	var all []message
	peertest.Eventually(m.t, 30*time.Second, func() error {
		all = messages(m.t, c, "INBOX")
		there := map[string]bool{}
		for _, msg := range all {
			there[subjectOf(msg.text)] = true
		}
		for _, id := range m.sent {
			if !there[id] {
				return fmt.Errorf("acknowledged %q is not there", id)
			}
		}
		return nil
	})
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		m.t.Fatal(err)
	}
	if m.validity != 0 && selected.UIDValidity != m.validity {
		m.t.Errorf("UIDVALIDITY %d became %d", m.validity, selected.UIDValidity)
	}
	m.validity = selected.UIDValidity
	seen := map[string]int{}
	there := map[imap.UID]bool{}
	highest := imap.UID(0)
	for uid := range m.subjects {
		highest = max(highest, uid)
	}
	for _, msg := range all {
		subject := subjectOf(msg.text)
		seen[subject]++
		there[msg.uid] = true
		if known, ok := m.subjects[msg.uid]; ok && known != subject || !ok && msg.uid <= highest {
			m.t.Errorf("UID %d was %q and is %q", msg.uid, known, subject)
		}
		if k, ok := m.keywords[msg.uid]; ok && msg.flags != strings.ToLower(k) {
			m.t.Errorf("flags of UID %d are %q, acknowledged was %q", msg.uid, msg.flags, k)
		}
	}
	for uid, subject := range m.subjects {
		if !there[uid] {
			m.t.Errorf("message %d, %q, is gone", uid, subject)
		}
	}
	for _, id := range m.sent {
		if seen[id] != 1 {
			m.t.Errorf("acknowledged %q is there %d times", id, seen[id])
		}
	}
	for _, msg := range all {
		m.subjects[msg.uid] = subjectOf(msg.text)
	}
}

func subjectOf(text string) string {
	_, rest, _ := strings.Cut(text, "Subject: ")
	subject, _, _ := strings.Cut(rest, "\r\n")
	return subject
}
