package imapserver

import (
	"strconv"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// A quota root is an account (RFC 9208 §3.2): the user's own has an empty name,
// another's the prefix of its mailboxes. An account without limits has none.
// Limits are the directory's: there is no SETQUOTA.

// quotaRoot is a root and what bounds it.
type quotaRoot struct {
	name    string
	account store.Account
	quota   store.Quota
}

// rootOf is the quota root of a mailbox: its owner's.
func (c *session) rootOf(box store.Mailbox) (r quotaRoot, err error) {
	g, ok := box.(store.Guarded)
	if !ok {
		return quotaRoot{account: c.store.Account, quota: c.store.Quota}, nil
	}
	r.name, r.account, r.quota, err = g.Owner(c.ctx)
	return r, err
}

// getQuota is GETQUOTA (RFC 9208 §4.1.1).
func (c *session) getQuota(cmd *imapwire.Command) error {
	cmd.Args.Space()
	name := cmd.Args.AString()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	root := quotaRoot{account: c.store.Account, quota: c.store.Quota}
	if name != "" {
		var err error
		if root, err = c.foreignRoot(name); err != nil {
			return err
		}
	}
	if root.account == nil || root.quota == store.NoQuota() {
		return no("NONEXISTENT", "no such quota root")
	}
	return c.tellQuota(root)
}

// foreignRoot finds the root of that name among those of mailboxes that the
// user may read; its account is nil if there is none.
func (c *session) foreignRoot(name string) (r quotaRoot, err error) {
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err != nil {
		return r, err
	}
	for _, e := range entries {
		if e.NoSelect || e.NonExistent || !strings.HasPrefix(e.Name, name+delimiter) {
			continue
		}
		box, err := c.readable(e.Name)
		if err != nil {
			continue
		}
		if r, err = c.rootOf(box); err != nil || r.name == name {
			return r, err
		}
	}
	return quotaRoot{}, nil
}

// readable opens a mailbox that the user may read.
func (c *session) readable(name string) (store.Mailbox, error) {
	box, err := c.store.Account.Open(c.ctx, name)
	if err != nil {
		return nil, err
	}
	rights, err := store.RightsOn(c.ctx, box)
	if err == nil && !rights.Has(store.RightRead) {
		err = store.ErrNoRight
	}
	return box, err
}

// getQuotaRoot is GETQUOTAROOT (RFC 9208 §4.1.2).
func (c *session) getQuotaRoot(cmd *imapwire.Command) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	box, err := c.readable(name)
	if err != nil {
		return err
	}
	root, err := c.rootOf(box)
	if err != nil {
		return err
	}
	out := c.appendMailbox(append(c.conn.Out(), "* QUOTAROOT "...), name)
	if root.quota == store.NoQuota() {
		c.conn.SetOut(append(out, "\r\n"...))
		return nil
	}
	c.conn.SetOut(append(imapwire.AppendString(append(out, ' '), root.name), "\r\n"...))
	return c.tellQuota(root)
}

// tellQuota writes the QUOTA response: STORAGE in units of 1024 octets.
func (c *session) tellQuota(root quotaRoot) error {
	used, err := root.account.Usage(c.ctx)
	if err != nil {
		return err
	}
	out := append(imapwire.AppendString(append(c.conn.Out(), "* QUOTA "...), root.name), " ("...)
	if limit := root.quota.Bytes; limit >= 0 {
		out = strconv.AppendInt(append(out, "STORAGE "...), (used.Bytes+1023)/1024, 10)
		out = strconv.AppendInt(append(out, ' '), limit/1024, 10)
	}
	if limit := root.quota.Messages; limit >= 0 {
		if root.quota.Bytes >= 0 {
			out = append(out, ' ')
		}
		out = strconv.AppendInt(append(out, "MESSAGE "...), used.Messages, 10)
		out = strconv.AppendInt(append(out, ' '), limit, 10)
	}
	c.conn.SetOut(append(out, ")\r\n"...))
	return nil
}

// deletedStorage is how many octets an EXPUNGE would free (RFC 9208 §4.1.4).
func (c *session) deletedStorage(box store.Mailbox, s store.Status) (int64, error) {
	if s.Deleted == 0 {
		return 0, nil
	}
	size := int64(0)
	for m, err := range box.Messages(c.ctx, store.AllUIDs(), store.FieldMeta) {
		if err != nil {
			return 0, err
		}
		if m.Flags.Has(store.Deleted) {
			size += m.Size
		}
	}
	return size, nil
}
