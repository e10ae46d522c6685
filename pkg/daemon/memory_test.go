package daemon

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

func TestIdleMemory(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		before, now memoryUse
		want        bool
	}{
		"after a burst": {memoryUse{held: 120 * mib, live: 20 * mib, cycles: 7}, memoryUse{held: 120 * mib, live: 20 * mib, cycles: 7}, true},
		"busy":          {memoryUse{held: 120 * mib, live: 20 * mib, cycles: 6}, memoryUse{held: 120 * mib, live: 20 * mib, cycles: 7}, false},
		"small":         {memoryUse{held: 20 * mib, live: 5 * mib, cycles: 7}, memoryUse{held: 20 * mib, live: 5 * mib, cycles: 7}, false},
		"large":         {memoryUse{held: 1400 * mib, live: 1000 * mib, cycles: 7}, memoryUse{held: 1400 * mib, live: 1000 * mib, cycles: 7}, false},
	} {
		if got := tt.now.idle(tt.before); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestDeepStacks: goroutines that needed much of their stack once give it back.
func TestDeepStacks(t *testing.T) {
	const n = 500
	ctx, cancel := context.WithCancel(t.Context())
	var rest sync.WaitGroup
	ready, done := make(chan struct{}), make(chan struct{})
	for range n {
		rest.Go(func() {
			deepStack(200)
			ready <- struct{}{}
			<-done
		})
	}
	for range n {
		<-ready
	}
	full := readMemory()
	if full.stacks < n*32<<10 {
		t.Fatalf("stacks take %d bytes, and were to take more", full.stacks)
	}
	var giver sync.WaitGroup
	giver.Go(func() { _ = returnMemory(ctx) })
	for deadline := time.Now().Add(20 * time.Second); readMemory().stacks > full.stacks/3; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("stacks still take %d bytes of %d", readMemory().stacks, full.stacks)
		}
	}
	cancel()
	giver.Wait()
	close(done)
	rest.Wait()
}

func deepStack(n int) byte {
	var page [256]byte
	if n > 0 {
		page[n] = deepStack(n - 1)
	}
	return page[n/2]
}

// TestReadMemory: the runtime knows what we ask for, and giving memory back is
// seen in it.
func TestReadMemory(t *testing.T) {
	waste := make([]byte, 64<<20)
	for i := 0; i < len(waste); i += 4096 {
		waste[i] = 1
	}
	full := readMemory()
	if waste[4096] != 1 || full.held < 64<<20 || full.live == 0 {
		t.Fatalf("%+v", full)
	}
	waste = nil
	_ = waste
	debug.FreeOSMemory()
	if now := readMemory(); now.held > full.held-(32<<20) || now.cycles == full.cycles {
		t.Errorf("%+v after %+v", now, full)
	}
}
