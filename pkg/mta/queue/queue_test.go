package queue

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// hop is a next hop that answers by address and notes what it got.
type hop struct {
	mu     sync.Mutex
	answer func(r mail.Recipient, attempt int) error // nil: takes all
	tried  map[string][]time.Time                    // by address
	bodies map[string][]byte
	// enter, if not nil, is called at each delivery before it is answered.
	enter func(ctx context.Context, env mail.Envelope)
}

func newHop() *hop { return &hop{tried: make(map[string][]time.Time), bodies: make(map[string][]byte)} }

func (h *hop) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	if h.enter != nil {
		h.enter(ctx, env)
	}
	rc, err := body.Open()
	if err != nil {
		return mail.All(len(env.To), err)
	}
	defer rc.Close()
	text, err := io.ReadAll(rc)
	if err != nil {
		return mail.All(len(env.To), err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := make([]error, len(env.To))
	for i, r := range env.To {
		a := r.Address.String()
		h.tried[a] = append(h.tried[a], time.Now())
		if h.answer != nil {
			errs[i] = h.answer(r, len(h.tried[a]))
		}
		if errs[i] == nil {
			h.bodies[a] = text
		}
	}
	return errs
}

func (h *hop) attempts(a string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tried[a])
}

func (h *hop) body(a string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bodies[a]
}

func options(dir string, next mail.Deliverer) Options {
	return Options{Dir: dir, Next: next, Hostname: "mx.us.example", Log: slog.New(slog.DiscardHandler)}
}

// run opens a queue and serves it until the test, or the returned stop, ends.
func run(t testing.TB, o Options) (q *Queue, stop func()) {
	t.Helper()
	q, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- q.Serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if err := q.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return q, stop
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func envelope(t testing.TB, from string, to ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{From: address(t, from), Proof: mail.LoggedIn, Trace: mail.NewTraceID()}
	for _, s := range to {
		env.To = append(env.To, mail.Recipient{Address: address(t, s)})
	}
	return env
}

func put(t testing.TB, q *Queue, env mail.Envelope, text string) {
	t.Helper()
	for _, err := range q.Deliver(context.Background(), env, mail.Bytes(text)) {
		if err != nil {
			t.Fatal(err)
		}
	}
}

const letter = "From: s@us.example\r\nMessage-ID: <1@us.example>\r\nSubject: x\r\n\r\nhello\r\n"

// bubble runs f in a synctest bubble, with a folder that outlives it.
func bubble(t *testing.T, f func(t *testing.T, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

// later lets the fake clock run.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func list(t testing.TB, q *Queue) []Entry {
	t.Helper()
	entries, err := q.List(context.Background(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestDeliversAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		q, _ := run(t, options(dir, h))
		env := envelope(t, "s@us.example", "a@one.test", `"b c"@one.test`, "d@two.test")
		env.To[0].Mailbox, env.To[0].Flags, env.To[0].SentCopy = "Sent", []string{`\Seen`, "$X"}, true
		env.To[1].Notify, env.To[1].ORCPT = "FAILURE,DELAY", "rfc822;x@y"
		env.SMTPUTF8, env.EightBit, env.Ret, env.EnvID = true, true, "FULL", "id 1"
		var got []mail.Envelope
		h.enter = func(_ context.Context, env mail.Envelope) {
			h.mu.Lock()
			defer h.mu.Unlock()
			got = append(got, env)
		}
		put(t, q, env, letter)
		later(time.Second)
		slices.SortFunc(got, func(a, b mail.Envelope) int { return strings.Compare(a.To[0].Address.Domain, b.To[0].Address.Domain) })
		one, two := env, env
		one.To, two.To = env.To[:2], env.To[2:]
		if diff := cmp.Diff([]mail.Envelope{one, two}, got); diff != "" {
			t.Errorf("envelopes (-want +got):\n%s", diff)
		}
		if b := string(h.body("d@two.test")); b != letter {
			t.Errorf("body %q", b)
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}

func TestExpansion(t *testing.T) {
	large := strings.Repeat("large\r\n", 20_000)
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, n int) error {
			switch r.Address.Local {
			case "team":
				return &mta.Expansion{Messages: []mta.Message{
					{Envelope: envelope(t, "s@us.example", "a@us.example", "b@us.example")},
					{Envelope: envelope(t, "owner@us.example", "x@far.test")},
					{Envelope: envelope(t, "s@us.example", "small@us.example"), Body: mail.Bytes("Subject: small\r\n\r\n")},
					{Envelope: envelope(t, "s@us.example", "large@us.example"), Body: mail.Bytes(large)},
				}}
			case "x":
				return mail.Refuse(1, 1, "gone")
			case "b":
				if n == 1 {
					return mail.TryLater(2, 0, "busy", nil)
				}
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "team@us.example"), letter)
		later(time.Hour)
		got := map[string]int{}
		for a, tried := range h.tried {
			got[a] = len(tried)
		}
		want := map[string]int{"team@us.example": 1, "a@us.example": 1, "b@us.example": 2, "x@far.test": 1, "owner@us.example": 1,
			"small@us.example": 1, "large@us.example": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attempts (-want +got):\n%s", diff)
		}
		if string(h.body("small@us.example")) != "Subject: small\r\n\r\n" || string(h.body("large@us.example")) != large {
			t.Error("a message of the expansion's own is another")
		}
		if string(h.body("b@us.example")) != letter || len(list(t, q)) != 0 {
			t.Errorf("body %q, entries %v", h.body("b@us.example"), list(t, q))
		}
	})
}

func TestHostInTroubleIsLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		down := true
		h.answer = func(r mail.Recipient, _ int) error {
			if down && r.Address.Domain == "dead.test" {
				return mail.TryLater(4, 1, "no connection", nil)
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		for i := range 200 {
			put(t, q, envelope(t, "s@us.example", fmt.Sprintf("u%d@dead.test", i)), letter)
		}
		put(t, q, envelope(t, "s@us.example", "u@good.test"), letter)
		later(3 * time.Minute)
		if n := h.attempts("u@good.test"); n != 1 {
			t.Error("the good destination had to wait for the dead one")
		}
		attempts := 0
		for a := range h.tried {
			attempts += h.attempts(a)
		}
		if attempts > 1+5 {
			t.Errorf("%d attempts at a dead host within its pause", attempts-1)
		}
		h.mu.Lock()
		down = false
		h.mu.Unlock()
		later(15 * time.Minute)
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left after the host came back", n)
		}
	})
}

// TestSlowHostsKeepNobodyWaiting: with every slot taken by hosts that say
// nothing, all others get their mail as if they were alone, and a destination
// that takes mail well gets more at once.
func TestSlowHostsKeepNobodyWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		active, most := 0, 0
		h.enter = func(ctx context.Context, env mail.Envelope) {
			if strings.HasPrefix(env.To[0].Address.Domain, "tar") {
				time.Sleep(5 * time.Minute)
				return
			}
			h.mu.Lock()
			active++
			most = max(most, active)
			h.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			h.mu.Lock()
			active--
			h.mu.Unlock()
		}
		o := options(dir, h)
		o.MaxConcurrent = 50
		q, _ := run(t, o)
		for i := range 100 {
			put(t, q, envelope(t, "s@us.example", fmt.Sprintf("u%d@tar%d.test", i, i%10)), letter)
		}
		later(2 * time.Second)
		for i := range 400 {
			put(t, q, envelope(t, "s@us.example", fmt.Sprintf("u%d@good.test", i)), letter)
		}
		later(5 * time.Second)
		for i := range 400 {
			if h.attempts(fmt.Sprintf("u%d@good.test", i)) != 1 {
				t.Fatalf("%d of 400 messages went out beside silent hosts", i)
			}
		}
		if most != 20 {
			t.Errorf("%d attempts at once to a host that takes them all, want 20", most)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		active, most := map[string]int{}, map[string]int{}
		h.enter = func(_ context.Context, env mail.Envelope) {
			d := env.To[0].Address.Domain
			h.mu.Lock()
			for _, k := range []string{d, "all"} {
				active[k]++
				most[k] = max(most[k], active[k])
			}
			h.mu.Unlock()
			time.Sleep(slowAfter / 2)
			h.mu.Lock()
			active[d]--
			active["all"]--
			h.mu.Unlock()
		}
		o := options(dir, h)
		o.MaxConcurrent, o.MaxPerDestination = 7, 3
		q, _ := run(t, o)
		for i := range 60 {
			put(t, q, envelope(t, "s@us.example", fmt.Sprintf("u%d@d%d.test", i, i%4)), letter)
		}
		later(time.Minute)
		all := most["all"]
		delete(most, "all")
		// Which destinations come to their bound depends on who gets the seven.
		if each := slices.Max(slices.Collect(maps.Values(most))); all != 7 || each != 3 || len(most) != 4 {
			t.Errorf("%d attempts at once, %v; want 7, and 3 to one destination", all, most)
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}
