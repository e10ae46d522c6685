package imapserver

import (
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// The one quota root is the account and has an empty name (RFC 9208 §3.2). An
// account without limits has none. Limits are the directory's: there is no
// SETQUOTA.

// getQuota is GETQUOTA (RFC 9208 §4.1.1).
func (c *session) getQuota(cmd *imapwire.Command) error {
	cmd.Args.Space()
	root := cmd.Args.AString()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	if root != "" || c.store.Quota == store.NoQuota() {
		return no("NONEXISTENT", "no such quota root")
	}
	return c.tellQuota()
}

// getQuotaRoot is GETQUOTAROOT (RFC 9208 §4.1.2).
func (c *session) getQuotaRoot(cmd *imapwire.Command) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	if _, err := c.store.Account.Open(c.ctx, name); err != nil {
		return err
	}
	out := c.appendMailbox(append(c.conn.Out(), "* QUOTAROOT "...), name)
	if c.store.Quota == store.NoQuota() {
		c.conn.SetOut(append(out, "\r\n"...))
		return nil
	}
	c.conn.SetOut(append(out, ` ""`+"\r\n"...))
	return c.tellQuota()
}

// tellQuota writes the QUOTA response: STORAGE in units of 1024 octets.
func (c *session) tellQuota() error {
	used, err := c.store.Account.Usage(c.ctx)
	if err != nil {
		return err
	}
	out := append(c.conn.Out(), `* QUOTA "" (`...)
	if limit := c.store.Quota.Bytes; limit >= 0 {
		out = strconv.AppendInt(append(out, "STORAGE "...), (used.Bytes+1023)/1024, 10)
		out = strconv.AppendInt(append(out, ' '), limit/1024, 10)
	}
	if limit := c.store.Quota.Messages; limit >= 0 {
		if c.store.Quota.Bytes >= 0 {
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
