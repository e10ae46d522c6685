package imapserver

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// searchRequest is a SEARCH, with what to answer.
type searchRequest struct {
	searchReturn
	// conditions must all be met; they are in ascending order of cost.
	conditions []condition
	// lookups are what the store's index may know of them.
	lookups []*lookup
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
	found, err := c.find(cmd.Tag, q)
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
	return c.readProgram(l, &searchParser{l: l, v: c.box, uidOnly: c.has(uidOnly)})
}

// readSearchIn reads those of an ESEARCH in a mailbox. Its messages have no numbers.
func (c *session) readSearchIn(v *view, l *imapwire.Lexer) (*searchRequest, error) {
	q, err := c.readProgram(l, &searchParser{l: l, v: v, uidOnly: true})
	if err == nil && !q.extended {
		q.extended, q.all = true, true
	}
	return q, err
}

// readProgram reads the result options, the charset and the keys.
func (c *session) readProgram(l *imapwire.Lexer, p *searchParser) (*searchRequest, error) {
	q := &searchRequest{}
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
	q.modSeq, q.lookups = p.modSeq, p.lookups
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
	body io.ReaderAt
	// parts is nil if the message's table cannot be read.
	parts *mime.Parts
	text  *store.SearchText
}

// find returns the indexes of the messages that meet all conditions. It looks
// at flags first, then into the store's index, at what the store keeps rendered
// for those left over, and at bodies last.
func (c *session) find(tag string, q *searchRequest) ([]int, error) {
	left, found := c.sift(q.conditions, nil)
	if len(left) > fewLeft && len(q.lookups) > 0 && c.lookUpAll(q.lookups) {
		left, found = c.sift(q.conditions, append(left, found...))
	}
	c.begins(tag, len(left))
	for _, what := range [...]cost{costStored, costBody} {
		var err error
		if left, err = c.runStored(q.conditions, left, what); err != nil {
			return nil, err
		}
	}
	found = append(found, left...)
	slices.Sort(found)
	return found, nil
}

// fewLeft is how many messages are read without a look into the index.
const fewLeft = 8

// sift tells the messages that are to be read from those that are found without;
// among is where to look, and nil all of the view.
func (c *session) sift(conditions []condition, among []int) (left, found []int) {
	put := func(i int) {
		switch quickAll(conditions, c.box, i) {
		case mayBe:
			left = append(left, i)
		case is:
			found = append(found, i)
		}
	}
	if among == nil {
		for i := range c.box.len() {
			put(i)
		}
		return left, found
	}
	slices.Sort(among)
	for _, i := range among {
		put(i)
	}
	return left, found
}

// runStored returns which of the messages at indexes meet those of the
// conditions that have that cost.
func (c *session) runStored(conditions []condition, indexes []int, what cost) ([]int, error) {
	var fields store.Fields
	some := false
	for _, cond := range conditions {
		if cond.cost == what {
			fields, some = fields|cond.fields, true
		}
	}
	if !some || len(indexes) == 0 {
		return indexes, nil
	}
	if what == costBody {
		fields |= store.FieldText
	}
	v := c.box
	who := &candidate{v: v, text: &store.SearchText{}}
	var found []int
	rest := indexes
	for m, err := range v.box.Messages(c.ctx, uidsAt(v, indexes), fields) {
		if err != nil {
			return nil, err
		}
		c.goesOn(1)
		for len(rest) > 0 && v.uids[rest[0]] < m.UID {
			rest = rest[1:]
		}
		if len(rest) == 0 || v.uids[rest[0]] != m.UID {
			continue
		}
		who.i, who.m = rest[0], m
		test := meetsAll
		if what == costBody {
			test = c.meetsBody
		}
		ok, err := test(conditions, what, who)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, who.i)
		}
	}
	return found, nil
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
