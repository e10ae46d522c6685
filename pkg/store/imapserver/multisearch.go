package imapserver

import (
	"errors"
	"fmt"
	"slices"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// multiSearch is ESEARCH (RFC 7377): a search in several mailboxes, one after
// the other, each with an answer of its own in UIDs. Mailboxes that hold
// nothing of it, or that the user may not read, are passed over.
func (c *session) multiSearch(cmd *imapwire.Command) error {
	l := cmd.Args
	sources := []notifyGroup{{filter: "SELECTED"}}
	begin := *l
	if l.Space(); l.Keyword() == "IN" {
		l.Space()
		sources = readSources(l)
	} else {
		*l = begin // result options or keys
	}
	selected := slices.ContainsFunc(sources, func(g notifyGroup) bool { return g.filter == "SELECTED" })
	// The keys stand for other messages in each mailbox, and so are read anew; first for their errors.
	keys := *l
	q, err := c.readSearchIn(&view{}, &keys)
	switch {
	case err != nil:
		return err
	case selected && c.box == nil:
		return &response{status: "BAD", text: "no mailbox is selected"}
	case q.save && (len(sources) > 1 || !selected):
		return &response{status: "BAD", text: "only what is found in the selected mailbox can be saved"}
	}
	if q.modSeq {
		c.grant(condStore)
	}
	done := int64(0) // the selected mailbox
	if selected {
		if err := c.poll(false); err != nil {
			return err
		}
		keys = *l
		if err := c.searchIn(cmd.Tag, c.box, &keys); err != nil {
			return err
		}
		done = c.box.box.ID()
	}
	if selected && len(sources) == 1 {
		return nil
	}
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err != nil {
		return err
	}
	c.begins(cmd.Tag, 0)
	whole := c.progress // of all mailboxes, whose searches tell their own
	for i := range entries {
		e := &entries[i]
		if e.NoSelect || e.NonExistent || !slices.ContainsFunc(sources, func(g notifyGroup) bool { return g.has(e) }) {
			continue
		}
		keys = *l
		if err := c.searchOther(cmd.Tag, e.Name, done, &keys); err != nil {
			return fmt.Errorf("searching %q: %w", e.Name, err)
		}
		c.progress = whole
		c.goesOn(0)
		whole = c.progress
	}
	return nil
}

// readSources reads the mailboxes that are to be searched. There are no scope
// options.
func readSources(l *imapwire.Lexer) (sources []notifyGroup) {
	l.Expect('(')
	for more := true; more && l.Err() == nil; more = l.Take(' ') {
		g := notifyGroup{filter: l.Keyword()}
		switch g.filter {
		case "SELECTED", "INBOXES", "PERSONAL", "SUBSCRIBED":
		case "SUBTREE", "SUBTREE-ONE", "MAILBOXES":
			g.readNames(l)
		default:
			l.Fail("unknown choice of mailboxes")
		}
		if sources = append(sources, g); len(sources) > maxNotifyGroups {
			l.Fail("too many choices of mailboxes")
		}
	}
	l.Expect(')')
	return sources
}

// searchOther searches a mailbox that is not selected, unless it has the ID done.
func (c *session) searchOther(tag, name string, done int64, keys *imapwire.Lexer) error {
	box, err := c.store.Account.Open(c.ctx, name)
	var v *view
	if err == nil {
		if box.ID() == done {
			return nil
		}
		v, _, err = c.newView(box, true)
	}
	if errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoRight) {
		return nil // gone meanwhile, or not to be read
	}
	if err != nil {
		return err
	}
	return c.searchIn(tag, v, keys)
}

// searchIn searches one mailbox and tells what is found.
func (c *session) searchIn(tag string, v *view, keys *imapwire.Lexer) error {
	q, err := c.readSearchIn(v, keys)
	if err != nil {
		return err
	}
	selected := c.box
	c.box = v // which the search is about
	defer func() { c.box = selected }()
	found, err := c.find(tag, q)
	if err != nil {
		if q.save {
			v.saved = nil
		}
		return err
	}
	if q.save {
		v.saved = uidsAt(v, q.told(found))
	}
	if len(found) == 0 {
		return nil
	}
	var highest store.ModSeq
	if q.modSeq {
		if highest, err = c.highestOf(q.told(found)); err != nil {
			return err
		}
	}
	status, err := v.box.Status(c.ctx)
	if err != nil {
		return err
	}
	uids := make([]uint32, len(found))
	for n, i := range found {
		uids[n] = uint32(v.uids[i])
	}
	place := fmt.Appendf(c.appendMailbox([]byte(" MAILBOX "), v.box.Name()), " UIDVALIDITY %d", status.UIDValidity)
	if q.min || q.max || q.all || q.count || q.partial != nil {
		c.conn.SetOut(q.appendESearch(c.conn.Out(), tag, string(place), true, uids, highest))
	}
	return nil
}
