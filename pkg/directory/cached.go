package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
)

// CacheOptions say how long answers of a directory elsewhere count.
type CacheOptions struct {
	// Positive is for what was found, Negative for that nothing was; 0: not at all.
	Positive, Negative time.Duration
	// Stale is how old an answer may be that routes mail while the directory is
	// away; 0: none does.
	Stale time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Cached is a directory elsewhere whose answers are remembered for a while. What
// proves who somebody is never is: binds, and searches that ask for a secret.
// Changes made through it forget everything. It may be used from many goroutines.
type Cached struct {
	tree Tree
	o    CacheOptions

	mu         sync.Mutex
	forgotten  uint64 // an answer to a question from before is not kept
	young, old map[string]answer
}

// answer is what a search found; err is nil or ErrNotFound.
type answer struct {
	at      time.Time
	entries []Entry
	err     error
}

const (
	// maxAnswers bounds each of two generations of answers.
	maxAnswers = 10_000
	// maxAnswer bounds the entries of an answer that is remembered.
	maxAnswer = 64
)

// NewCached returns the cache of a tree, which is an Editor if the tree is.
func NewCached(tree Tree, o CacheOptions) Tree {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Cached{tree: tree, o: o, young: map[string]answer{}}
	if e, ok := tree.(Editor); ok {
		return &cachedEditor{c, e}
	}
	return c
}

// Uncached is the tree itself.
func (c *Cached) Uncached() Tree { return c.tree }

// Bind implements Tree; it is never remembered.
func (c *Cached) Bind(ctx context.Context, dn DN, password string) error {
	return c.tree.Bind(ctx, dn, password)
}

// Search implements Tree.
func (c *Cached) Search(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	if !cacheable(q) {
		return c.tree.Search(ctx, q)
	}
	return func(yield func(Entry, error) bool) {
		key := questionKey(q)
		a, since, known := c.find(key)
		if !known || c.o.Now().Sub(a.at) >= c.lifetime(a) {
			fresh := c.ask(ctx, q)
			switch {
			case fresh.err == nil || errors.Is(fresh.err, ErrNotFound):
				c.keep(key, fresh, since)
				a = fresh
			case q.Routing && known && errors.Is(fresh.err, ErrUnavailable) && ctx.Err() == nil && c.o.Now().Sub(a.at) <= c.o.Stale:
			default:
				a = fresh
			}
		}
		for _, e := range a.entries {
			// What the caller does with the slices must not be seen by the next.
			e.Attributes = slices.Clone(e.Attributes)
			if !yield(e, nil) {
				return
			}
		}
		if a.err != nil {
			yield(Entry{}, a.err)
		}
	}
}

// cacheable reports whether an answer may be remembered: a few entries, and no
// secrets.
func cacheable(q Query) bool {
	return !slices.ContainsFunc(q.Attributes, func(n string) bool {
		return strings.EqualFold(n, "userPassword") || strings.EqualFold(n, SCRAMAttribute) || n == "+"
	}) && (q.Scope == ScopeBase || q.SizeLimit > 0 && q.SizeLimit <= maxAnswer)
}

func questionKey(q Query) string {
	return fmt.Sprintf("%d\x00%d\x00%t\x00%s\x00%s\x00%s", q.Scope, q.SizeLimit, q.TypesOnly, q.Base.Normal(), q.Filter.String(), strings.Join(q.Attributes, ","))
}

func (c *Cached) lifetime(a answer) time.Duration {
	if len(a.entries) == 0 {
		return c.o.Negative
	}
	return c.o.Positive
}

// ask asks the directory. An answer that is cut short by its size is none that can
// be remembered: its error stays.
func (c *Cached) ask(ctx context.Context, q Query) answer {
	a := answer{at: c.o.Now()}
	for e, err := range c.tree.Search(ctx, q) {
		if err != nil {
			a.err = err
			break
		}
		a.entries = append(a.entries, e)
	}
	return a
}

func (c *Cached) find(key string) (a answer, since uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok = c.young[key]; !ok {
		a, ok = c.old[key]
	}
	return a, c.forgotten, ok
}

func (c *Cached) keep(key string, a answer, since uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since != c.forgotten {
		return
	}
	if len(c.young) >= maxAnswers {
		c.old, c.young = c.young, map[string]answer{}
	}
	c.young[key] = a
}

func (c *Cached) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	c.old, c.young = nil, map[string]answer{}
}

// cachedEditor is a Cached over an Editor.
type cachedEditor struct {
	*Cached
	editor Editor
}

var _ Editor = (*cachedEditor)(nil)

// Add implements Editor.
func (c *cachedEditor) Add(ctx context.Context, e Entry) error {
	defer c.forget()
	return c.editor.Add(ctx, e)
}

// Modify implements Editor.
func (c *cachedEditor) Modify(ctx context.Context, dn DN, changes []Change) error {
	defer c.forget()
	return c.editor.Modify(ctx, dn, changes)
}

// Delete implements Editor.
func (c *cachedEditor) Delete(ctx context.Context, dn DN) error {
	defer c.forget()
	return c.editor.Delete(ctx, dn)
}

// Rename implements Editor.
func (c *cachedEditor) Rename(ctx context.Context, dn DN, rdn RDN, deleteOld bool, superior *DN) error {
	defer c.forget()
	return c.editor.Rename(ctx, dn, rdn, deleteOld, superior)
}
