package daemon

import (
	"context"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"time"
)

const (
	// memoryEvery is how often the daemon looks whether memory lies idle.
	memoryEvery = 400 * time.Millisecond
	// memorySpare is what it always keeps, in bytes.
	memorySpare = 16 << 20
)

// memoryUse is what the runtime says of the heap, in bytes; cycles counts
// garbage collections.
type memoryUse struct {
	held   uint64 // from the system
	live   uint64 // when it was last collected
	stacks uint64
	cycles uint64
}

// idle reports whether much memory is held for nothing, in a process that rests:
// a burst of logins, each of which takes 19 MiB to hash its password, leaves
// that behind.
func (m memoryUse) idle(before memoryUse) bool {
	return m.cycles == before.cycles && m.held > m.live+max(memorySpare, m.live/2)
}

// deep reports whether many goroutines that rest may have large stacks: those of
// connections that logged in, which took a deep one. A collection makes them
// half as large, unless they are used.
func (m memoryUse) deep(before memoryUse) bool {
	return m.cycles == before.cycles && m.stacks > memorySpare/2
}

func readMemory() memoryUse {
	s := []rtmetrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	rtmetrics.Read(s)
	n := func(i int) uint64 {
		if s[i].Value.Kind() != rtmetrics.KindUint64 {
			return 0
		}
		return s[i].Value.Uint64()
	}
	return memoryUse{held: n(0) + n(1) + n(2), live: n(3), cycles: n(4), stacks: n(5)}
}

// returnMemory gives the system back what lies idle, until ctx ends.
func returnMemory(ctx context.Context) error {
	ticker := time.NewTicker(memoryEvery)
	defer ticker.Stop()
	before, shrunk := readMemory(), uint64(0) // shrunk: what the stacks came down to
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := readMemory()
		if now.idle(before) || now.deep(before) && now.stacks > shrunk+shrunk/8 {
			for { // each collection halves what it can
				stacks := now.stacks
				debug.FreeOSMemory()
				if now = readMemory(); now.stacks >= stacks-stacks/8 {
					break
				}
			}
			shrunk = now.stacks
		}
		before = now
	}
}
