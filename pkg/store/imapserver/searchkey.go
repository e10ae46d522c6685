package imapserver

import (
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

const (
	maxSearchKeys  = 1000
	maxSearchDepth = 50
)

// cost is what must be read to put a condition to a message.
type cost int

const (
	costView   cost = iota // nothing but the view
	costStored             // what the store keeps of the message
	costBody               // the message itself
)

// verdict is what is known of a message and a condition before the message is read.
type verdict int8

const (
	isNot verdict = iota - 1
	mayBe
	is
)

func verdictOf(ok bool) verdict {
	if ok {
		return is
	}
	return isNot
}

// condition is a search key.
type condition struct {
	cost   cost
	fields store.Fields
	// quick decides by the view and the store's index alone, if it can.
	quick func(v *view, i int) verdict
	test  func(*candidate) (bool, error)
}

func viewCondition(test func(v *view, i int) bool) condition {
	return condition{
		quick: func(v *view, i int) verdict { return verdictOf(test(v, i)) },
		test:  func(who *candidate) (bool, error) { return test(who.v, who.i), nil },
	}
}

func storedCondition(fields store.Fields, test func(m *store.Message) bool) condition {
	return condition{cost: costStored, fields: fields,
		quick: func(*view, int) verdict { return mayBe },
		test:  func(who *candidate) (bool, error) { return test(who.m), nil }}
}

func negate(c condition) condition {
	quick, test := c.quick, c.test
	c.quick = func(v *view, i int) verdict { return -quick(v, i) }
	c.test = func(who *candidate) (bool, error) {
		ok, err := test(who)
		return !ok, err
	}
	return c
}

func either(a, b condition) condition {
	if b.cost < a.cost {
		a, b = b, a
	}
	return condition{cost: b.cost, fields: a.fields | b.fields,
		quick: func(v *view, i int) verdict {
			known := a.quick(v, i)
			if known != is {
				known = max(known, b.quick(v, i))
			}
			return known
		},
		test: func(who *candidate) (bool, error) {
			if ok, err := a.test(who); ok || err != nil {
				return ok, err
			}
			return b.test(who)
		}}
}

// quickAll is the verdict on all of some conditions.
func quickAll(all []condition, v *view, i int) verdict {
	known := is
	for n := range all {
		if known = min(known, all[n].quick(v, i)); known == isNot {
			break
		}
	}
	return known
}

// together joins conditions, which are in ascending order of cost.
func together(all []condition) condition {
	joint := condition{}
	for _, c := range all {
		joint.cost = max(joint.cost, c.cost)
		joint.fields |= c.fields
	}
	joint.quick = func(v *view, i int) verdict { return quickAll(all, v, i) }
	joint.test = func(who *candidate) (bool, error) {
		for _, c := range all {
			if ok, err := c.test(who); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return joint
}

// searchParser reads search keys. Errors stay in the lexer.
type searchParser struct {
	l    *imapwire.Lexer
	v    *view
	keys int
	// modSeq: a key was MODSEQ.
	modSeq bool
	// lookups are the texts that are looked for.
	lookups []*lookup
	// uidOnly: numbers are refused, and refused says so.
	uidOnly bool
	refused error
}

// word reads the word a key begins with; empty before a set or parenthesis.
func (p *searchParser) word() string {
	switch c := p.l.Peek(); {
	case c == '(' || c == '*' || c == '$' || c >= '0' && c <= '9':
		return ""
	}
	return p.l.Keyword()
}

// all reads keys up to the end or a closing parenthesis; the first one begins
// with word.
func (p *searchParser) all(word string, depth int) []condition {
	all := []condition{p.key(word, depth)}
	for p.l.Take(' ') && !p.l.AtEnd() {
		all = append(all, p.next(depth))
	}
	slices.SortStableFunc(all, func(a, b condition) int { return int(a.cost) - int(b.cost) })
	return all
}

func (p *searchParser) next(depth int) condition { return p.key(p.word(), depth) }

func (p *searchParser) key(word string, depth int) condition {
	if p.keys++; p.keys > maxSearchKeys {
		p.l.Fail("too many search keys")
	}
	if depth > maxSearchDepth {
		p.l.Fail("search keys too deep within each other")
	}
	if p.l.Err() != nil {
		return condition{}
	}
	switch word {
	case "":
		if p.l.Take('(') {
			all := p.all(p.word(), depth+1)
			p.l.Expect(')')
			return together(all)
		}
		return inSpans(p.numberSet())
	case "UID":
		p.l.Space()
		return inSpans(p.v.byUID(readSet(p.l)))
	case "NOT":
		p.l.Space()
		return negate(p.next(depth + 1))
	case "OR":
		p.l.Space()
		a := p.next(depth + 1)
		p.l.Space()
		return either(a, p.next(depth+1))
	}
	if c, ok := p.flagKey(word); ok {
		return c
	}
	if c, ok := p.storedKey(word); ok {
		return c
	}
	return p.textKey(word)
}

func inSpans(spans []span) condition {
	return viewCondition(func(_ *view, i int) bool {
		n := sort.Search(len(spans), func(n int) bool { return spans[n].to > i })
		return n < len(spans) && spans[n].from <= i
	})
}

// flagKey reads keys that ask for flags.
func (p *searchParser) flagKey(word string) (condition, bool) {
	recent := func(v *view, i int) bool { return v.marks[i]&markRecent != 0 }
	switch word {
	case "ALL":
		return viewCondition(func(*view, int) bool { return true }), true
	case "RECENT":
		return viewCondition(recent), true
	case "OLD":
		return negate(viewCondition(recent)), true
	case "NEW":
		return viewCondition(func(v *view, i int) bool { return recent(v, i) && !v.flagsOf(i).Has(store.Seen) }), true
	case "KEYWORD", "UNKEYWORD":
		p.l.Space()
		keyword := p.l.Atom()
		has := viewCondition(func(v *view, i int) bool { return v.flagsOf(i).HasKeyword(keyword) })
		if word == "UNKEYWORD" {
			return negate(has), true
		}
		return has, true
	}
	name, without := strings.CutPrefix(word, "UN")
	f, err := store.Flags{}.ParseFlag(`\` + name)
	if err != nil {
		return condition{}, false
	}
	has := viewCondition(func(v *view, i int) bool { return v.flagsOf(i).Has(f.System) })
	if without {
		return negate(has), true
	}
	return has, true
}

// storedKey reads keys that ask for sizes and dates.
func (p *searchParser) storedKey(word string) (condition, bool) {
	switch word {
	case "MODSEQ":
		return p.modSeqKey(), true
	case "OLDER", "YOUNGER":
		return p.withinKey(word == "OLDER"), true
	case "EMAILID", "THREADID":
		return p.idKey(word), true
	case "SAVEDATESUPPORTED": // RFC 8514 §4.3: every mailbox has save dates
		return viewCondition(func(*view, int) bool { return true }), true
	case "LARGER", "SMALLER":
		p.l.Space()
		n := int64(p.l.Number64())
		if word == "LARGER" {
			return storedCondition(store.FieldMeta, func(m *store.Message) bool { return m.Size > n }), true
		}
		return storedCondition(store.FieldMeta, func(m *store.Message) bool { return m.Size < n }), true
	}
	fields, dateOf := store.FieldMeta, internalDay
	kind, sent := strings.CutPrefix(word, "SENT")
	if sent {
		fields, dateOf = store.FieldHeader, sentDay
	} else if after, saved := strings.CutPrefix(word, "SAVED"); saved {
		kind, dateOf = after, savedDay
	}
	var meets func(order int) bool
	switch kind {
	case "BEFORE":
		meets = func(order int) bool { return order < 0 }
	case "ON":
		meets = func(order int) bool { return order == 0 }
	case "SINCE":
		meets = func(order int) bool { return order >= 0 }
	default:
		return condition{}, false
	}
	p.l.Space()
	day := p.l.Date()
	return storedCondition(fields, func(m *store.Message) bool {
		t, ok := dateOf(m)
		return ok && meets(t.Compare(day))
	}), true
}

// withinKey reads the seconds of OLDER and YOUNGER (RFC 5032 §2).
func (p *searchParser) withinKey(older bool) condition {
	p.l.Space()
	seconds := p.l.Number()
	if seconds == 0 {
		p.l.Fail("an interval is one second or more")
	}
	edge := time.Now().Add(-time.Duration(seconds) * time.Second)
	return storedCondition(store.FieldMeta, func(m *store.Message) bool {
		return older && !m.InternalDate.After(edge) || !older && !m.InternalDate.Before(edge)
	})
}

// idKey reads EMAILID and THREADID (RFC 8474 §6); no message has a THREADID here.
func (p *searchParser) idKey(word string) condition {
	p.l.Space()
	id := p.l.Atom()
	if word == "THREADID" {
		return viewCondition(func(*view, int) bool { return false })
	}
	return storedCondition(store.FieldID, func(m *store.Message) bool { return m.ID == id })
}

// internalDay and sentDay are days without time and zone (RFC 3501 §6.4.4).
func internalDay(m *store.Message) (time.Time, bool) { return dayOf(m.InternalDate), true }

// savedDay is the day in UTC, since a save date keeps no zone (RFC 8514 §4.3).
func savedDay(m *store.Message) (time.Time, bool) { return dayOf(m.SaveDate.UTC()), true }

func sentDay(m *store.Message) (time.Time, bool) {
	value, ok := mime.First(m.Header, "Date")
	if !ok {
		return time.Time{}, false
	}
	t, ok := mime.ParseDate(value)
	return dayOf(t), ok
}

func dayOf(t time.Time) time.Time {
	year, month, day := t.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// textKey reads keys that look for text.
func (p *searchParser) textKey(word string) condition {
	field := ""
	switch word {
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		field = word
	case "HEADER":
		p.l.Space()
		field = p.l.AString()
	case "BODY", "TEXT":
	default:
		p.l.Fail("unknown search key")
		return condition{}
	}
	p.l.Space()
	text := p.l.AString()
	if !utf8.ValidString(text) {
		p.l.Fail("search text is not UTF-8")
	}
	needle := store.AppendFold(nil, []byte(text))
	found := p.lookUp(word, field, needle)
	switch word {
	case "BODY":
		return condition{cost: costBody, fields: store.FieldParts, quick: found.quick, test: func(who *candidate) (bool, error) { return who.bodyHas(needle, false) }}
	case "TEXT":
		return condition{cost: costBody, fields: store.FieldParts, quick: found.quick, test: func(who *candidate) (bool, error) { return who.bodyHas(needle, true) }}
	}
	return condition{cost: costStored, fields: store.FieldHeader, quick: found.quick, test: func(who *candidate) (bool, error) {
		return inField(who.text, who.m.Header, field, needle), nil
	}}
}
