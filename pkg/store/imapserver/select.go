package imapserver

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// selectMailbox is SELECT (RFC 3501 §6.3.1).
func (c *session) selectMailbox(cmd *imapwire.Command) error { return c.choose(cmd, false) }

// examine is EXAMINE (RFC 3501 §6.3.2).
func (c *session) examine(cmd *imapwire.Command) error { return c.choose(cmd, true) }

func (c *session) choose(cmd *imapwire.Command, readOnly bool) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	params := readSelectParams(cmd.Args)
	if params.resync != nil && !c.has(qResync) {
		cmd.Args.Fail("QRESYNC was not enabled")
	}
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	if c.box != nil {
		c.closeMailbox() // also if the new one cannot be opened
		c.conn.WriteString("* OK [CLOSED] the mailbox selected before\r\n")
	}
	c.features |= params.features
	box, err := c.store.Account.Open(c.ctx, name)
	if err != nil {
		return err
	}
	v, uidValidity, err := c.newView(box, readOnly)
	if err != nil {
		return fmt.Errorf("reading mailbox %q: %w", name, err)
	}
	if v.rights, err = store.RightsOn(c.ctx, box); err != nil {
		return fmt.Errorf("reading mailbox %q: %w", name, err)
	}
	c.box = v
	c.tellMailbox(uidValidity)
	if r := params.resync; r != nil && r.uidValidity == uidValidity {
		if err := c.tellMissed(r); err != nil {
			c.closeMailbox()
			return fmt.Errorf("reading the changes of %q: %w", name, err)
		}
	}
	c.code = append(c.code, "READ-WRITE"...)
	// RFC 4314 §5.2: \Seen is each user's own, and does not count.
	if readOnly || v.rights&(store.RightInsert|store.RightExpunge|store.RightWrite|store.RightFlagGone) == 0 {
		c.code = append(c.code[:0], "READ-ONLY"...)
	}
	return nil
}

// newView reads a mailbox. What happens to it meanwhile comes with the first
// poll: the view is as old as the listing.
func (c *session) newView(box store.Mailbox, readOnly bool) (*view, uint32, error) {
	recent, err := c.claimRecent(box, readOnly)
	if err != nil {
		return nil, 0, err
	}
	list, err := store.List(c.ctx, box)
	if err != nil {
		return nil, 0, err
	}
	v := &view{box: box, readOnly: readOnly, uidNext: list.UIDNext, modSeq: list.HighestModSeq, flagSeq: list.HighestModSeq}
	v.take(list, recent)
	return v, list.UIDValidity, nil
}

// claimRecent returns the first UID that is recent to this session. One of
// IMAP4rev2 has none and leaves them to others.
func (c *session) claimRecent(box store.Mailbox, readOnly bool) (store.UID, error) {
	if c.has(rev2) {
		return math.MaxUint32, nil
	}
	return box.ClaimRecent(c.ctx, !readOnly)
}

// tellMailbox writes the untagged responses of SELECT.
func (c *session) tellMailbox(uidValidity uint32) {
	v := c.box
	if c.has(rev2) { // RFC 9051 §6.3.2
		out := c.appendMailbox(append(c.conn.Out(), `* LIST () "/" `...), v.box.Name())
		c.conn.SetOut(append(out, "\r\n"...))
	}
	v.flags.news = true
	c.tellKeywords()
	out := appendUntagged(c.conn.Out(), v.len(), "EXISTS")
	v.toldRecent = v.recent
	if !c.has(rev2) {
		out = appendUntagged(out, v.recent, "RECENT")
		out = v.appendUnseen(out)
	}
	out = append(out, "* OK [PERMANENTFLAGS ("...)
	if !v.readOnly {
		out = v.rights.Allowed(store.Flags{System: allFlags, Keywords: v.flags.keywords}).AppendTo(out)
		if v.rights.Has(store.RightWrite) {
			out = append(out, ` \*`...)
		}
	}
	out = append(out, ")] flags kept\r\n* OK [UIDVALIDITY "...)
	out = strconv.AppendUint(out, uint64(uidValidity), 10)
	out = append(out, "] UIDs valid\r\n* OK [UIDNEXT "...)
	out = strconv.AppendUint(out, uint64(v.uidNext), 10)
	out = v.appendHighest(append(out, "] predicted next UID\r\n* OK ["...))
	out = appendMailboxID(append(out, "] highest so far\r\n* OK ["...), v.box)
	c.conn.SetOut(append(out, "] its ID\r\n"...))
}

// appendUnseen tells the first message without \Seen (RFC 3501 §7.1).
func (v *view) appendUnseen(dst []byte) []byte {
	for i, m := range v.marks {
		if ref := m & markRef; ref < firstRef && store.SystemFlags(ref)&store.Seen != 0 {
			continue // most of them
		}
		if !v.flagsOf(i).Has(store.Seen) {
			dst = strconv.AppendInt(append(dst, "* OK [UNSEEN "...), int64(i+1), 10)
			return append(dst, "] first unseen\r\n"...)
		}
	}
	return dst
}

// closeMailbox leaves the selected mailbox, if there is one.
func (c *session) closeMailbox() { c.box = nil }

// close is CLOSE: it expunges without telling (RFC 3501 §6.4.2).
func (c *session) close(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	v := c.box
	if !v.readOnly && v.len() > 0 {
		// Without the right to expunge nothing is, and that is no failure (RFC 4314 §4).
		if _, err := v.box.Expunge(c.ctx, v.uidSet([]span{{0, v.len()}})); err != nil && !errors.Is(err, store.ErrNoRight) {
			return fmt.Errorf("expunging: %w", err)
		}
	}
	c.closeMailbox()
	return nil
}

// unselect is UNSELECT (RFC 3691).
func (c *session) unselect(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	c.closeMailbox()
	return nil
}
