package queue

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

// ledger is a next hop that survives its process: it writes down each delivery
// in a file. Recipients at bad.test are refused for good.
type ledger struct {
	mu sync.Mutex
	f  *os.File
}

func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &ledger{f: f}, err
}

func (l *ledger) Deliver(_ context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range env.To {
		if r.Address.Domain == "bad.test" {
			errs[i] = mail.Refuse(1, 1, "no such user")
			continue
		}
		_, errs[i] = fmt.Fprintf(l.f, "%s %s %d\n", r.Address, env.Trace, body.Size())
	}
	return errs
}

// TestKilledQueueLosesNothing kills a child that enqueues and delivers at full
// speed, again and again. Each message that was acknowledged must reach each of
// its recipients, no more often than it was killed and once; each refusal must
// give exactly one bounce.
func TestKilledQueueLosesNothing(t *testing.T) {
	if dir := os.Getenv("QUEUE_TEST_CHILD"); dir != "" {
		crashChild(t, dir)
	}
	dir := t.TempDir()
	acked := map[string]bool{}
	const kills = 6
	for cycle := range kills {
		child := exec.Command(os.Args[0], "-test.run=TestKilledQueueLosesNothing$")
		child.Env = append(os.Environ(), "QUEUE_TEST_CHILD="+dir, fmt.Sprintf("QUEUE_TEST_CYCLE=%d", cycle))
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		limit := 30 + rand.IntN(60)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			if id, ok := strings.CutPrefix(lines.Text(), "ack "); ok {
				acked[id] = true
				if n++; n == limit {
					child.Process.Kill()
				}
			}
		}
		child.Wait()
	}
	if len(acked) < kills*30 {
		t.Fatalf("only %d messages were acknowledged", len(acked))
	}
	drainLedger(t, dir)
	checkLedger(t, dir, acked, kills)
}

func crashChild(t *testing.T, dir string) {
	l, err := openLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	q, _ := run(t, options(filepath.Join(dir, "queue"), l))
	large := letter + strings.Repeat("x", inline)
	for i := 0; ; i++ {
		id := fmt.Sprintf("c%s-%d", os.Getenv("QUEUE_TEST_CYCLE"), i)
		text := letter
		if i%5 == 0 {
			text = large
		}
		put(t, q, envelope(t, id+"@us.example", id+"@one.test", id+"@two.test", id+"@bad.test"), text)
		fmt.Println("ack", id)
	}
}

// drainLedger serves what the last child left until nothing is left.
func drainLedger(t *testing.T, dir string) {
	l, err := openLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	o := options(filepath.Join(dir, "queue"), l)
	idle := make(chan struct{}, 1)
	o.Attempted = func(Outcome) {
		select {
		case idle <- struct{}{}:
		default:
		}
	}
	q, stop := run(t, o)
	deadline := time.After(2 * time.Minute)
	for {
		if c, err := q.Counts(t.Context()); err != nil {
			t.Fatal(err)
		} else if c.Pending == 0 {
			break
		}
		select {
		case <-idle:
		case <-deadline:
			t.Fatal("the queue does not drain")
		}
	}
	if n := len(list(t, q)); n != 0 {
		t.Errorf("%d entries left", n)
	}
	stop()
	if n := countFiles(t, filepath.Join(dir, "queue")); n != 0 {
		t.Errorf("%d message files left", n)
	}
}

func checkLedger(t *testing.T, dir string, acked map[string]bool, kills int) {
	text, err := os.ReadFile(filepath.Join(dir, "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}               // deliveries by address
	bounces := map[string]map[string]bool{} // distinct bounces by sender
	again := 0
	for line := range strings.Lines(string(text)) {
		to, trace, _ := strings.Cut(strings.TrimSpace(line), " ")
		if count[to]++; count[to] > 1 {
			again++
		}
		if strings.HasSuffix(to, "@us.example") {
			trace, _, _ = strings.Cut(trace, " ")
			if bounces[to] == nil {
				bounces[to] = map[string]bool{}
			}
			bounces[to][trace] = true
		}
	}
	for id := range acked {
		for _, to := range []string{id + "@one.test", id + "@two.test"} {
			if n := count[to]; n < 1 || n > 1+kills {
				t.Errorf("%s was delivered to %d times", to, n)
			}
		}
		if n := len(bounces[id+"@us.example"]); n != 1 {
			t.Errorf("%s got %d bounces", id, n)
		}
	}
	// Only what was in flight at a kill may come twice.
	if most := kills * 50; again > most {
		t.Errorf("%d deliveries were repeated, at most %d were in flight", again, most)
	}
	t.Logf("%d messages, %d deliveries, %d repeated", len(acked), len(count), again)
}
