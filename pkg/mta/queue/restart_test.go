package queue

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

func TestRestartPicksUp(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(mail.Recipient, int) error { return mail.TryLater(2, 0, "busy", nil) }
		q, stop := run(t, options(dir, h))
		large := letter + strings.Repeat("x", inline) + "\r\n"
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		put(t, q, envelope(t, "s@us.example", "b@far.test", "c@near.test"), large)
		later(time.Second)
		stop()
		if n := countFiles(t, dir); n != 1 {
			t.Errorf("%d message files, want one", n)
		}
		orphan := filepath.Join(dir, "bodies", "00", "00")
		if err := os.MkdirAll(orphan, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(orphan, strings.Repeat("0", 64)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		later(24 * time.Hour)
		h.answer = nil
		_, stop = run(t, options(dir, h))
		later(5 * time.Second)
		for a, want := range map[string]string{"a@far.test": letter, "b@far.test": large, "c@near.test": large} {
			if !bytes.Equal(h.body(a), []byte(want)) {
				t.Errorf("%s got %d bytes, want %d", a, len(h.body(a)), len(want))
			}
		}
		stop()
		if n := countFiles(t, dir); n != 0 {
			t.Errorf("%d message files left", n)
		}
	})
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "bodies"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClockJumpsBounceNothing(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	offset := time.Duration(0)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Round(0).Add(offset)
	}
	attempted := make(chan Outcome, 100)
	o := options(dir, newHop()).withDefaults()
	o.Next = deliverFunc(func(env mail.Envelope) error { return mail.TryLater(2, 0, "busy", nil) })
	o.Attempted = func(out Outcome) { attempted <- out }
	q, err := open(t.Context(), o, now)
	if err != nil {
		t.Fatal(err)
	}
	q.herd = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- q.Serve(ctx) }()
	put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
	<-attempted
	for _, jump := range []time.Duration{365 * 24 * time.Hour, -2 * 365 * 24 * time.Hour} {
		mu.Lock()
		offset += jump
		mu.Unlock()
		q.nudge()
		if out := <-attempted; out.Deferred != 1 {
			t.Errorf("after a jump of %v: %+v", jump, out)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	entries := list(t, q)
	if len(entries) != 1 || entries[0].Recipients[0].Attempts != 3 {
		t.Errorf("%+v", entries)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// deliverFunc answers all recipients alike.
type deliverFunc func(env mail.Envelope) error

func (f deliverFunc) Deliver(_ context.Context, env mail.Envelope, _ mail.Body) []error {
	return mail.All(len(env.To), f(env))
}

func TestShutdownCutsAttemptsOff(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.enter = func(ctx context.Context, _ mail.Envelope) { <-ctx.Done() }
		h.answer = func(mail.Recipient, int) error { return mail.Refuse(0, 0, "cut off") }
		q, stop := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Second)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took < 19*time.Second || took > 21*time.Second {
			t.Errorf("drained in %v, want the grace of 20 s", took)
		}
		h.enter, h.answer = nil, nil
		run(t, options(dir, h))
		later(time.Minute)
		if len(h.body("a@far.test")) == 0 {
			t.Error("the message was lost")
		}
	})
}
