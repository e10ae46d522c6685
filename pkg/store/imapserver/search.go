package imapserver

import (
	"fmt"
	"strconv"
	"strings"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// searchBatch is how many messages a search holds between two looks at the store.
const searchBatch = 64

// searchRequest is a SEARCH, with what to answer (RFC 4731).
type searchRequest struct {
	extended             bool
	min, max, all, count bool
	// modSeq: the keys ask for MODSEQ, and so the answer tells it.
	modSeq bool
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
	q, err := readSearch(cmd.Args, c.box)
	if err != nil {
		return err
	}
	found, err := c.find(q)
	if err != nil {
		return fmt.Errorf("searching %q: %w", c.box.box.Name(), err)
	}
	var highest store.ModSeq
	if q.modSeq {
		c.grant(condStore)
		if highest, err = c.highestOf(q.returned(found)); err != nil {
			return fmt.Errorf("searching %q: %w", c.box.box.Name(), err)
		}
	}
	numbers := make([]uint32, len(found))
	for n, i := range found {
		numbers[n] = uint32(i + 1)
		if uid {
			numbers[n] = uint32(c.box.uids[i])
		}
	}
	if q.extended {
		c.conn.SetOut(q.appendESearch(c.conn.Out(), cmd.Tag, uid, numbers, highest))
		return nil
	}
	out := append(c.conn.Out(), "* SEARCH"...)
	for _, n := range numbers {
		out = strconv.AppendUint(append(out, ' '), uint64(n), 10)
	}
	if highest > 0 {
		out = append(strconv.AppendUint(append(out, " (MODSEQ "...), uint64(highest), 10), ')')
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

// appendESearch appends an ESEARCH response (RFC 4731 §3.2).
func (q *searchRequest) appendESearch(dst []byte, tag string, uid bool, numbers []uint32, highest store.ModSeq) []byte {
	dst = append(append(append(dst, `* ESEARCH (TAG "`...), tag...), `")`...)
	if uid {
		dst = append(dst, " UID"...)
	}
	if n := len(numbers); n > 0 {
		if q.min {
			dst = strconv.AppendUint(append(dst, " MIN "...), uint64(numbers[0]), 10)
		}
		if q.max {
			dst = strconv.AppendUint(append(dst, " MAX "...), uint64(numbers[n-1]), 10)
		}
		if q.all {
			dst = imapwire.AppendNumSet(append(dst, " ALL "...), numbers)
		}
	}
	if q.count {
		dst = strconv.AppendInt(append(dst, " COUNT "...), int64(len(numbers)), 10)
	}
	if highest > 0 {
		dst = strconv.AppendUint(append(dst, " MODSEQ "...), uint64(highest), 10)
	}
	return append(dst, "\r\n"...)
}

// returned is those of the found messages whose numbers the answer tells, and
// whose ModSeqs count (RFC 7162 §3.1.10).
func (q *searchRequest) returned(found []int) []int {
	if len(found) == 0 || !q.extended || q.all || q.count {
		return found
	}
	var told []int
	if q.min {
		told = append(told, found[0])
	}
	if last := found[len(found)-1]; q.max && (!q.min || last != found[0]) {
		told = append(told, last)
	}
	return told
}

// readSearch reads all arguments of a SEARCH.
func readSearch(l *imapwire.Lexer, v *view) (*searchRequest, error) {
	q := &searchRequest{}
	p := &searchParser{l: l, v: v}
	l.Space()
	word := p.word()
	if word == "RETURN" {
		l.Space()
		q.readReturn(l)
		l.Space()
		word = p.word()
	}
	if word == "CHARSET" {
		l.Space()
		switch charset := l.AString(); {
		case l.Err() != nil, strings.EqualFold(charset, "UTF-8"), strings.EqualFold(charset, "US-ASCII"):
		default:
			return nil, no("BADCHARSET (US-ASCII UTF-8)", "charset is not known")
		}
		l.Space()
		word = p.word()
	}
	q.conditions = p.all(word, 0)
	q.modSeq = p.modSeq
	if err := l.End(); err != nil {
		return nil, bad(err)
	}
	return q, nil
}

func (q *searchRequest) readReturn(l *imapwire.Lexer) {
	q.extended = true
	l.List(func() {
		switch l.Keyword() {
		case "MIN":
			q.min = true
		case "MAX":
			q.max = true
		case "ALL":
			q.all = true
		case "COUNT":
			q.count = true
		default:
			l.Fail("unknown SEARCH result option")
		}
	})
	if !q.min && !q.max && !q.count {
		q.all = true // RFC 4731 §3.1: an empty list asks for all
	}
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
