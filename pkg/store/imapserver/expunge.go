package imapserver

import (
	"fmt"

	"mailsrv/pkg/wire/imapwire"
)

// expunge is EXPUNGE (RFC 3501 §6.4.3). The EXPUNGE responses come from the
// poll after the command.
func (c *session) expunge(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	return c.expungeSpans([]span{{0, c.box.len()}})
}

// uidExpunge is UID EXPUNGE (RFC 4315 §2.1).
func (c *session) uidExpunge(cmd *imapwire.Command) error {
	cmd.Args.Space()
	set := cmd.Args.NumSet()
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
	if _, err := v.box.Expunge(c.ctx, v.uidSet(spans)); err != nil {
		return fmt.Errorf("expunging from %q: %w", v.box.Name(), err)
	}
	return nil
}
