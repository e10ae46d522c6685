package imapserver

import (
	"errors"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// maxPatterns bounds the patterns of one LIST.
const maxPatterns = 100

// listRequest is what a LIST asks for (RFC 5258, RFC 5819, RFC 6154).
type listRequest struct {
	patterns []*pattern
	// extended: selection or return options, or several patterns were given.
	extended bool
	// Selection options.
	onlySubscribed, onlySpecialUse, recursive bool
	// Return options. CHILDREN and SPECIAL-USE are always returned.
	tellSubscribed bool
	status         *statusRequest
	myRights       bool
	metadata       *metadataRequest // RFC 9590
	// name: the pattern was empty, which asks for the delimiter alone.
	delimiterOnly bool
}

// list is LIST.
func (c *session) list(cmd *imapwire.Command) error {
	l := cmd.Args
	var q listRequest
	l.Space()
	if l.Peek() == '(' {
		q.extended = true
		q.readSelection(l)
		l.Space()
	}
	reference := l.Mailbox()
	l.Space()
	q.readPatterns(l, reference)
	if l.Take(' ') {
		if l.Keyword() != "RETURN" {
			l.Fail("expected RETURN")
		}
		l.Space()
		q.extended = true
		c.readReturn(&q, l)
	}
	if q.recursive && !q.onlySubscribed {
		l.Fail("RECURSIVEMATCH needs SUBSCRIBED")
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	if q.delimiterOnly {
		c.conn.WriteString(`* LIST (\Noselect) "/" ""` + "\r\n")
		return nil
	}
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err != nil {
		return err
	}
	return c.tellList(&q, entries)
}

func (q *listRequest) readSelection(l *imapwire.Lexer) {
	l.List(func() {
		switch option := l.Keyword(); option {
		case "SUBSCRIBED":
			q.onlySubscribed, q.tellSubscribed = true, true
		case "SPECIAL-USE":
			q.onlySpecialUse = true
		case "RECURSIVEMATCH":
			q.recursive = true
		case "REMOTE": // there are none
		default:
			l.Fail("unknown LIST selection option")
		}
	})
}

func (q *listRequest) readPatterns(l *imapwire.Lexer, reference string) {
	add := func() {
		text := l.ListMailbox()
		if len(q.patterns) == maxPatterns {
			l.Fail("too many patterns")
			return
		}
		q.patterns = append(q.patterns, newPattern(reference+text))
		q.delimiterOnly = text == "" && !q.extended
	}
	if l.Peek() != '(' {
		add()
		return
	}
	q.extended = true
	l.List(add)
}

func (c *session) readReturn(q *listRequest, l *imapwire.Lexer) {
	l.List(func() {
		switch option := l.Keyword(); option {
		case "SUBSCRIBED":
			q.tellSubscribed = true
		case "CHILDREN", "SPECIAL-USE":
		case "METADATA":
			l.Space()
			if q.metadata = (&metadataRequest{entries: readEntries(l), maxSize: -1}); c.store.Sharing == nil {
				l.Fail("unknown LIST return option")
			}
		case "MYRIGHTS": // RFC 8440
			if q.myRights = true; c.store.Sharing == nil {
				l.Fail("unknown LIST return option")
			}
		case "STATUS":
			l.Space()
			q.status = readStatusItems(l)
		default:
			l.Fail("unknown LIST return option")
		}
	})
}

func (q *listRequest) matches(name string) bool {
	for _, p := range q.patterns {
		if p.matches(name) {
			return true
		}
	}
	return false
}

// tellList writes the LIST responses, and after each its STATUS.
func (c *session) tellList(q *listRequest, entries []store.MailboxEntry) error {
	var below map[string]bool
	if q.recursive {
		below = subscribedBelow(entries)
	}
	for i := range entries {
		e := &entries[i]
		wanted := (e.Subscribed || !q.onlySubscribed) && (e.SpecialUse != "" || !q.onlySpecialUse) && (!e.NonExistent || q.onlySubscribed)
		childInfo := q.recursive && below[e.Name]
		if !wanted && !childInfo || !q.matches(e.Name) {
			continue
		}
		out := append(c.conn.Out(), "* LIST ("...)
		out = appendAttributes(out, e, q.tellSubscribed)
		out = append(out, `) "/" `...)
		out = c.appendMailbox(out, e.Name)
		if childInfo {
			out = append(out, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
		}
		c.conn.SetOut(append(out, "\r\n"...))
		if q.status != nil && !e.NoSelect && !e.NonExistent {
			// Who sees a mailbox may be without the right to read it.
			if err := c.tellStatus(e.Name, q.status); err != nil && !errors.Is(err, store.ErrNoRight) {
				return err
			}
		}
		if q.metadata != nil && !e.NoSelect && !e.NonExistent {
			if _, err := c.tellMetadata(e.Name, q.metadata); err != nil && !errors.Is(err, store.ErrNoRight) {
				return err
			}
		}
		if q.myRights && !e.NoSelect && !e.NonExistent {
			if err := c.tellMyRights(e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// subscribedBelow is the names that have a subscribed name below them.
func subscribedBelow(entries []store.MailboxEntry) map[string]bool {
	above := map[string]bool{}
	for _, e := range entries {
		if !e.Subscribed {
			continue
		}
		for name := e.Name; ; {
			i := strings.LastIndex(name, delimiter)
			if i < 0 || above[name[:i]] {
				break
			}
			name = name[:i]
			above[name] = true
		}
	}
	return above
}

// appendAttributes appends what LIST says of a mailbox between its parentheses.
func appendAttributes(dst []byte, e *store.MailboxEntry, tellSubscribed bool) []byte {
	switch {
	case e.NonExistent:
		dst = append(dst, `\NonExistent`...)
	case e.NoSelect:
		dst = append(dst, `\Noselect`...)
	}
	if len(dst) > 0 && dst[len(dst)-1] != '(' {
		dst = append(dst, ' ')
	}
	if e.HasChildren {
		dst = append(dst, `\HasChildren`...)
	} else {
		dst = append(dst, `\HasNoChildren`...)
	}
	if e.Subscribed && tellSubscribed {
		dst = append(dst, ` \Subscribed`...)
	}
	if e.SpecialUse != "" {
		dst = append(append(dst, ' '), e.SpecialUse...)
	}
	return dst
}

// lsub is LSUB (RFC 3501 §6.3.9): with "%" it also names the levels above
// subscribed names that the pattern does not reach.
func (c *session) lsub(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	reference := l.Mailbox()
	l.Space()
	p := newPattern(reference + l.ListMailbox())
	if err := l.End(); err != nil {
		return bad(err)
	}
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err != nil {
		return err
	}
	told := map[string]bool{}
	tell := func(attribute, name string) {
		if told[name] {
			return
		}
		told[name] = true
		out := append(append(append(c.conn.Out(), "* LSUB ("...), attribute...), `) "/" `...)
		c.conn.SetOut(append(c.appendMailbox(out, name), "\r\n"...))
	}
	for _, e := range entries {
		switch {
		case !e.Subscribed:
		case p.matches(e.Name):
			attribute := ""
			if e.NoSelect || e.NonExistent {
				attribute = `\Noselect`
			}
			tell(attribute, e.Name)
		case strings.HasSuffix(p.text, "%"):
			for i := strings.LastIndex(e.Name, delimiter); i > 0; i = strings.LastIndex(e.Name[:i], delimiter) {
				if above := e.Name[:i]; p.matches(above) && !subscribed(entries, above) {
					tell(`\Noselect`, above)
				}
			}
		}
	}
	return nil
}

func subscribed(entries []store.MailboxEntry, name string) bool {
	for _, e := range entries {
		if e.Name == name {
			return e.Subscribed
		}
	}
	return false
}
