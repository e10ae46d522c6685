package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

// stuck is a queue whose far.test never takes anything.
func stuck(t *testing.T, dir string) (*Queue, *hop) {
	h := newHop()
	h.answer = func(r mail.Recipient, _ int) error {
		if r.Address.Domain == "far.test" {
			return mail.TryLater(4, 1, "no connection", nil)
		}
		return nil
	}
	q, _ := run(t, options(dir, h))
	return q, h
}

func TestListFilters(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, _ := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test", "done@near.test"), letter)
		put(t, q, envelope(t, "t@us.example", "b@far.test"), letter)
		put(t, q, envelope(t, "", "c@far.test"), letter)
		later(time.Second)
		if err := q.Flush(t.Context()); err != nil { // the first may have had the others wait
			t.Fatal(err)
		}
		later(time.Second)
		tests := []struct {
			name string
			f    Filter
			want []int64
		}{
			{"all", Filter{}, []int64{1, 2, 3}},
			{"page", Filter{Limit: 2}, []int64{1, 2}},
			{"next page", Filter{Limit: 2, After: 2}, []int64{3}},
			{"from", Filter{From: address(t, "t@us.example")}, []int64{2}},
			{"to", Filter{To: address(t, "c@far.test")}, []int64{3}},
			{"error", Filter{Status: "NO connection"}, []int64{1, 2, 3}},
			{"another error", Filter{Status: "disk"}, nil},
			{"older", Filter{Before: time.Now().Add(-time.Hour)}, nil},
			{"younger", Filter{Before: time.Now().Add(time.Hour)}, []int64{1, 2, 3}},
			{"trace", Filter{Trace: list(t, q)[1].Trace}, []int64{2}},
			{"domain", Filter{Domain: "far.test"}, []int64{1, 2, 3}},
			{"domain that is done", Filter{Domain: "near.test"}, nil},
		}
		for _, tt := range tests {
			entries, err := q.List(t.Context(), tt.f)
			if err != nil {
				t.Fatal(err)
			}
			var got []int64
			for _, e := range entries {
				got = append(got, e.ID)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.name, diff)
			}
		}
		e, body, err := q.Show(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		text, err := readAll(body)
		if err != nil || string(text) != letter {
			t.Errorf("message %q, %v", text, err)
		}
		states := []State{e.Recipients[0].State, e.Recipients[1].State}
		if diff := cmp.Diff([]State{Pending, Delivered}, states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if e.Recipients[0].Status != "451 4.4.1 no connection" {
			t.Errorf("status %q", e.Recipients[0].Status)
		}
		if c, err := q.Counts(t.Context()); err != nil || c != (Counts{Pending: 3}) {
			t.Errorf("counts %+v, %v", c, err)
		}
	})
}

func TestHoldAndRelease(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, h := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Second)
		if err := q.Hold(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		later(30 * 24 * time.Hour)
		if n := h.attempts("a@far.test"); n != 1 {
			t.Errorf("%d attempts while held", n)
		}
		if err := q.Release(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if n := h.attempts("a@far.test"); n != 2 {
			t.Errorf("%d attempts after release", n)
		}
	})
}

func TestFlushEndsPauses(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, h := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Second)
		put(t, q, envelope(t, "s@us.example", "b@far.test"), letter)
		later(time.Second)
		if n := h.attempts("b@far.test"); n != 0 {
			t.Errorf("%d attempts within the pause", n)
		}
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if a, b := h.attempts("a@far.test"), h.attempts("b@far.test"); a+b < 2 {
			t.Errorf("%d and %d attempts after a flush", a, b)
		}
	})
}

func TestDeleteAndReturn(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, h := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter+strings.Repeat("x", inline))
		put(t, q, envelope(t, "s@us.example", "b@far.test", "done@near.test"), letter)
		later(time.Second)
		if err := q.Delete(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if n := countFiles(t, dir); n != 0 {
			t.Errorf("%d message files left", n)
		}
		if err := q.Return(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		later(time.Second)
		if n := h.attempts("s@us.example"); n != 1 {
			t.Errorf("%d reports", n)
		}
		if b := string(h.body("s@us.example")); !strings.Contains(b, "b@far.test") || strings.Contains(b, "done@") || !strings.Contains(b, "returned by the administrator") {
			t.Errorf("report:\n%s", b)
		}
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left", n)
		}
		for name, err := range map[string]error{"delete": q.Delete(t.Context(), 1), "return": q.Return(t.Context(), 7), "hold": q.Hold(t.Context(), 1)} {
			if !errors.Is(err, ErrNoEntry) {
				t.Errorf("%s of no entry: %v", name, err)
			}
		}
	})
}

func TestCommandsRespectAttemptsInFlight(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		h := newHop()
		release := make(chan struct{})
		h.enter = func(context.Context, mail.Envelope) { <-release }
		q, _ := run(t, options(dir, h))
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Second)
		if err := q.Delete(t.Context(), 1); !errors.Is(err, ErrInFlight) {
			t.Errorf("delete in flight: %v", err)
		}
		if err := q.Hold(t.Context(), 1); err != nil {
			t.Error(err)
		}
		close(release)
		later(time.Second)
		if n := len(list(t, q)); n != 0 {
			t.Errorf("%d entries left: a delivery that happened was not written down", n)
		}
	})
}
