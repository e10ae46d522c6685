package imapserver

import (
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// specialUses are the uses a mailbox can be created for (RFC 6154 §2). \All
// and \Flagged would be views of others, which no mailbox here is.
var specialUses = [...]string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`}

// create is CREATE (RFC 3501 §6.3.3), with a use (RFC 6154 §3).
func (c *session) create(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	name := l.Mailbox()
	var uses []string
	if l.Take(' ') {
		l.Expect('(')
		if l.Keyword() != "USE" {
			l.Fail("expected USE")
		}
		l.Space()
		uses = l.FlagList()
		l.Expect(')')
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	use, ok := specialUse(uses)
	if !ok {
		return no("USEATTR", "a mailbox can have one of the uses "+strings.Join(specialUses[:], " "))
	}
	// A delimiter at the end only says that names below will follow.
	name = strings.TrimSuffix(name, delimiter)
	if err := c.store.Account.Create(c.ctx, name, use); err != nil {
		return err
	}
	if box, err := c.store.Account.Open(c.ctx, name); err == nil { // or deleted at once
		c.code = appendMailboxID(c.code, box)
	}
	return nil
}

// specialUse returns the one use of a list in its own spelling, and reports
// whether it can be had.
func specialUse(uses []string) (string, bool) {
	if len(uses) == 0 {
		return "", true
	}
	for _, u := range specialUses {
		if len(uses) == 1 && strings.EqualFold(u, uses[0]) {
			return u, true
		}
	}
	return "", false
}

// delete is DELETE (RFC 3501 §6.3.4). A session that deletes the mailbox it
// has selected has none selected afterwards.
func (c *session) delete(cmd *imapwire.Command) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	selected := false
	if c.box != nil {
		box, err := c.store.Account.Open(c.ctx, name)
		selected = err == nil && box.ID() == c.box.box.ID()
	}
	if err := c.store.Account.Delete(c.ctx, name); err != nil {
		return err
	}
	if selected {
		c.closeMailbox()
	}
	return nil
}

// rename is RENAME (RFC 3501 §6.3.5).
func (c *session) rename(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	from := l.Mailbox()
	l.Space()
	to := l.Mailbox()
	if err := l.End(); err != nil {
		return bad(err)
	}
	return c.store.Account.Rename(c.ctx, from, strings.TrimSuffix(to, delimiter))
}

// subscribe is SUBSCRIBE (RFC 3501 §6.3.6).
func (c *session) subscribe(cmd *imapwire.Command) error { return c.setSubscribed(cmd, true) }

// unsubscribe is UNSUBSCRIBE (RFC 3501 §6.3.7).
func (c *session) unsubscribe(cmd *imapwire.Command) error { return c.setSubscribed(cmd, false) }

func (c *session) setSubscribed(cmd *imapwire.Command, on bool) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	return c.store.Account.Subscribe(c.ctx, name, on)
}

// namespace is NAMESPACE (RFC 2342).
func (c *session) namespace(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	if c.store.Sharing == nil {
		c.conn.WriteString(`* NAMESPACE (("" "/")) NIL NIL` + "\r\n")
		return nil
	}
	c.conn.WriteString(`* NAMESPACE (("" "/")) (("` + store.OtherUsers + `" "/")) (("` + store.SharedTree + `" "/"))` + "\r\n")
	return nil
}
