package imapserver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/thread"
	"mailsrv/pkg/wire/imapwire"
)

// sortKey is one criterion of SORT.
type sortKey struct {
	word    string
	reverse bool
}

// sortMessages is SORT (RFC 5256 §3), uidSort UID SORT; with RETURN they are
// those of RFC 5267 (ESORT).
func (c *session) sortMessages(cmd *imapwire.Command) error { return c.sortBy(cmd, false) }
func (c *session) uidSort(cmd *imapwire.Command) error      { return c.sortBy(cmd, true) }

func (c *session) sortBy(cmd *imapwire.Command, uid bool) error {
	if err := c.poll(false); err != nil { // flags as they are now
		return err
	}
	q := &searchRequest{}
	l := cmd.Args
	l.Space()
	if l.Peek() != '(' {
		if l.Keyword() != "RETURN" {
			l.Fail("expected RETURN or sort criteria")
		}
		l.Space()
		q.read(l)
		l.Space()
	}
	keys := readSortKeys(l)
	l.Space()
	if err := c.readAfterCharset(q, l); err != nil {
		return err
	}
	found, err := c.find(cmd.Tag, q)
	if err == nil {
		found, err = c.order(found, keys)
	}
	if err == nil {
		err = c.tellFound("SORT", cmd.Tag, &q.searchReturn, found, uid)
	}
	if err != nil {
		return fmt.Errorf("sorting %q: %w", c.box.box.Name(), err)
	}
	return nil
}

func readSortKeys(l *imapwire.Lexer) []sortKey {
	var keys []sortKey
	l.List(func() {
		k := sortKey{word: l.Keyword()}
		if k.word == "REVERSE" {
			l.Space()
			k = sortKey{word: l.Keyword(), reverse: true}
		}
		switch k.word {
		case "ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO":
		default:
			l.Fail("unknown sort criterion")
		}
		if keys = append(keys, k); len(keys) > maxSortKeys {
			l.Fail("too many sort criteria")
		}
	})
	if len(keys) == 0 {
		l.Fail("no sort criteria")
	}
	return keys
}

// maxSortKeys is as many as there are criteria.
const maxSortKeys = 9

// sorted is a message with what it is compared by: one value a criterion.
type sorted struct {
	i    int
	keys []sortValue
}

type sortValue struct {
	text   string
	number int64
}

// order puts messages in order; those that are gone are left out, and equals
// stay as they are (RFC 5256 §3).
func (c *session) order(found []int, keys []sortKey) ([]int, error) {
	if len(found) == 0 {
		return nil, nil
	}
	fields := store.FieldMeta
	for _, k := range keys {
		if k.word != "ARRIVAL" && k.word != "SIZE" {
			fields |= store.FieldHeader
		}
	}
	all := make([]sorted, 0, len(found))
	for m, err := range c.box.box.Messages(c.ctx, uidsAt(c.box, found), fields) {
		if err != nil {
			return nil, err
		}
		i, known := c.box.index(m.UID)
		if !known {
			continue
		}
		s := sorted{i: i, keys: make([]sortValue, len(keys))}
		for n, k := range keys {
			s.keys[n] = sortValueOf(m, k.word)
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b sorted) int {
		for n, k := range keys {
			d := cmp.Or(strings.Compare(a.keys[n].text, b.keys[n].text), cmp.Compare(a.keys[n].number, b.keys[n].number))
			switch {
			case d != 0 && k.reverse:
				return -d
			case d != 0:
				return d
			}
		}
		return 0
	})
	found = make([]int, len(all))
	for n, s := range all {
		found[n] = s.i
	}
	return found, nil
}

func sortValueOf(m *store.Message, word string) (v sortValue) {
	switch word {
	case "ARRIVAL":
		v.number = m.InternalDate.UnixNano()
	case "SIZE":
		v.number = m.Size
	case "DATE":
		v.number = sentAt(m).UnixNano()
	case "SUBJECT":
		v.text, _ = thread.BaseSubject(decodedField(m.Header, "Subject"))
	default:
		field, display := strings.CutPrefix(word, "DISPLAY")
		v.text = sortAddress(m.Header, field, display)
	}
	return v
}

// sentAt is the sent date of RFC 5256 §2.2.
func sentAt(m *store.Message) time.Time {
	if value, ok := mime.First(m.Header, "Date"); ok {
		if t, ok := mime.ParseDate(value); ok {
			return t
		}
	}
	return m.InternalDate
}

func decodedField(header []byte, name string) string {
	value, _ := mime.First(header, name)
	return mime.DecodeHeader(value)
}

// sortAddress is the local part of the first address of a field, or what is
// shown of it (RFC 5957 §3).
func sortAddress(header []byte, field string, display bool) string {
	value, _ := mime.First(header, field)
	list := mime.ParseAddressList(value)
	if len(list) == 0 {
		return ""
	}
	a := list[0]
	switch {
	case display && a.Name != "":
		return thread.Fold(mime.DecodeHeader(a.Name))
	case display && a.Domain != "":
		return thread.Fold(a.Local + "@" + a.Domain)
	case a.Kind == mime.GroupStart:
		return thread.Fold(mime.DecodeHeader(a.Name)) // its "mailbox" in ENVELOPE
	}
	return thread.Fold(a.Local)
}
