package sqldir

import (
	"slices"
	"strings"
	"sync"

	"mailsrv/pkg/sqlite"
)

const (
	// maxPosting is how many entries a group of letters may have to be rare: only
	// of these is it known which, and a search is narrowed by them alone. What they
	// leave is tested in any case.
	maxPosting = 2048
	// maxPostings bounds the groups that are remembered, and maxRemembered their
	// entries: 8 bytes each.
	maxPostings   = 20_000
	maxRemembered = 1_000_000
	// fewGrams is how many groups are looked for where all are frequent.
	fewGrams = 3
)

// postings are the entries that have a group of three letters, as they were at a
// version of the directory; nil: more than maxPosting.
type postings struct {
	mu      sync.Mutex
	version uint64
	of      map[string][]int64
	size    int // of all of them
}

// narrowed are the sources of the candidates of a search for parts. version is of
// before tx began.
func (d *Dir) narrowed(tx *sqlite.Tx, grams []string, version uint64) ([]source, error) {
	var ids []int64
	rare := false
	for _, g := range grams {
		list, err := d.posting(tx, g, version)
		switch {
		case err != nil:
			return nil, err
		case list == nil:
			continue
		case !rare:
			ids, rare = slices.Clone(list), true
		default:
			ids = slices.DeleteFunc(ids, func(id int64) bool {
				_, found := slices.BinarySearch(list, id)
				return !found
			})
		}
		if rare && len(ids) <= 1 {
			break // no other group makes it cheaper
		}
	}
	if !rare {
		return []source{{query: partQuery, args: []any{match(grams[:min(len(grams), fewGrams)])}}}, nil
	}
	sources := make([]source, len(ids))
	for i, id := range ids {
		sources[i] = source{query: idQuery, args: []any{id}}
	}
	return sources, nil
}

// posting is the entries of a group, in order of their numbers.
func (d *Dir) posting(tx *sqlite.Tx, gram string, version uint64) ([]int64, error) {
	p := &d.postings
	p.mu.Lock()
	if p.of == nil || p.version != version || len(p.of) >= maxPostings || p.size > maxRemembered {
		p.of, p.version, p.size = map[string][]int64{}, version, 0
	}
	list, known := p.of[gram]
	p.mu.Unlock()
	if known {
		return list, nil
	}
	list = make([]int64, 0, 8)
	err := tx.Query("SELECT rowid FROM part WHERE part MATCH ? ORDER BY rowid LIMIT ?", []any{match([]string{gram}), maxPosting + 1}, func(scan func(...any) error) error {
		var id int64
		err := scan(&id)
		list = append(list, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(list) > maxPosting {
		list = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == version {
		p.of[gram] = list
		p.size += len(list)
	}
	return list, nil
}

// match is the question of all the groups to the index of parts.
func match(grams []string) string {
	quoted := make([]string, len(grams))
	for i, g := range grams {
		quoted[i] = `"` + strings.ReplaceAll(g, `"`, `""`) + `"`
	}
	return strings.Join(quoted, " AND ")
}
