package queue

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummaries(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, _ := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test", "b@far.test"), letter)
		later(time.Hour)
		put(t, q, envelope(t, "s@us.example", "c@far.test"), letter)
		later(time.Second)
		if err := q.Hold(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		got, err := q.Summaries(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || time.Since(got[0].Oldest).Round(time.Minute) != time.Hour || got[0].Next.IsZero() {
			t.Fatalf("%+v", got)
		}
		got[0].Oldest, got[0].Next, got[0].Paused = time.Time{}, time.Time{}, time.Time{}
		want := []Summary{{Destination: "far.test", Counts: Counts{Pending: 2, Held: 1}, Status: "451 4.4.1 no connection"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestFilterByAgeAndReply(t *testing.T) {
	bubble(t, func(t *testing.T, dir string) {
		q, _ := stuck(t, dir)
		put(t, q, envelope(t, "s@us.example", "a@far.test"), letter)
		later(time.Hour)
		put(t, q, envelope(t, "s@us.example", "b@far.test"), letter)
		later(time.Second)
		for name, tt := range map[string]struct {
			filter Filter
			want   int
		}{
			"old":             {Filter{Before: time.Now().Add(-time.Minute)}, 1},
			"any age":         {Filter{Before: time.Now()}, 2},
			"reply":           {Filter{Status: "No Connection"}, 1}, // the second waits for the first one's pause
			"another reply":   {Filter{Status: "greylisted"}, 0},
			"no wildcards":    {Filter{Status: "no%connection"}, 0},
			"old and a reply": {Filter{Before: time.Now().Add(-time.Minute), Status: "451"}, 1},
		} {
			if list, err := q.List(t.Context(), tt.filter); err != nil || len(list) != tt.want {
				t.Errorf("%s: %d entries, %v", name, len(list), err)
			}
		}
	})
}
