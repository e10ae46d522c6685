package imapserver

import (
	"errors"
	"fmt"
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// copy is COPY (RFC 3501 §6.4.7), uidCopy UID COPY.
func (c *session) copy(cmd *imapwire.Command) error    { return c.copyTo(cmd, (*view).bySeq) }
func (c *session) uidCopy(cmd *imapwire.Command) error { return c.copyTo(cmd, (*view).byUID) }

// move is MOVE (RFC 6851), uidMove UID MOVE.
func (c *session) move(cmd *imapwire.Command) error    { return c.moveTo(cmd, (*view).bySeq) }
func (c *session) uidMove(cmd *imapwire.Command) error { return c.moveTo(cmd, (*view).byUID) }

// readCopy reads the arguments of the four.
func (c *session) readCopy(cmd *imapwire.Command, by numbering) (store.UIDSet, string, error) {
	l := cmd.Args
	l.Space()
	set := readSet(l)
	l.Space()
	name := l.Mailbox()
	if err := l.End(); err != nil {
		return nil, "", bad(err)
	}
	return c.box.uidSet(by(c.box, set)), name, nil
}

func (c *session) copyTo(cmd *imapwire.Command, by numbering) error {
	uids, name, err := c.readCopy(cmd, by)
	if err != nil {
		return err
	}
	var result store.CopyResult
	if err = c.patiently(cmd.Tag, func() (err error) {
		result, err = c.box.box.Copy(c.ctx, uids, name, c.store.Quota)
		return err
	}); err != nil {
		return copyError(name, err)
	}
	c.code = appendCopyUID(c.code, result)
	return nil
}

func (c *session) moveTo(cmd *imapwire.Command, by numbering) error {
	uids, name, err := c.readCopy(cmd, by)
	if err != nil {
		return err
	}
	if c.box.readOnly {
		return errReadOnly()
	}
	var result store.CopyResult
	if err = c.patiently(cmd.Tag, func() (err error) {
		result, err = c.box.box.Move(c.ctx, uids, name)
		return err
	}); err != nil {
		return copyError(name, err)
	}
	if len(result.From) == 0 {
		return nil
	}
	// RFC 6851 §4.3: COPYUID comes before the EXPUNGE responses.
	c.reply("*", "OK", string(appendCopyUID(nil, result)), "moved")
	return c.tellGone()
}

func errReadOnly() error { return no("READ-ONLY", "mailbox is selected read-only") }

func copyError(name string, err error) error {
	if errors.Is(err, store.ErrNoMailbox) {
		return no("TRYCREATE", "no such mailbox")
	}
	return fmt.Errorf("copying to %q: %w", name, err)
}

// appendCopyUID appends a COPYUID code (RFC 4315 §3), or nothing if nothing
// was copied.
func appendCopyUID(dst []byte, r store.CopyResult) []byte {
	if len(r.From) == 0 {
		return dst
	}
	dst = append(dst, "COPYUID "...)
	dst = strconv.AppendUint(dst, uint64(r.UIDValidity), 10)
	dst = imapwire.AppendNumSet(append(dst, ' '), r.From)
	return imapwire.AppendNumSet(append(dst, ' '), r.To)
}
