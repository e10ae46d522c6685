package queue

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// TestStart: what a host asks for is tried at once, and nothing else.
func TestStart(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		var down atomic.Bool
		down.Store(true)
		h := newHop()
		h.answer = func(r mail.Recipient, _ int) error {
			if down.Load() {
				return mail.TryLater(4, 1, "no connection", nil)
			}
			return nil
		}
		o := options(dir, h)
		o.Backoff = []time.Duration{time.Hour}
		q, _ := run(t, o)
		for _, to := range []string{"a@kept.test", "b@kept.test", "c@sub.kept.test", "d@unkept.test"} {
			put(t, q, envelope(t, "s@us.example", to), letter)
		}
		later(time.Minute)
		down.Store(false)
		left := func() (names []string) {
			for _, e := range list(t, q) {
				names = append(names, e.Recipients[0].Address.String())
			}
			return names
		}
		for _, step := range []struct {
			domain string
			wide   bool
			n      int
			left   []string
		}{
			{"nothing.test", true, 0, []string{"a@kept.test", "b@kept.test", "c@sub.kept.test", "d@unkept.test"}},
			{"kept.test", false, 2, []string{"c@sub.kept.test", "d@unkept.test"}},
			{"kept.test", true, 1, []string{"d@unkept.test"}},
		} {
			n, err := q.Start(t.Context(), step.domain, step.wide)
			if err != nil || n != step.n {
				t.Errorf("%s: %d, %v", step.domain, n, err)
			}
			later(time.Minute)
			if diff := cmp.Diff(step.left, left()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.domain, diff)
			}
		}
	})
}

// TestHandedIsReported: where the next host will not report success, the queue
// does (RFC 3461 §5.2.2).
func TestHandedIsReported(t *testing.T) {
	for want, answer := range map[string]error{"relayed": &mta.Handed{}, "delivered": &mta.Handed{Final: true}, "": nil} {
		t.Run(want, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				h := newHop()
				h.answer = func(r mail.Recipient, _ int) error {
					if r.Address.Domain == "far.test" {
						return answer
					}
					return nil
				}
				q, _ := run(t, options(dir, h))
				env := envelope(t, "s@us.example", "a@far.test")
				env.EnvID, env.To[0].Notify, env.To[0].ORCPT = "e1", "SUCCESS", "rfc822;old@far.test"
				put(t, q, env, letter)
				later(time.Hour)
				b := string(h.body("s@us.example"))
				if want == "" {
					if b != "" {
						t.Errorf("a report that the next host makes:\n%s", b)
					}
					return
				}
				for _, line := range []string{"Action: " + want, "Status: 2.1.5", "Original-Envelope-Id: e1", "Original-Recipient: rfc822;old@far.test"} {
					if !strings.Contains(b, line) {
						t.Errorf("no %q in\n%s", line, b)
					}
				}
				if n := h.attempts("a@far.test"); n != 1 {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

// TestHoldIsDrained: a message on hold is there soon after the hold has ended,
// however long it was held.
func TestHoldIsDrained(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		var held atomic.Bool
		held.Store(true)
		h := newHop()
		h.answer = func(mail.Recipient, int) error {
			if held.Load() {
				return &mail.Status{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "mailbox is on hold", Err: mta.ErrHold}
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "a@us.example"), letter)
		later(24 * time.Hour)
		if n := len(list(t, q)); n != 1 {
			t.Fatalf("%d entries after a day on hold", n)
		}
		held.Store(false)
		later(retryHeld * 5 / 4)
		if n := len(list(t, q)); n != 0 {
			t.Errorf("still on hold %v after its end", retryHeld*5/4)
		}
	})
}

func TestFlow(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, _ := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test", "done@near.test"), letter)
		later(time.Second)
		if diff := cmp.Diff(Flow{Delivered: 1, Deferred: 1}, q.Flow()); diff != "" {
			t.Error(diff)
		}
		sums, err := q.Summaries(t.Context())
		if err != nil || len(sums) != 1 || sums[0].Active != 0 || !sums[0].Paused.After(time.Now()) {
			t.Errorf("%+v, %v", sums, err)
		}
	})
}
