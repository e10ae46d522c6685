package imapserver

import (
	"fmt"

	"mailsrv/pkg/wire/imapwire"
)

// expunge is EXPUNGE (RFC 3501 §6.4.3).
func (c *session) expunge(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	return c.expungeSpans([]span{{0, c.box.len()}})
}

// tellGone tells what is gone by the command in hand; with QRESYNC its answer
// says how far the client is then (RFC 7162 §3.2.7).
func (c *session) tellGone() error {
	_, flags, _ := c.selectedEvents()
	if err := c.pollFor(true, true, flags); err != nil { // its own doing is always told
		return err
	}
	if c.has(qResync) && len(c.code) == 0 {
		c.code = c.box.appendHighest(c.code)
	}
	return nil
}

// uidExpunge is UID EXPUNGE (RFC 4315 §2.1).
func (c *session) uidExpunge(cmd *imapwire.Command) error {
	cmd.Args.Space()
	set := readSet(cmd.Args)
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	return c.expungeSpans(c.box.byUID(set))
}

func (c *session) expungeSpans(spans []span) error {
	v := c.box
	if v.readOnly {
		return errReadOnly()
	}
	if count(spans) == 0 {
		return nil
	}
	gone, err := v.box.Expunge(c.ctx, v.uidSet(spans))
	if err != nil {
		return fmt.Errorf("expunging from %q: %w", v.box.Name(), err)
	}
	if len(gone) == 0 {
		return nil
	}
	return c.tellGone()
}
