package mail

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTracesAscend: later ones sort behind earlier ones, none comes twice, and
// each is one that a peer may have made.
func TestTracesAscend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[TraceID]bool{}
		last := TraceID("")
		for range 100 {
			next := last
			for range 20 {
				id := NewTraceID()
				if got, ok := ParseTraceID(string(id)); !ok || got != id || seen[id] || id[:8] < last[:min(8, len(last))] {
					t.Fatalf("%s after %s", id, last)
				}
				seen[id], next = true, max(next, id)
			}
			last = next
			time.Sleep(time.Second)
			if id := NewTraceID(); id <= last {
				t.Fatalf("%s a second after %s", id, last)
			}
		}
	})
}
