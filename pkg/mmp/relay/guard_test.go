package relay

import (
	"slices"
	"testing"
	"time"
)

func TestGuard(t *testing.T) {
	now := time.Unix(0, 0)
	var told []bool
	g := &guard{now: func() time.Time { return now }, changed: func(up bool) { told = append(told, up) }}
	attempt := func(alive bool) bool {
		trial, ok := g.enter()
		if ok {
			g.leave(trial, alive)
		}
		return ok
	}
	attempt(false)
	attempt(false)
	attempt(true) // not in a row
	for range tolerated {
		if !attempt(false) {
			t.Fatal("refused before it was shut out")
		}
	}
	if attempt(true) || !slices.Equal(told, []bool{false}) {
		t.Fatalf("not shut out: %v", told)
	}
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		now = now.Add(pause*time.Second - 1)
		if attempt(true) {
			t.Fatalf("tried before %d s had passed", pause)
		}
		now = now.Add(1)
		trial, ok := g.enter()
		if !ok || !trial {
			t.Fatalf("nobody may try after %d s", pause)
		}
		if attempt(true) {
			t.Fatal("two try at once")
		}
		g.leave(trial, false)
	}
	now = now.Add(30 * time.Second)
	if first, second := attempt(true), attempt(true); !first || !second || !slices.Equal(told, []bool{false, true}) {
		t.Errorf("not back: %v", told)
	}
	for range tolerated {
		attempt(false)
	}
	g.leave(false, true) // a probe
	if !attempt(true) || !slices.Equal(told, []bool{false, true, false, true}) {
		t.Errorf("not back after a probe: %v", told)
	}
}
