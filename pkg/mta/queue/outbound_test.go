package queue

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailsrv/pkg/mail"
)

var (
	outboundMessages = flag.Int("outbound.messages", 2000, "how many messages TestTarpitsKeepNobodyWaiting queues for 100 destinations")
	restartMessages  = flag.Int("restart.messages", 5000, "how many messages wait when TestRestartWithMany starts")
)

// outbound are 100 hosts that take a message in so much time, but for the first
// of them, who keep their client waiting for good.
type outbound struct {
	tarpits int
	takes   time.Duration
	mu      sync.Mutex
	taken   int
	want    int
	done    time.Time
}

func (o *outbound) Deliver(ctx context.Context, env mail.Envelope, _ mail.Body) []error {
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(env.To[0].Address.Domain, "d"), ".test"))
	if n < o.tarpits {
		<-ctx.Done()
		return mail.All(len(env.To), mail.TryLater(4, 2, "tarpit", ctx.Err()))
	}
	time.Sleep(o.takes)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken++; o.taken == o.want {
		o.done = time.Now()
	}
	return make([]error, len(env.To))
}

// fill queues n messages for 100 destinations by turns, but for the first.
func fill(t testing.TB, q *Queue, n, first int) {
	t.Helper()
	text := letter + strings.Repeat("x", 4<<10)
	next := make(chan int)
	var writers sync.WaitGroup
	for range 50 {
		writers.Go(func() {
			for i := range next {
				put(t, q, envelope(t, "s@us.example", fmt.Sprintf("u%d@d%d.test", i, i%100)), text)
			}
		})
	}
	for i := range n {
		if i%100 >= first {
			next <- i
		}
	}
	close(next)
	writers.Wait()
}

// TestTarpitsKeepNobodyWaiting: a full queue in which ten of a hundred
// destinations never answer empties for the others in at most 1.2 times the
// time that it takes without the ten.
func TestTarpitsKeepNobodyWaiting(t *testing.T) {
	for _, takes := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			drain := func(tarpits, first int) (took time.Duration) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					n := *outboundMessages
					o := &outbound{tarpits: tarpits, takes: takes, want: n / 100 * 90}
					op := options(dir, o)
					op.Grace = time.Nanosecond
					q, err := Open(t.Context(), op)
					if err != nil {
						t.Fatal(err)
					}
					fill(t, q, n, first)
					ctx, cancel := context.WithCancel(context.Background())
					served := make(chan error, 1)
					start := time.Now()
					go func() { served <- q.Serve(ctx) }()
					later(time.Hour)
					o.mu.Lock()
					took = o.done.Sub(start)
					if o.taken != o.want {
						t.Errorf("%d of %d were delivered", o.taken, o.want)
					}
					o.mu.Unlock()
					cancel()
					if err := <-served; err != nil {
						t.Error(err)
					}
					if err := q.Close(); err != nil {
						t.Error(err)
					}
				})
				return took
			}
			without := drain(0, 10)
			with := drain(10, 0)
			t.Logf("%d messages: %v without, %v with ten tarpits (%.2f)", *outboundMessages, without, with, float64(with)/float64(without))
			if float64(with) > 1.2*float64(without) {
				t.Errorf("the good hosts' mail took %v, without the tarpits %v", with, without)
			}
		})
	}
}

// TestRestartWithMany: a queue in which many wait is ready soon after a start,
// and does not hold them in memory.
func TestRestartWithMany(t *testing.T) {
	dir := t.TempDir()
	q, err := Open(t.Context(), options(dir, newHop()))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, q, *restartMessages, 0)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	before := residentMiB(t)
	start := time.Now()
	attempted := make(chan Outcome, 1)
	o := options(dir, deliverFunc(func(mail.Envelope) error { return mail.TryLater(2, 0, "busy", nil) }))
	o.Attempted = func(out Outcome) {
		select {
		case attempted <- out:
		default:
		}
	}
	q, _ = run(t, o)
	c, err := q.Counts(t.Context())
	if err != nil || c.Pending != int64(*restartMessages) {
		t.Errorf("%+v, %v", c, err)
	}
	ready := time.Since(start)
	<-attempted
	first := time.Since(start)
	t.Logf("%d messages: ready in %v, first attempt after %v, %d MiB resident, %d before", *restartMessages, ready, first, residentMiB(t), before)
	if ready > 10*time.Second || first > 15*time.Second {
		t.Errorf("ready in %v, first attempt after %v", ready, first)
	}
	if now := residentMiB(t); now > 300 {
		t.Errorf("%d MiB resident", now)
	}
}

// residentMiB is the memory of this process.
func residentMiB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}
