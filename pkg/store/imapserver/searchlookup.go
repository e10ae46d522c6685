package imapserver

import (
	"strings"

	"mailsrv/pkg/store"
)

// maxLookups is how many texts of one search are looked up in the store's index;
// the others are looked for in the messages.
const maxLookups = 32

// lookup is a text that is looked for, and what the store's index says of it.
type lookup struct {
	key store.SearchKey
	// known is what is known of each message of the view; nil: nothing.
	known []verdict
}

// lookUp notes a key's text for the index. field is the name of a header field.
func (p *searchParser) lookUp(word, field string, needle []byte) *lookup {
	l := &lookup{key: store.SearchKey{Field: store.SearchAnywhere, Text: needle}}
	if word != "TEXT" && word != "BODY" {
		for _, f := range store.SearchFields() {
			if strings.EqualFold(string(f), field) {
				l.key.Field = f
			}
		}
		if l.key.Field == store.SearchAnywhere && len(needle) == 0 {
			l.key.Text = store.AppendFold(nil, []byte(field+": ")) // as TEXT finds it
		}
	}
	if len(p.lookups) < maxLookups {
		p.lookups = append(p.lookups, l)
	}
	return l
}

func (l *lookup) quick(_ *view, i int) verdict {
	if l.known == nil {
		return mayBe
	}
	return l.known[i]
}

// lookUpAll asks the store's index, and reports whether it knows anything. A
// search does without if it fails.
func (c *session) lookUpAll(all []*lookup) bool {
	searcher, ok := c.box.box.(store.Searcher)
	if !ok {
		return false
	}
	keys := make([]store.SearchKey, len(all))
	for n, l := range all {
		keys[n] = l.key
	}
	hits, err := searcher.Search(c.ctx, keys)
	if err != nil {
		c.log.Warn("search index not read", "mailbox", c.box.box.Name(), "err", err)
		return false
	}
	if hits.Known.IsEmpty() {
		return false
	}
	for n, l := range all {
		l.known = c.verdicts(&hits, n)
	}
	return true
}

// verdicts is what the index says of key n and each message of the view.
func (c *session) verdicts(hits *store.SearchHits, n int) []verdict {
	v := c.box
	known := make([]verdict, v.len()) // mayBe
	i := 0
	for _, r := range hits.Known {
		for ; i < v.len() && v.uids[i] < r.First; i++ {
		}
		for ; i < v.len() && v.uids[i] <= r.Last; i++ {
			known[i] = isNot
		}
	}
	meets := mayBe
	if hits.Exact[n] {
		meets = is
	}
	v.mark(known, hits.Match[n], meets)
	v.mark(known, hits.Maybe, mayBe)
	return known
}

// mark notes a verdict on those of the messages uids, ascending, that are in the view.
func (v *view) mark(known []verdict, uids []store.UID, what verdict) {
	i := 0
	for _, u := range uids {
		for ; i < v.len() && v.uids[i] < u; i++ {
		}
		if i < v.len() && v.uids[i] == u {
			known[i] = what
		}
	}
}
