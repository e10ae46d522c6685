package sqldir

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// Search implements directory.Tree. Where ctx ends meanwhile, what was found is
// yielded before the error.
func (d *Dir) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		s, err := d.begin(ctx, q)
		for err == nil {
			if err = s.batch(ctx); err != nil && len(s.found) == 0 {
				break
			}
			for _, e := range s.found {
				e, shownErr := s.show(ctx, e)
				if shownErr != nil {
					err = shownErr
					break
				}
				if !yield(e, nil) {
					return
				}
			}
			if err == nil && len(s.rest) == 0 {
				return
			}
		}
		yield(directory.Entry{}, err)
	}
}

// maxBatch is how many entries are collected before they are yielded: no reader
// of the database is held while the caller takes them, however slowly.
const maxBatch = 1000

// search is one search under way. Later batches are read by number: they are
// tested again, as they may have changed meanwhile.
type search struct {
	dir   *Dir
	q     directory.Query
	base  string
	test  test
	shown selection
	// live: the test is about attributes that are not stored.
	live bool

	started  bool
	seen     map[int64]bool
	rest     []int64 // candidates yet to be read
	found    []*stored
	total    int
	examined int
}

func (d *Dir) begin(ctx context.Context, q directory.Query) (*search, error) {
	s := &search{dir: d, q: q, base: d.path(q.Base), test: d.compile(q.Filter), shown: d.selection(q)}
	if s.live = s.test.live(); s.live {
		if err := d.findMembers(ctx, &s.test); err != nil {
			return nil, err
		}
	}
	if q.Base.IsRoot() && q.Scope != directory.ScopeBase {
		return s, nil
	}
	base, err := d.load(ctx, q.Base)
	if err == nil && base == nil {
		err = d.missing(ctx, q.Base)
	}
	return s, err
}

// missing is the result for an entry that is not there; it tells which above it is.
func (d *Dir) missing(ctx context.Context, dn directory.DN) error {
	r := &directory.ResultError{Code: directory.NoSuchObject, Text: "no such object"}
	for p := dn.Parent(); !p.IsRoot(); p = p.Parent() {
		s, err := d.load(ctx, p)
		if err != nil {
			return err
		}
		if s != nil {
			r.Matched = s.entry.DN
			break
		}
	}
	return r
}

// batch collects the next entries.
func (s *search) batch(ctx context.Context) error {
	s.found = s.found[:0]
	if !s.started {
		s.started = true
		return s.first(ctx)
	}
	return unavailable(s.dir.db.Read(ctx, func(tx *sqlite.Tx) error {
		for len(s.rest) > 0 && len(s.found) < maxBatch {
			id := s.rest[0]
			s.rest = s.rest[1:]
			err := tx.Query("SELECT id, path, content FROM entry WHERE id=?", []any{id}, func(scan func(...any) error) error {
				c, err := s.read(scan)
				if err != nil {
					return err
				}
				return s.take(ctx, tx, c)
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// first finds the candidates, and the first batch of matches among them.
func (s *search) first(ctx context.Context) error {
	d := s.dir
	p, indexed := d.plan(&s.test)
	switch {
	case s.q.Scope == directory.ScopeBase:
		p = plan{byValue, []source{{query: pathQuery, args: []any{s.base}}}}
	case s.q.Scope == directory.ScopeOne && (!indexed || p.rank > byChildren):
		p = plan{byChildren, []source{{query: childQuery, args: []any{s.base}}}}
	case !indexed:
		p = plan{byScan, []source{{query: scanQuery, args: []any{s.base, s.base + beyond}}}}
	}
	if s.recall(ctx, p) {
		return s.full()
	}
	s.seen = map[int64]bool{}
	version := d.cache.version()
	err := d.db.Read(ctx, func(tx *sqlite.Tx) error {
		sources, err := d.resolved(tx, p.sources, version)
		if err != nil {
			return err
		}
		for _, src := range sources {
			var holders []*stored
			err := tx.Query(src.query, src.args, func(scan func(...any) error) error {
				if len(s.found) >= maxBatch {
					return s.postpone(scan)
				}
				c, err := s.read(scan)
				if err != nil {
					return err
				}
				if src.pair != nil && len(holders) <= maxHolders {
					holders = append(holders, c)
				}
				return s.take(ctx, tx, c)
			})
			if err != nil {
				return err
			}
			if src.pair != nil && len(s.rest) == 0 {
				d.cache.keepHolders(*src.pair, holders, version)
			}
		}
		return nil
	})
	if p.rank == byScan && s.examined > maxBatch && s.test.kind != directory.Present {
		d.log.Info("search without an index", "base", s.q.Base.String(), "filter", s.q.Filter.String(), "examined", s.examined,
			"hint", "a part with = , or with three letters beside a *, joined by &, is looked up")
	}
	return unavailable(err)
}

// resolved are the sources with those of groups of letters looked up.
func (d *Dir) resolved(tx *sqlite.Tx, planned []source, version uint64) ([]source, error) {
	if !slices.ContainsFunc(planned, func(s source) bool { return s.grams != nil }) {
		return planned, nil
	}
	var out []source
	for _, s := range planned {
		if s.grams == nil {
			out = append(out, s)
			continue
		}
		narrowed, err := d.narrowed(tx, s.grams, version)
		if err != nil {
			return nil, err
		}
		out = append(out, narrowed...)
	}
	return out, nil
}

// recall serves the candidates from memory, if they are there.
func (s *search) recall(ctx context.Context, p plan) bool {
	if s.live {
		return false
	}
	var candidates []*stored
	if s.q.Scope == directory.ScopeBase {
		e := s.dir.cache.entry(s.base)
		if e == nil {
			return false
		}
		candidates = []*stored{e}
	} else {
		pairs := make([]pair, 0, len(p.sources))
		for _, src := range p.sources {
			if src.pair == nil {
				return false
			}
			pairs = append(pairs, *src.pair)
		}
		var ok bool
		if candidates, ok = s.dir.cache.all(pairs); !ok {
			return false
		}
	}
	if len(candidates) > 1 {
		s.seen = make(map[int64]bool, len(candidates))
	}
	for _, c := range candidates {
		if s.take(ctx, nil, c) != nil {
			break
		}
	}
	return true
}

func (s *search) read(scan func(...any) error) (*stored, error) {
	c := &stored{}
	var raw []byte
	if err := scan(&c.id, &c.path, &raw); err != nil {
		return nil, err
	}
	return c, s.dir.fill(c, raw)
}

// postpone remembers a candidate for a later batch.
func (s *search) postpone(scan func(...any) error) error {
	var id int64
	var path string
	var raw []byte
	if err := scan(&id, &path, &raw); err != nil {
		return err
	}
	if s.within(path) {
		s.rest = append(s.rest, id)
	}
	return nil
}

// within reports whether the entry of that path is in the search's scope.
func (s *search) within(path string) bool {
	below, ok := strings.CutPrefix(path, s.base)
	switch s.q.Scope {
	case directory.ScopeBase:
		return ok && below == ""
	case directory.ScopeOne:
		return ok && strings.Count(below, "\x00") == 1
	}
	return ok
}

// take tests a candidate and keeps it if it matches.
func (s *search) take(ctx context.Context, tx *sqlite.Tx, c *stored) error {
	if s.examined++; s.examined%64 == 0 && ctx.Err() != nil {
		return interrupted(ctx)
	}
	if !s.within(c.path) || s.seen[c.id] {
		return nil
	}
	if s.seen != nil {
		s.seen[c.id] = true
	}
	tested := c
	if s.live {
		var err error
		if tested, err = s.dir.withLive(tx, c); err != nil {
			return err
		}
	}
	if s.dir.matches(tested, &s.test) != yes {
		return nil
	}
	if s.total++; s.q.SizeLimit > 0 && s.total > s.q.SizeLimit {
		return s.full()
	}
	s.found = append(s.found, c)
	return nil
}

// full is the error of a search that passed its size limit.
func (s *search) full() error {
	if s.q.SizeLimit <= 0 || s.total <= s.q.SizeLimit {
		return nil
	}
	return &directory.ResultError{Code: directory.SizeLimitExceeded, Text: "size limit exceeded"}
}

// interrupted is the result of a search whose time is over.
func interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &directory.ResultError{Code: directory.TimeLimitExceeded, Text: "time limit exceeded", Err: ctx.Err()}
	}
	return ctx.Err()
}
