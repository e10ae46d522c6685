package sqldir

import (
	"context"
	"iter"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// Search implements directory.Tree.
func (d *Dir) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		found, err := d.search(ctx, q)
		for _, e := range found {
			if !yield(project(e, q), nil) {
				return
			}
		}
		if err != nil {
			yield(directory.Entry{}, err)
		}
	}
}

// search collects what matches: a reader is held no longer than that takes,
// however slowly the caller takes the entries.
func (d *Dir) search(ctx context.Context, q directory.Query) ([]directory.Entry, error) {
	base := pathOf(q.Base)
	if !q.Base.IsRoot() || q.Scope == directory.ScopeBase {
		s, found, err := d.load(ctx, q.Base)
		if err == nil {
			err = missing(found)
		}
		if err != nil {
			return nil, err
		}
		if q.Scope == directory.ScopeBase {
			if matches(s.entry, q.Filter) != yes {
				return nil, nil
			}
			return []directory.Entry{s.entry}, nil
		}
	}
	c := &collector{q: q, base: base, seen: map[int64]bool{}}
	pairs, indexed := candidates(q.Filter)
	if indexed && d.recall(pairs, c) {
		return c.out, c.full()
	}
	d.mu.Lock()
	version := d.version
	d.mu.Unlock()
	err := d.db.Read(ctx, func(tx *sqlite.Tx) error {
		switch {
		case indexed:
			return d.byIndex(tx, pairs, c, version)
		case q.Scope == directory.ScopeOne:
			return tx.Query("SELECT id, path, content FROM entry WHERE parent=?", []any{base}, c.row)
		}
		return tx.Query("SELECT id, path, content FROM entry WHERE path>=? AND path<?", []any{base, base + "\xff"}, c.row)
	})
	if err != nil {
		return c.out, unavailable(err)
	}
	return c.out, nil
}

// maxHolders bounds how many holders of one value are remembered: values that
// name something have few, object classes have very many.
const maxHolders = 8

// recall serves the candidates from memory, if those of all pairs are there:
// all from the same state of the directory, or none.
func (d *Dir) recall(pairs []pair, c *collector) bool {
	var all []stored
	d.mu.Lock()
	for _, p := range pairs {
		holders, ok := d.pairs[p]
		if !ok {
			d.mu.Unlock()
			return false
		}
		all = append(all, holders...)
	}
	d.mu.Unlock()
	for _, s := range all {
		if c.take(s) != nil {
			break
		}
	}
	return true
}

// byIndex reads the candidates from the index and remembers them.
func (d *Dir) byIndex(tx *sqlite.Tx, pairs []pair, c *collector, version uint64) error {
	for _, p := range pairs {
		c.holders, c.many = nil, false
		if err := tx.Query("SELECT id, path, content FROM value JOIN entry ON id=entry WHERE attr=? AND value=?",
			[]any{p.attr, p.value}, c.row); err != nil {
			return err
		}
		if c.many {
			continue
		}
		d.mu.Lock()
		if version == d.version {
			if len(d.pairs) >= maxCached {
				clear(d.pairs)
			}
			d.pairs[p] = c.holders
		}
		d.mu.Unlock()
	}
	return nil
}

// collector takes the candidates of a search and keeps those that match.
type collector struct {
	q    directory.Query
	base string
	seen map[int64]bool
	out  []directory.Entry

	holders []stored // the candidates of the pair at hand, for the cache
	many    bool     // they are more than maxHolders
	over    bool     // the size limit was passed
}

func (c *collector) row(scan func(...any) error) error {
	var s stored
	var raw []byte
	if err := scan(&s.id, &s.path, &raw); err != nil {
		return err
	}
	var err error
	if s.entry, err = decode(raw); err != nil {
		return err
	}
	if c.many = c.many || len(c.holders) == maxHolders; !c.many {
		c.holders = append(c.holders, s)
	}
	return c.take(s)
}

func (c *collector) take(s stored) error {
	below, ok := strings.CutPrefix(s.path, c.base)
	if !ok || c.q.Scope == directory.ScopeOne && strings.Count(below, "\x00") != 1 || c.seen[s.id] {
		return nil
	}
	c.seen[s.id] = true
	if matches(s.entry, c.q.Filter) != yes {
		return nil
	}
	if c.q.SizeLimit > 0 && len(c.out) == c.q.SizeLimit {
		c.over = true
		return c.full()
	}
	c.out = append(c.out, s.entry)
	return nil
}

// full is the error of a search that passed its size limit.
func (c *collector) full() error {
	if !c.over {
		return nil
	}
	return &directory.ResultError{Code: directory.SizeLimitExceeded, Text: "size limit exceeded"}
}

func missing(found bool) error {
	if found {
		return nil
	}
	return &directory.ResultError{Code: directory.NoSuchObject, Text: "no such object"}
}

// operational attributes are returned only when they are asked for.
func operational(name string) bool {
	switch strings.ToLower(name) {
	case "entryuuid", "createtimestamp", "modifytimestamp", "authpassword":
		return true
	}
	return false
}

// project keeps the attributes that were asked for. The values are copied: the
// entry may be in the cache.
func project(e directory.Entry, q directory.Query) directory.Entry {
	users, ops := len(q.Attributes) == 0, false
	for _, a := range q.Attributes {
		users, ops = users || a == "*", ops || a == "+"
	}
	out := directory.Entry{DN: e.DN}
	for _, a := range e.Attributes {
		op := operational(a.Name)
		named := slices.ContainsFunc(q.Attributes, func(n string) bool { return strings.EqualFold(n, a.Name) })
		if !named && !(users && !op) && !(ops && op) {
			continue
		}
		kept := directory.Attribute{Name: a.Name}
		if !q.TypesOnly {
			kept.Values = slices.Clone(a.Values)
		}
		out.Attributes = append(out.Attributes, kept)
	}
	return out
}
