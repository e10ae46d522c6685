package sqldir

import (
	"slices"
	"strings"
	"unicode/utf8"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
)

// source is a part of the database in which candidates of a search are.
type source struct {
	query string
	args  []any
	pair  *pair    // what is asked for, if it is who holds one value
	grams []string // of partQuery: the groups of letters that it asks for
}

// plan says where all matches of a test are, and more that must be tested. The
// smaller its rank, the fewer candidates it is likely to have.
type plan struct {
	rank    int
	sources []source
}

// Ranks of plans.
const (
	byValue = iota + 1
	byParts
	byRange
	byChildren // of the base
	byPresence
	byClass // an object class is a value, but nearly every entry has it
	byScan
)

const (
	valueQuery = "SELECT id, path, content FROM value JOIN entry ON id=entry WHERE attr=? AND value=?"
	attrQuery  = "SELECT id, path, content FROM (SELECT DISTINCT entry FROM value WHERE attr=?) JOIN entry ON id=entry"
	rangeQuery = "SELECT id, path, content FROM (SELECT DISTINCT entry FROM value WHERE attr=? AND value>=? AND value<?) JOIN entry ON id=entry"
	partQuery  = "SELECT id, path, content FROM part JOIN entry ON id=part.rowid WHERE part MATCH ?"
	idQuery    = "SELECT id, path, content FROM entry WHERE id=?"
	pathQuery  = "SELECT id, path, content FROM entry WHERE path=?"
	childQuery = "SELECT id, path, content FROM entry WHERE parent=?"
	scanQuery  = "SELECT id, path, content FROM entry WHERE path>=? AND path<?"
)

// beyond sorts after every text that begins with what it is appended to.
const beyond = "\xff"

// plan returns where matches of t are; ok is false if only the whole scope has
// them all.
func (d *Dir) plan(t *test) (p plan, ok bool) {
	switch {
	case t.undefined:
		return plan{rank: byValue}, true // nothing matches
	case t.kind == directory.And:
		for i := range t.children {
			if q, found := d.plan(&t.children[i]); found && (!ok || q.rank < p.rank) {
				p, ok = q, true
			}
		}
		return p, ok
	case t.kind == directory.Or:
		for i := range t.children {
			q, found := d.plan(&t.children[i])
			if !found {
				return plan{}, false
			}
			p.rank = max(p.rank, q.rank)
			p.sources = append(p.sources, q.sources...)
		}
		return p, true
	case t.kind == directory.Not || t.kind == directory.Extensible || t.types == nil:
		return plan{}, false
	}
	for i, a := range t.types {
		q, found := d.planType(t, i, a)
		if !found {
			return plan{}, false
		}
		p.rank = max(p.rank, q.rank)
		p.sources = append(p.sources, q.sources...)
	}
	return p, true
}

func (d *Dir) planType(t *test, i int, a *schema.AttributeType) (plan, bool) {
	k := a.Key()
	switch k {
	case "memberof":
		p := plan{rank: byValue}
		for _, path := range t.members {
			p.sources = append(p.sources, source{query: pathQuery, args: []any{path}})
		}
		return p, t.kind == directory.Equality
	case "hassubordinates", "subschemasubentry":
		return plan{}, false // they are not stored
	case "entrydn":
		if t.kind != directory.Equality {
			return plan{}, false
		}
		dn, err := directory.ParseDN(t.value)
		if err != nil {
			return plan{rank: byValue}, true
		}
		return plan{byValue, []source{{query: pathQuery, args: []any{d.path(dn)}}}}, true
	}
	attribute := plan{byPresence, []source{{query: attrQuery, args: []any{k}}}}
	between := func(from, to string) plan {
		return plan{byRange, []source{{query: rangeQuery, args: []any{k, from, to}}}}
	}
	switch t.kind {
	case directory.Equality:
		p := pair{k, clipped(t.normal[i])}
		rank := byValue
		if k == "objectclass" {
			rank = byClass
		}
		return plan{rank, []source{{query: valueQuery, args: []any{p.attr, p.value}, pair: &p}}}, true
	case directory.GreaterOrEqual:
		return between(clipped(t.normal[i]), beyond), true
	case directory.LessOrEqual:
		return between("", clipped(t.normal[i])+beyond), true
	case directory.Substrings:
		if grams := t.grams(i, a); grams != nil {
			return plan{byParts, []source{{query: partQuery, grams: grams}}}, true
		}
		if t.initial[i] != "" {
			return between(clipped(t.initial[i]), clipped(t.initial[i])+beyond), true
		}
	}
	return attribute, true
}

// maxGrams bounds how many groups of three letters of one search are looked at.
const maxGrams = 32

// grams are the groups of three letters in the parts of the filter. None: no part
// is that long, or there is no such index.
func (t *test) grams(i int, a *schema.AttributeType) []string {
	if !a.Searchable() || a.Operational() {
		return nil
	}
	var found []string
	for _, part := range append([]string{t.initial[i], t.final[i]}, t.any[i]...) {
		letters := []rune(strings.ToLower(part))
		for n := 0; n+3 <= len(letters) && len(found) < maxGrams; n++ {
			gram := string(letters[n : n+3])
			if utf8.ValidString(gram) && !strings.ContainsAny(gram, "\x00\n") && !slices.Contains(found, gram) {
				found = append(found, gram)
			}
		}
	}
	return found
}
