package imapserver

import (
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// replace is REPLACE (RFC 8508), uidReplace UID REPLACE: an APPEND that takes
// the place of a message in the selected mailbox, in one commit.
func (c *session) replace(cmd *imapwire.Command) error    { return c.replaceBy(cmd, (*view).bySeq) }
func (c *session) uidReplace(cmd *imapwire.Command) error { return c.replaceBy(cmd, (*view).byUID) }

func (c *session) replaceBy(cmd *imapwire.Command, by numbering) error {
	l := cmd.Args
	l.Space()
	spans := by(c.box, readSet(l))
	l.Space()
	name := l.Mailbox()
	box, err := c.appendTo(cmd, name)
	if err != nil {
		return err
	}
	if c.box.readOnly {
		return errReadOnly()
	}
	if count(spans) != 1 {
		return no("NONEXISTENT", "REPLACE takes the number of one message")
	}
	uid := c.box.uids[spans[0].from]
	a, err := c.newIncoming(cmd, box)
	if err != nil {
		return err
	}
	defer a.close()
	in, err := a.message()
	if err != nil {
		return err
	}
	if err := a.end(); err != nil {
		return err
	}
	status, err := box.Status(c.ctx)
	if err != nil {
		return err
	}
	added, err := c.box.box.Replace(c.ctx, uid, name, in, c.store.Quota)
	if err != nil {
		return appendError(name, err)
	}
	// RFC 8508 §3.3: APPENDUID comes before what the replacement looks like.
	c.reply("*", "OK", string(appendUID(nil, status.UIDValidity, []store.UID{added})), "replacement stored")
	return c.tellGone()
}
