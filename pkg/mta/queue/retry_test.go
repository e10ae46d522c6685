package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

func TestRetryScheduleAndBounce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, _ int) error {
			if r.Address.Domain == "far.test" {
				return mail.TryLater(2, 0, "busy", nil)
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		start := time.Now()
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(6 * 24 * time.Hour)
		tried := h.tried["a@far.test"]
		waits := []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 78 * time.Minute, 2 * time.Hour, 2 * time.Hour}
		for i, want := range waits {
			got := tried[i+1].Sub(tried[i])
			if got < want*79/100 || got > want*121/100 {
				t.Errorf("wait %d is %v, want %v within a fifth", i+1, got, want)
			}
		}
		last := tried[len(tried)-1].Sub(start)
		if last < 5*24*time.Hour || last > 5*24*time.Hour+3*time.Hour {
			t.Errorf("last attempt after %v", last)
		}
		if n := h.attempts("s@us.example"); n != 2 {
			t.Errorf("the sender got %d reports, want a delay and a bounce", n)
		}
		if b := string(h.body("s@us.example")); !strings.Contains(b, "Action: failed") || !strings.Contains(b, "Status: 5.4.7") {
			t.Errorf("bounce:\n%s", b)
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}

func TestDelayWarningOnce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, n int) error {
			if r.Address.Domain == "far.test" {
				return mail.TryLater(2, 0, "busy", nil)
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		env := envelope(t, "s@us.example", "a@far.test", "b@far.test", "c@far.test")
		env.To[1].Notify = "NEVER"
		env.To[2].Notify = "FAILURE"
		put(t, q, env, letter)
		later(3 * time.Hour)
		if n := h.attempts("s@us.example"); n != 0 {
			t.Fatalf("%d reports after 3 h", n)
		}
		later(24 * time.Hour)
		if n := h.attempts("s@us.example"); n != 1 {
			t.Fatalf("%d reports after a day, want 1", n)
		}
		b := string(h.body("s@us.example"))
		for _, want := range []string{"Action: delayed", "Final-Recipient: rfc822; a@far.test", "Will-Retry-Until:"} {
			if !strings.Contains(b, want) {
				t.Errorf("no %q in\n%s", want, b)
			}
		}
		for _, not := range []string{"b@far.test", "c@far.test"} {
			if strings.Contains(b, not) {
				t.Errorf("%q did not ask for a warning:\n%s", not, b)
			}
		}
	})
}

func TestPermanentFailureBouncesOnce(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, _ int) error {
			if r.Address.Domain == "far.test" && r.Address.Local != "good" {
				return mail.Refuse(1, 1, "no such user")
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		env := envelope(t, "s@us.example", "a@far.test", "good@far.test", "quiet@far.test")
		env.To[2].Notify = "NEVER"
		put(t, q, env, letter)
		put(t, q, envelope(t, "", "nobody@far.test"), letter) // a bounce bounces nowhere
		later(24 * time.Hour)
		if n := h.attempts("a@far.test"); n != 1 {
			t.Errorf("%d attempts after a permanent refusal", n)
		}
		if n := h.attempts("s@us.example"); n != 1 {
			t.Errorf("%d bounces", n)
		}
		if b := string(h.body("s@us.example")); strings.Contains(b, "good@") || strings.Contains(b, "quiet@") || !strings.Contains(b, "Status: 5.1.1") {
			t.Errorf("bounce:\n%s", b)
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}

func TestSuccessIsReportedWhereItIsFinal(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		q, _ := run(t, options(dir, h))
		env := envelope(t, "s@us.example", "a@us.example", "b@us.example", "c@far.test")
		env.Ret = "FULL"
		for i, notify := range []string{"SUCCESS,FAILURE", "", "SUCCESS"} {
			env.To[i].Notify = notify
		}
		env.To[0].Mailbox, env.To[1].Mailbox = "INBOX", "INBOX"
		put(t, q, env, letter)
		later(time.Minute)
		if n := h.attempts("s@us.example"); n != 1 {
			t.Fatalf("%d reports, want 1", n)
		}
		b := string(h.body("s@us.example"))
		if !strings.Contains(b, "Action: delivered") || !strings.Contains(b, "a@us.example") || strings.Contains(b, "b@us.example") || strings.Contains(b, "c@far.test") || strings.Contains(b, "hello") {
			t.Errorf("report:\n%s", b)
		}
	})
}

func TestUnknownErrorIsTransient(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(_ mail.Recipient, n int) error {
			switch n {
			case 1:
				return errors.New("what")
			case 2:
				panic("boom")
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Hour)
		if n := h.attempts("a@far.test"); n != 3 || len(list(t, q)) != 0 {
			t.Errorf("%d attempts, entries %v", n, list(t, q))
		}
	})
}

func TestHoldOfTheDirectoryOutlivesTheLifetime(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		held := true
		h.answer = func(r mail.Recipient, _ int) error {
			if held {
				return &mail.Status{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "hold", Err: mta.ErrHold}
			}
			return nil
		}
		o := options(dir, h)
		o.Lifetime = 6 * time.Hour
		q, _ := run(t, o)
		put(t, q, envelope(t, "s@us.example", "a@us.example"), letter)
		later(12 * time.Hour)
		if len(list(t, q)) != 1 || h.attempts("s@us.example") != 0 {
			t.Fatalf("after 12 hours: %+v, %d reports", list(t, q), h.attempts("s@us.example"))
		}
		h.mu.Lock()
		held = false
		h.mu.Unlock()
		later(3 * time.Hour)
		if len(list(t, q)) != 0 {
			t.Error("not delivered once active")
		}
	})
}

// TestDueDuringAnotherAttempt: the recipients of a message have times of their
// own. One that becomes due while another of the same message and destination is
// tried is tried as soon as that attempt has ended.
func TestDueDuringAnotherAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(_ mail.Recipient, attempt int) error {
			if attempt == 1 {
				return mail.TryLater(2, 0, "not now", nil)
			}
			return nil
		}
		calls := 0
		h.enter = func(context.Context, mail.Envelope) {
			if calls++; calls == 2 {
				time.Sleep(10 * time.Minute) // all others are due before it ends
			}
		}
		q, _ := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "a@them.example", "b@them.example", "c@them.example"), letter)
		later(17 * time.Minute)
		for _, a := range []string{"a@them.example", "b@them.example", "c@them.example"} {
			if n := h.attempts(a); n != 2 {
				t.Errorf("%s was tried %d times", a, n)
			}
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
	})
}
