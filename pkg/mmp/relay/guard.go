package relay

import (
	"sync"
	"time"
)

const (
	// tolerated is how many failures in a row shut a store out.
	tolerated = 3
	// A store that was shut out is tried again after firstPause, and after
	// each further failure twice as late, at the most longestPause.
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// guard keeps the users of a dead store from waiting for it: after some
// failures in a row they are refused at once, but for one now and then who
// tries (it is half open). It may be used from many goroutines.
type guard struct {
	now func() time.Time
	// changed is told when the store is shut out, and when it is back.
	changed func(up bool)

	mu       sync.Mutex
	failures int // in a row
	trial    bool
	pause    time.Duration
	until    time.Time
}

// enter reports whether the store may be tried; leave must follow then, with
// the same trial.
func (g *guard) enter() (trial, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures < tolerated {
		return false, true
	}
	if g.trial || g.now().Before(g.until) {
		return false, false
	}
	g.trial = true
	return true, true
}

// leave tells how an attempt went.
func (g *guard) leave(trial, alive bool) {
	g.mu.Lock()
	was := g.failures < tolerated
	if trial {
		g.trial = false
	}
	if alive {
		g.failures, g.pause = 0, 0
	} else if g.failures++; trial || g.failures == tolerated {
		g.pause = min(max(2*g.pause, firstPause), longestPause)
		g.until = g.now().Add(g.pause)
	}
	is := g.failures < tolerated
	g.mu.Unlock()
	if was != is {
		g.changed(is)
	}
}

// up reports whether the store is not shut out.
func (g *guard) up() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures < tolerated
}
