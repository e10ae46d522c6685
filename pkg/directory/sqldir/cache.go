package sqldir

import (
	"sync"
	"sync/atomic"
)

// cache holds entries and answers of the index. A write takes out what it has
// changed, and nothing else.
type cache struct {
	mu      sync.Mutex
	writes  atomic.Uint64 // a read that began before the last write is not kept
	entries generations[string, *stored]
	holders generations[pair, []*stored]
}

const (
	// maxCached bounds each of two generations of entries and of answers.
	maxCached = 10_000
	// maxHolders bounds how many holders of one value are remembered: values
	// that name something have few, object classes have very many.
	maxHolders = 8
)

// generations is a map of bounded size: when the young generation is full it
// becomes the old one, and the old one goes; what is used stays young.
type generations[K comparable, V any] struct {
	young, old map[K]V
}

func (g *generations[K, V]) get(k K) (V, bool) {
	v, ok := g.young[k]
	if ok {
		return v, true
	}
	if v, ok = g.old[k]; ok {
		g.put(k, v)
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V) {
	if g.young == nil || len(g.young) >= maxCached {
		g.old, g.young = g.young, make(map[K]V)
	}
	g.young[k] = v
}

func (g *generations[K, V]) drop(k K) {
	delete(g.young, k)
	delete(g.old, k)
}

func (c *cache) version() uint64 { return c.writes.Load() }

func (c *cache) entry(path string) *stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, _ := c.entries.get(path)
	return s
}

// keepEntry remembers an entry that was read at that version.
func (c *cache) keepEntry(s *stored, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.writes.Load() {
		c.entries.put(s.path, s)
	}
}

// all returns the holders of the pairs, if all are remembered: all from the
// same state of the directory.
func (c *cache) all(pairs []pair) (all []*stored, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pairs {
		holders, ok := c.holders.get(p)
		if !ok {
			return nil, false
		}
		all = append(all, holders...)
	}
	return all, true
}

func (c *cache) keepHolders(p pair, holders []*stored, version uint64) {
	if len(holders) > maxHolders {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.writes.Load() {
		c.holders.put(p, holders)
	}
}

// forget takes out what a write has changed. It is called when the write is
// durable and before it is acknowledged.
func (c *cache) forget(t touched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes.Add(1)
	for path := range t.paths {
		c.entries.drop(path)
	}
	for p := range t.pairs {
		c.holders.drop(p)
	}
}

// touched is what a write has changed: entries, and who holds what.
type touched struct {
	paths map[string]bool
	pairs map[pair]bool
}

func newTouched() touched { return touched{map[string]bool{}, map[pair]bool{}} }
