package imapserver

import (
	"errors"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// ACL (RFC 4314). Rights are the store's: here are its commands' words.

// aclArguments reads the name of a mailbox and n strings.
func (c *session) aclArguments(cmd *imapwire.Command, n int) (name string, rest []string, err error) {
	if c.store.Sharing == nil {
		return "", nil, &response{status: "BAD", text: "unknown command"}
	}
	l := cmd.Args
	l.Space()
	name = l.Mailbox()
	for range n {
		l.Space()
		rest = append(rest, l.AString())
	}
	if err := l.End(); err != nil {
		return "", nil, bad(err)
	}
	return name, rest, nil
}

// getACL is GETACL (RFC 4314 §3.3).
func (c *session) getACL(cmd *imapwire.Command) error {
	name, _, err := c.aclArguments(cmd, 0)
	if err != nil {
		return err
	}
	list, err := c.store.Sharing.ACL(c.ctx, name)
	if err != nil {
		return err
	}
	out := c.appendMailbox(append(c.conn.Out(), "* ACL "...), name)
	for _, g := range list {
		out = imapwire.AppendAString(append(out, ' '), g.Identifier)
		out = append(append(out, ' '), g.Rights.Wire()...)
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

// setACL is SETACL (RFC 4314 §3.1).
func (c *session) setACL(cmd *imapwire.Command) error {
	name, args, err := c.aclArguments(cmd, 2)
	if err != nil {
		return err
	}
	identifier, letters, change := args[0], args[1], store.RightsReplace
	if strings.HasPrefix(letters, "+") || strings.HasPrefix(letters, "-") {
		letters, change = letters[1:], store.RightsChange(letters[0])
	}
	rights, err := store.ParseRights(letters)
	if err != nil {
		return bad(err)
	}
	if err := c.store.Sharing.SetACL(c.ctx, name, identifier, change, rights); err != nil {
		return aclError(err)
	}
	c.log.Info("rights changed", "mailbox", name, "identifier", identifier, "rights", args[1])
	return nil
}

// deleteACL is DELETEACL (RFC 4314 §3.2).
func (c *session) deleteACL(cmd *imapwire.Command) error {
	name, args, err := c.aclArguments(cmd, 1)
	if err != nil {
		return err
	}
	if err := c.store.Sharing.DeleteACL(c.ctx, name, args[0]); err != nil {
		return aclError(err)
	}
	c.log.Info("rights deleted", "mailbox", name, "identifier", args[0])
	return nil
}

// listRights is LISTRIGHTS (RFC 4314 §3.4). No two rights are tied together;
// those of RFC 2086 come last.
func (c *session) listRights(cmd *imapwire.Command) error {
	name, args, err := c.aclArguments(cmd, 1)
	if err != nil {
		return err
	}
	always, optional, err := c.store.Sharing.ListRights(c.ctx, name, args[0])
	if err != nil {
		return aclError(err)
	}
	out := c.appendMailbox(append(c.conn.Out(), "* LISTRIGHTS "...), name)
	out = imapwire.AppendAString(append(out, ' '), args[0])
	if out = append(out, ' '); always == 0 {
		out = append(out, `""`...)
	}
	out = append(out, always.Wire()...)
	for _, letter := range optional.Wire() {
		out = append(out, ' ', byte(letter))
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

// myRights is MYRIGHTS (RFC 4314 §3.5).
func (c *session) myRights(cmd *imapwire.Command) error {
	name, _, err := c.aclArguments(cmd, 0)
	if err != nil {
		return err
	}
	return c.tellMyRights(name)
}

func (c *session) tellMyRights(name string) error {
	rights, err := c.store.Sharing.MyRights(c.ctx, name)
	if err != nil {
		return err
	}
	out := c.appendMailbox(append(c.conn.Out(), "* MYRIGHTS "...), name)
	out = append(append(out, ' '), rights.Wire()...)
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}

func aclError(err error) error {
	switch {
	case errors.Is(err, store.ErrNoIdentifier):
		return no("CANNOT", "no such user or group; write group=ADDRESS for a group, or anyone")
	case errors.Is(err, store.ErrOwner):
		return no("CANNOT", "the owner has all rights, always")
	}
	return err
}
