package queue

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// TestOutageOfOursEndsAtOnce: while the directory, a store or the DNS is away
// nothing bounces and nobody waits longer for it; once it is back, everything
// goes on within five seconds.
func TestOutageOfOursEndsAtOnce(t *testing.T) {
	for _, status := range []mail.Status{
		{Code: 451, Enhanced: [3]int{4, 4, 3}, Text: "the directory does not answer", Err: mail.ErrOutage},
		{Code: 451, Enhanced: [3]int{4, 4, 1}, Text: "the store cannot be reached", Err: fmt.Errorf("dialing: %w", mail.ErrOutage)},
	} {
		t.Run(status.Text, func(t *testing.T) {
			bubble(t, func(t *testing.T, dir string) {
				var down atomic.Bool
				var probes atomic.Int64
				down.Store(true)
				h := newHop()
				h.answer = func(mail.Recipient, int) error {
					if down.Load() {
						probes.Add(1)
						return &status
					}
					return nil
				}
				q, _ := run(t, options(dir, h))
				const domains, each = 10, 20
				var to []string
				for i := range domains * each {
					to = append(to, fmt.Sprintf("u%d@d%d.test", i, i%domains))
					put(t, q, envelope(t, "s@us.example", to[i]), letter)
				}
				later(10 * time.Minute)
				if n := probes.Load(); n > domains*(10*60/3+each) {
					t.Errorf("%d attempts in ten minutes for %d destinations", n, domains)
				}
				for _, e := range list(t, q) {
					if r := e.Recipients[0]; r.State != Pending || r.Attempts > 0 {
						t.Errorf("%s is %v after %d attempts", r.Address, r.State, r.Attempts)
					}
				}
				down.Store(false)
				later(5 * time.Second)
				for _, a := range to {
					if len(h.body(a)) == 0 {
						t.Errorf("%s still waits, %d were delivered", a, len(h.bodies))
						break
					}
				}
				if n := h.attempts("s@us.example"); n > 0 {
					t.Errorf("the sender got %d reports", n)
				}
			})
		})
	}
}

// TestOutageEndsWithTheLifetime: mail that only ever meets an outage is not
// tried for ever, nor as often in the end as at its beginning.
func TestOutageEndsWithTheLifetime(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, _ int) error {
			if r.Address.Domain == "far.test" {
				return mail.ErrOutage
			}
			return nil
		}
		o := options(dir, h)
		o.Lifetime, o.DelayWarning = time.Hour, 30*time.Minute
		q, _ := run(t, o)
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(2 * time.Hour)
		if n := h.attempts("a@far.test"); n < 100 || n > 860 {
			t.Errorf("%d attempts", n)
		}
		if n := h.attempts("s@us.example"); n != 2 || len(list(t, q)) != 0 {
			t.Errorf("%d reports, want the delay and the end; left: %+v", n, list(t, q))
		}
	})
}

// TestConditionOf: one recipient who gets through, or is refused, shows that
// the host is well.
func TestConditionOf(t *testing.T) {
	host := mail.TryLater(4, 1, "no connection", nil)
	ours := mail.TryLater(4, 3, "no directory", mail.ErrOutage)
	tests := []struct {
		errs []error
		want condition
	}{
		{nil, well},
		{[]error{nil}, well},
		{[]error{host}, troubled},
		{[]error{ours}, outage},
		{[]error{host, ours}, outage},
		{[]error{ours, nil}, well},
		{[]error{ours, mail.Refuse(1, 1, "no such user")}, well},
		{[]error{mail.TryLater(2, 2, "full", nil)}, well},
		{[]error{&mail.Status{Code: 550, Enhanced: [3]int{5, 4, 3}, Err: mail.ErrOutage}}, well},
	}
	for _, tt := range tests {
		if got := conditionOf(tt.errs); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.errs, got, tt.want)
		}
	}
}

// TestUnwrittenOutcomeIsNotTriedAgain: while the disk is full what was
// delivered, or refused, is not tried again for want of a note, nor anything
// else; with room, all goes on within five seconds.
func TestUnwrittenOutcomeIsNotTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		h.answer = func(r mail.Recipient, _ int) error {
			if r.Address.Domain == "far.test" {
				return mail.Refuse(1, 1, "no such user")
			}
			return nil
		}
		q, _ := run(t, options(dir, h))
		pages := func(n int) {
			t.Helper()
			if err := q.db.Write(t.Context(), func(tx *sqlite.Tx) error {
				return tx.Query(fmt.Sprint("PRAGMA max_page_count=", n), nil, func(func(...any) error) error { return nil })
			}); err != nil {
				t.Fatal(err)
			}
		}
		hold := make(chan struct{})
		h.enter = func(_ context.Context, env mail.Envelope) {
			if env.To[0].Address.Domain == "far.test" {
				<-hold
			}
		}
		env := envelope(t, "s@us.example", "a@far.test")
		env.Ret = "FULL"
		put(t, q, env, letter+strings.Repeat("x", inline-len(letter)-2)+"\r\n")
		later(time.Second)
		pages(1) // what there is and no page more
		close(hold)
		later(time.Second)
		put(t, q, envelope(t, "s@us.example", "b@near.test"), letter)
		later(20 * time.Second)
		if n, m := h.attempts("a@far.test"), h.attempts("b@near.test"); n != 1 || m != 0 {
			t.Errorf("%d attempts whose outcome could not be written, %d others", n, m)
		}
		pages(1 << 20)
		later(5 * time.Second)
		if n, m, r := h.attempts("a@far.test"), h.attempts("b@near.test"), h.attempts("s@us.example"); n != 1 || m != 1 || r != 1 {
			t.Errorf("with room: %d attempts, %d others, %d reports", n, m, r)
		}
		if left := list(t, q); len(left) > 0 {
			t.Errorf("left: %+v", left)
		}
	})
}
