package imapserver_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var together = flag.Duration("together", 2*time.Second, "how long TestSessionsTogether runs")

// many is how many sessions there are on one mailbox at once.
const many = 20

// dialects are what the sessions have enabled, in turn.
func dialects() []string {
	return []string{"", "ENABLE CONDSTORE", "ENABLE QRESYNC", "ENABLE IMAP4rev2", "ENABLE IMAP4rev2 QRESYNC UTF8=ACCEPT"}
}

// TestSessionsTogether lets sessions of all dialects work on one mailbox at the
// same time. At each checkpoint all have been told the same, and what a new
// session reads; UIDs only grow.
func TestSessionsTogether(t *testing.T) {
	p := newPeer(t, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	clients := make([]*mirror, many)
	for i := range clients {
		clients[i] = &mirror{chat: p.chat(t.Context()), flags: map[int]string{}}
		if enable := dialects()[i%len(dialects())]; enable != "" {
			clients[i].ok(enable)
		}
		clients[i].take(clients[i].ok("SELECT INBOX"))
	}
	highest := 0
	for begun, round := time.Now(), uint64(0); (time.Since(begun) < *together || round < 2) && !t.Failed(); round++ {
		var wg sync.WaitGroup
		for i, m := range clients {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed+round, uint64(i)))
				for range 8 {
					m.anything(random)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		fresh := &mirror{chat: p.chat(t.Context()), flags: map[int]string{}}
		fresh.take(fresh.ok("EXAMINE INBOX"))
		want := fresh.known()
		for i, m := range clients {
			if diff := cmp.Diff(want, m.known()); diff != "" {
				t.Fatalf("round %d: client %d (%s) disagrees (-new session +told):\n%s", round, i, dialects()[i%len(dialects())], diff)
			}
		}
		if !slices.IsSorted(fresh.uids) {
			t.Fatalf("UIDs do not ascend: %v", fresh.uids)
		}
		next, err := strconv.Atoi(code(t, fresh.ok("EXAMINE INBOX"), "UIDNEXT"))
		if err != nil || next < highest || len(fresh.uids) > 0 && next <= fresh.uids[len(fresh.uids)-1] {
			t.Fatalf("UIDNEXT %d after %d, with %v", next, highest, fresh.uids)
		}
		highest = next
		fresh.ok("LOGOUT")
	}
}

// anything says one command, and believes its answer.
func (m *mirror) anything(random *rand.Rand) {
	m.tb.Helper()
	n := max(1, len(m.uids))
	one, other := 1+random.IntN(n), 1+random.IntN(n)
	flags := []string{`\Seen`, `\Flagged`, `\Deleted`, "$Work", `\Answered $Home`}[random.IntN(5)]
	change := []string{"FLAGS", "+FLAGS", "-FLAGS"}[random.IntN(3)]
	uid := []string{"", "UID "}[random.IntN(2)]
	message := simpleMail(random.IntN(1000))
	switch random.IntN(14) {
	case 0, 1:
		m.say(fmt.Sprintf("APPEND %s (%s) {%d+}\r\n%s", m.name(), flags, len(message), message))
	case 2:
		m.say(fmt.Sprintf("APPEND %s {%d+}\r\n%s (%s) {%d+}\r\n%s", m.name(), len(message), message, flags, len(message), message))
	case 3:
		m.say(fmt.Sprintf("%sCOPY %d:%d %s", uid, one, min(one+1, n), m.name()))
	case 4:
		m.say("EXPUNGE")
	case 5:
		m.say(fmt.Sprintf("%sMOVE %d %s", uid, one, m.name()))
	case 6:
		m.say(fmt.Sprintf("%sFETCH %d:%d (UID FLAGS)", uid, one, other))
	case 7:
		m.say(fmt.Sprintf("FETCH %d (UID BODY[TEXT])", one))
	case 8:
		m.say(uid + "SEARCH RETURN (SAVE) OR UNSEEN SUBJECT 7")
		m.say("UID STORE $ +FLAGS ($Found)")
	case 9:
		m.say("SORT (REVERSE DATE SUBJECT) UTF-8 NOT DELETED")
	case 10:
		m.say(fmt.Sprintf("%sREPLACE %d %s {%d+}\r\n%s", uid, one, m.name(), len(message), message))
	case 11:
		m.idle()
	default:
		m.say(fmt.Sprintf("%sSTORE %d:%d %s (%s)", uid, one, other, change, flags))
	}
}

// say sends a command that may be refused since others were faster.
func (m *mirror) say(command string) {
	m.tb.Helper()
	lines := m.do(command)
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "t OK") && !strings.HasPrefix(last, "t NO [NONEXISTENT]") && !strings.HasPrefix(last, "t NO [EXPUNGEISSUED]") {
		m.tb.Errorf("%.60q: %q", command, last)
	}
	m.take(lines)
}

// idle goes into IDLE and out of it at once.
func (m *mirror) idle() {
	m.tb.Helper()
	m.send("t IDLE\r\nDONE\r\n")
	var lines []string
	for {
		lines = append(lines, m.line())
		if last := lines[len(lines)-1]; strings.HasPrefix(last, "t ") || last == "(closed)" {
			break
		}
	}
	m.take(lines)
}
