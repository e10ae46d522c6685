package imapserver

import (
	"fmt"
	"strings"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// searchBatch is how many messages a search holds between two looks at the store.
const searchBatch = 64

// searchRequest is a SEARCH, with what to answer.
type searchRequest struct {
	searchReturn
	// conditions must all be met; they are in ascending order of cost.
	conditions []condition
}

// search is SEARCH (RFC 3501 §6.4.4), uidSearch UID SEARCH.
func (c *session) search(cmd *imapwire.Command) error    { return c.searchBy(cmd, false) }
func (c *session) uidSearch(cmd *imapwire.Command) error { return c.searchBy(cmd, true) }

func (c *session) searchBy(cmd *imapwire.Command, uid bool) error {
	if err := c.poll(false); err != nil { // flags as they are now
		return err
	}
	q, err := c.readSearch(cmd.Args)
	if err != nil {
		return err
	}
	if c.has(rev2) && !q.extended { // RFC 9051 §7.3.4: there is no other answer
		q.extended, q.all = true, true
	}
	found, err := c.find(q)
	if err != nil {
		if q.save {
			c.box.saved = nil // RFC 5182 §2.1
		}
		return fmt.Errorf("searching %q: %w", c.box.box.Name(), err)
	}
	if err := c.tellFound("SEARCH", cmd.Tag, &q.searchReturn, found, uid); err != nil {
		return fmt.Errorf("searching %q: %w", c.box.box.Name(), err)
	}
	return nil
}

// readSearch reads all arguments of a SEARCH.
func (c *session) readSearch(l *imapwire.Lexer) (*searchRequest, error) {
	q := &searchRequest{}
	p := &searchParser{l: l, v: c.box, uidOnly: c.has(uidOnly)}
	l.Space()
	word := p.word()
	if word == "RETURN" {
		l.Space()
		q.read(l)
		l.Space()
		word = p.word()
	}
	charset := ""
	if word == "CHARSET" {
		if c.has(utf8Accept) { // RFC 6855 §3
			l.Fail("UTF8=ACCEPT knows no other charset")
		}
		l.Space()
		charset = l.AString()
		l.Space()
		word = p.word()
	}
	return q, q.readKeys(p, charset, word)
}

// readAfterCharset reads the charset and the keys of a SORT or THREAD.
func (c *session) readAfterCharset(q *searchRequest, l *imapwire.Lexer) error {
	p := &searchParser{l: l, v: c.box, uidOnly: c.has(uidOnly)}
	charset := l.AString()
	l.Space()
	return q.readKeys(p, charset, p.word())
}

// readKeys reads the keys, the first of which begins with word.
func (q *searchRequest) readKeys(p *searchParser, charset, word string) error {
	if charset != "" && p.l.Err() == nil && !strings.EqualFold(charset, "UTF-8") && !strings.EqualFold(charset, "US-ASCII") {
		return no("BADCHARSET (US-ASCII UTF-8)", "charset is not known")
	}
	q.conditions = p.all(word, 0)
	q.modSeq = p.modSeq
	if p.refused != nil {
		return p.refused
	}
	if err := p.l.End(); err != nil {
		return bad(err)
	}
	return nil
}

// candidate is a message that a condition is put to. m and what follows are
// there if the condition's cost says so.
type candidate struct {
	v    *view
	i    int
	m    *store.Message
	body store.MessageBody
	// parts is nil if the message's table cannot be read.
	parts *mime.Parts
	text  *textFinder
}

// find returns the indexes of the messages that meet all conditions. It looks
// at flags first, at what the store keeps rendered for those left over, and at
// bodies last.
func (c *session) find(q *searchRequest) ([]int, error) {
	var fields store.Fields
	last := costView
	for _, cond := range q.conditions {
		fields |= cond.fields
		last = max(last, cond.cost)
	}
	who := &candidate{v: c.box, text: &textFinder{}}
	var left []int
	for i := range c.box.len() {
		who.i = i
		ok, err := meetsAll(q.conditions, costView, who)
		if err != nil {
			return nil, err
		}
		if ok {
			left = append(left, i)
		}
	}
	if last == costView {
		return left, nil
	}
	var found []int
	for len(left) > 0 {
		batch := left
		if last == costBody {
			batch = left[:min(len(left), searchBatch)]
		}
		left = left[len(batch):]
		some, err := c.runStored(q, batch, fields, last)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// runStored puts the dearer conditions to the messages at indexes.
func (c *session) runStored(q *searchRequest, indexes []int, fields store.Fields, last cost) ([]int, error) {
	v := c.box
	who := &candidate{v: v, text: &textFinder{}}
	var found []int
	var kept []store.Message
	rest := indexes
	for m, err := range v.box.Messages(c.ctx, uidsAt(v, indexes), fields) {
		if err != nil {
			return nil, err
		}
		for len(rest) > 0 && v.uids[rest[0]] < m.UID {
			rest = rest[1:]
		}
		if len(rest) == 0 || v.uids[rest[0]] != m.UID {
			continue
		}
		who.i, who.m = rest[0], m
		ok, err := meetsAll(q.conditions, costStored, who)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, who.i)
			if last == costBody {
				kept = append(kept, cloneMessage(m))
			}
		}
	}
	if last == costStored {
		return found, nil
	}
	matched := found[:0]
	for n, i := range found {
		who.i, who.m = i, &kept[n]
		ok, err := c.meetsBody(q, who)
		if err != nil {
			return nil, err
		}
		if ok {
			matched = append(matched, i)
		}
	}
	return matched, nil
}

// uidsAt is the UIDs of the messages at ascending indexes.
func uidsAt(v *view, indexes []int) store.UIDSet {
	var ranges []store.UIDRange
	for n := 0; n < len(indexes); {
		first := n
		for n++; n < len(indexes) && indexes[n] == indexes[n-1]+1; n++ {
		}
		ranges = append(ranges, store.UIDRange{First: v.uids[indexes[first]], Last: v.uids[indexes[n-1]]})
	}
	return store.NewUIDSet(ranges)
}

func meetsAll(conditions []condition, upTo cost, who *candidate) (bool, error) {
	for _, cond := range conditions {
		if cond.cost != upTo {
			continue
		}
		if ok, err := cond.test(who); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}
