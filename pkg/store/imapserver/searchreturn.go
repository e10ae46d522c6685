package imapserver

import (
	"slices"
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// searchReturn is what a SEARCH or SORT answers with: the list of old, or the
// result options of RFC 4731, RFC 5182 (SAVE) and RFC 9394 (PARTIAL).
type searchReturn struct {
	extended             bool
	min, max, all, count bool
	// save: the result is kept for "$".
	save bool
	// partial is the wanted piece of the result; nil: none.
	partial *partialRange
	// modSeq: the keys ask for MODSEQ, and so the answer tells it.
	modSeq bool
}

// read reads the options in their parentheses.
func (q *searchReturn) read(l *imapwire.Lexer) {
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
		case "SAVE":
			q.save = true
		case "PARTIAL":
			l.Space()
			q.partial = readPartialRange(l)
		default:
			l.Fail("unknown SEARCH result option")
		}
	})
	switch {
	case q.partial != nil && q.all:
		l.Fail("PARTIAL and ALL exclude each other") // RFC 9394 §3.1
	case !q.min && !q.max && !q.count && !q.save && q.partial == nil:
		q.all = true // RFC 4731 §3.1: an empty list asks for all
	}
}

// told is those of the found messages whose numbers the answer tells or SAVE
// keeps (RFC 5182 §2.4, RFC 7162 §3.1.10); found is in the order of the answer.
func (q *searchReturn) told(found []int) []int {
	if len(found) == 0 || !q.extended || q.all || q.count || !q.min && !q.max && q.partial == nil {
		return found
	}
	var told []int
	if q.min {
		told = append(told, found[0])
	}
	if q.max {
		told = append(told, found[len(found)-1])
	}
	if q.partial != nil {
		from, to := q.partial.of(len(found))
		told = append(told, found[from:to]...)
	}
	slices.Sort(told)
	return slices.Compact(told)
}

// tellFound writes the answer for messages found in order: ascending, or as
// SORT has put them. word is SEARCH or SORT.
func (c *session) tellFound(word, tag string, q *searchReturn, found []int, uid bool) error {
	v := c.box
	var highest store.ModSeq
	if q.modSeq {
		c.grant(condStore)
		var err error
		if highest, err = c.highestOf(q.told(found)); err != nil {
			return err
		}
	}
	if q.save {
		kept := slices.Clone(q.told(found))
		slices.Sort(kept)
		v.saved = uidsAt(v, kept)
	}
	numbers := make([]uint32, len(found))
	for n, i := range found {
		numbers[n] = uint32(i + 1)
		if uid {
			numbers[n] = uint32(v.uids[i])
		}
	}
	if q.extended {
		if q.min || q.max || q.all || q.count || q.partial != nil {
			c.conn.SetOut(q.appendESearch(c.conn.Out(), tag, "", uid, numbers, highest))
		}
		return nil
	}
	out := append(append(c.conn.Out(), "* "...), word...)
	for _, n := range numbers {
		out = strconv.AppendUint(append(out, ' '), uint64(n), 10)
	}
	if highest > 0 {
		out = append(strconv.AppendUint(append(out, " (MODSEQ "...), uint64(highest), 10), ')')
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

// appendESearch appends an ESEARCH response (RFC 4731 §3.2); place says which
// mailbox it is about, if that is not the selected one.
func (q *searchReturn) appendESearch(dst []byte, tag, place string, uid bool, numbers []uint32, highest store.ModSeq) []byte {
	dst = append(append(append(dst, `* ESEARCH (TAG "`...), tag...), '"')
	dst = append(append(dst, place...), ')')
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
	if q.partial != nil {
		dst = q.partial.append(append(dst, " PARTIAL ("...))
		if from, to := q.partial.of(len(numbers)); from < to {
			dst = imapwire.AppendNumSet(append(dst, ' '), numbers[from:to])
		} else {
			dst = append(dst, " NIL"...)
		}
		dst = append(dst, ')')
	}
	if q.count {
		dst = strconv.AppendInt(append(dst, " COUNT "...), int64(len(numbers)), 10)
	}
	if highest > 0 {
		dst = strconv.AppendUint(append(dst, " MODSEQ "...), uint64(highest), 10)
	}
	return append(dst, "\r\n"...)
}

// partialRange is a piece of a result by its places, from 1; fromEnd counts
// them from the last backwards (RFC 9394 §3.1).
type partialRange struct {
	first, last uint32
	fromEnd     bool
}

// readPartialRange reads 1:500 or -1:-500.
func readPartialRange(l *imapwire.Lexer) *partialRange {
	r := &partialRange{fromEnd: l.Take('-')}
	r.first = l.Number()
	l.Expect(':')
	if l.Take('-') != r.fromEnd {
		l.Fail("both ends of a partial range have the same sign")
	}
	r.last = l.Number()
	if r.first == 0 || r.last == 0 {
		l.Fail("places begin with 1")
	}
	return r
}

// of is where in n results the piece is.
func (r *partialRange) of(n int) (from, to int) {
	low, high := int(min(r.first, r.last)), int(max(r.first, r.last))
	if r.fromEnd {
		return max(n-high, 0), max(n-low+1, 0)
	}
	return min(low-1, n), min(high, n)
}

// append appends the piece as the client asked for it.
func (r *partialRange) append(dst []byte) []byte {
	sign := ""
	if r.fromEnd {
		sign = "-"
	}
	dst = strconv.AppendUint(append(dst, sign...), uint64(r.first), 10)
	return strconv.AppendUint(append(append(dst, ':'), sign...), uint64(r.last), 10)
}
