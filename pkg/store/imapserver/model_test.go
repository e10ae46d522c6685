package imapserver_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mirror is a client that believes nothing but untagged responses: what it
// holds must be what the server would say if asked.
type mirror struct {
	*chat
	box   string // its name as a client writes it; empty: INBOX
	uids  []int
	flags map[int]string
}

func (m *mirror) name() string {
	if m.box == "" {
		return "INBOX"
	}
	return m.box
}

var (
	untaggedNumber = regexp.MustCompile(`^\* (\d+) (EXISTS|EXPUNGE|RECENT)$`)
	untaggedFlags  = regexp.MustCompile(`^\* (\d+) FETCH \(.*FLAGS \(([^)]*)\)`)
	untaggedUID    = regexp.MustCompile(`^\* (\d+) FETCH \(.*UID (\d+)`)
)

// take keeps the mirror up to date.
func (m *mirror) take(lines []string) {
	m.tb.Helper()
	for _, line := range lines {
		if set, ok := strings.CutPrefix(line, "* VANISHED "); ok {
			m.vanish(set)
		}
		if got := untaggedNumber.FindStringSubmatch(line); got != nil {
			n, _ := strconv.Atoi(got[1])
			switch {
			case got[2] == "EXPUNGE" && (n < 1 || n > len(m.uids)):
				m.tb.Fatalf("%q with %d messages", line, len(m.uids))
			case got[2] == "EXPUNGE":
				m.uids = slices.Delete(m.uids, n-1, n)
			case got[2] == "EXISTS" && n < len(m.uids):
				m.tb.Fatalf("%q with %d messages", line, len(m.uids))
			case got[2] == "EXISTS":
				for len(m.uids) < n {
					m.uids = append(m.uids, 0)
				}
			}
		}
		if got := untaggedUID.FindStringSubmatch(line); got != nil {
			n, _ := strconv.Atoi(got[1])
			uid, _ := strconv.Atoi(got[2])
			if n > len(m.uids) || m.uids[n-1] != 0 && m.uids[n-1] != uid {
				m.tb.Fatalf("%q, but number %d is UID %v", line, n, m.uids)
			}
			if got := untaggedFlags.FindStringSubmatch(line); got != nil {
				// A message that was only counted, and then fetched without its
				// flags, is one whose flags nobody has told.
				m.uids[n-1] = uid
				m.flags[uid] = strings.TrimSpace(strings.Replace(got[2], `\Recent`, "", 1))
			}
		}
	}
}

// vanish takes out messages by UID. One that is not known by its UID yet is one
// of those that were only counted, behind the last known one that is lower.
func (m *mirror) vanish(set string) {
	m.tb.Helper()
	for part := range strings.SplitSeq(set, ",") {
		first, last, ranged := strings.Cut(part, ":")
		from, _ := strconv.Atoi(first)
		to := from
		if ranged {
			to, _ = strconv.Atoi(last)
		}
		for uid := from; uid <= to; uid++ {
			i := slices.Index(m.uids, uid)
			if i < 0 {
				lower := 0
				for k, known := range m.uids {
					if known != 0 && known < uid {
						lower = k + 1
					}
				}
				if i = slices.Index(m.uids[lower:], 0); i >= 0 {
					i += lower
				}
			}
			if i < 0 {
				m.tb.Errorf("VANISHED %d, with %v", uid, m.uids)
				return
			}
			m.uids = slices.Delete(m.uids, i, i+1)
		}
	}
}

// known is the mailbox as the mirror knows it; it asks for messages whose UID
// or flags nobody has told it yet.
func (m *mirror) known() []string {
	m.tb.Helper()
	m.take(m.ok("NOOP"))
	unknown := func(uid int) bool { _, told := m.flags[uid]; return !told }
	if i := slices.IndexFunc(m.uids, unknown); i >= 0 {
		m.take(m.ok(fmt.Sprintf("FETCH %d:* (UID FLAGS)", i+1)))
	}
	var all []string
	for i, uid := range m.uids {
		all = append(all, fmt.Sprintf("%d uid %d flags %s", i+1, uid, m.flags[uid]))
	}
	return all
}

// TestSessionsAgree lets clients do what they like on one mailbox. Whenever
// they pause, what each has been told equals what a new session reads.
func TestSessionsAgree(t *testing.T) {
	p := newPeer(t, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	clients := make([]*mirror, 3)
	for i := range clients {
		clients[i] = &mirror{chat: p.chat(t.Context()), flags: map[int]string{}}
		clients[i].take(clients[i].ok("SELECT INBOX"))
	}
	begun := time.Now()
	for round := 0; time.Since(begun) < 3*time.Second && round < 150; round++ {
		for range 10 {
			m := clients[random.IntN(len(clients))]
			m.take(m.ok(randomCommand(random, p, m)))
		}
		fresh := &mirror{chat: p.chat(t.Context()), flags: map[int]string{}}
		fresh.take(fresh.ok("EXAMINE INBOX"))
		want := fresh.known()
		fresh.ok("LOGOUT")
		for i, m := range clients {
			if diff := cmp.Diff(want, m.known()); diff != "" {
				t.Fatalf("round %d: client %d disagrees (-new session +told):\n%s", round, i, diff)
			}
		}
	}
}

func randomCommand(random *rand.Rand, p *peer, m *mirror) string {
	n := max(1, len(m.uids))
	one, other := 1+random.IntN(n), 1+random.IntN(n)
	flag := []string{`\Seen`, `\Flagged`, `\Deleted`, "$Work", `\Seen $Home`}[random.IntN(5)]
	silent := []string{"", ".SILENT"}[random.IntN(2)]
	switch random.IntN(12) {
	case 0, 1:
		p.put("INBOX", simpleMail(random.IntN(1000)))
		return "NOOP"
	case 2:
		return "COPY " + strconv.Itoa(one) + " INBOX"
	case 3:
		return "EXPUNGE"
	case 4:
		return fmt.Sprintf("MOVE %d INBOX", one)
	case 5:
		return fmt.Sprintf("FETCH %d:%d (UID FLAGS)", one, other)
	case 6:
		return fmt.Sprintf("FETCH %d (UID BODY[TEXT])", one)
	case 7:
		return "SEARCH UNSEEN"
	}
	// A silent STORE tells nothing, and the mirror believes only what it is
	// told: it asks.
	if silent != "" {
		m.take(m.ok(fmt.Sprintf("STORE %d:%d +FLAGS.SILENT (%s)", one, other, flag)))
		return fmt.Sprintf("FETCH %d:%d (UID FLAGS)", one, other)
	}
	return fmt.Sprintf("STORE %d:%d %s (%s)", one, other, []string{"FLAGS", "+FLAGS", "-FLAGS"}[random.IntN(3)], flag)
}
