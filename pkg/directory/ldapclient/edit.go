package ldapclient

import (
	"context"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// edit runs a change. It is never tried twice: when a connection breaks nobody
// knows whether the server made it.
func (c *Client) edit(ctx context.Context, op ldapwire.Op) error {
	if c.o.ReadOnly {
		return &directory.ResultError{Code: directory.UnwillingToPerform, Text: "the directory is kept elsewhere and only read from here: change it there"}
	}
	return c.do(ctx, c.service, false, func(k *conn) error {
		res, err := roundTrip[*ldapwire.Done](k, op)
		if err != nil {
			return err
		}
		return resultError(res.Result)
	})
}

// Add implements directory.Editor.
func (c *Client) Add(ctx context.Context, e directory.Entry) error {
	req := &ldapwire.AddRequest{DN: e.DN.String(), Attributes: make([]ldapwire.Attribute, len(e.Attributes))}
	for i, a := range e.Attributes {
		req.Attributes[i] = ldapwire.Attribute(a)
	}
	return c.edit(ctx, req)
}

// Modify implements directory.Editor.
func (c *Client) Modify(ctx context.Context, dn directory.DN, changes []directory.Change) error {
	req := &ldapwire.ModifyRequest{DN: dn.String(), Changes: make([]ldapwire.Change, len(changes))}
	for i, change := range changes {
		req.Changes[i] = ldapwire.Change{Kind: int(change.Kind), Attribute: ldapwire.Attribute(change.Attribute)}
	}
	return c.edit(ctx, req)
}

// Delete implements directory.Editor.
func (c *Client) Delete(ctx context.Context, dn directory.DN) error {
	return c.edit(ctx, &ldapwire.DelRequest{DN: dn.String()})
}

// Rename implements directory.Editor.
func (c *Client) Rename(ctx context.Context, dn directory.DN, rdn directory.RDN, deleteOld bool, superior *directory.DN) error {
	req := &ldapwire.ModifyDNRequest{DN: dn.String(), NewRDN: rdn.String(), DeleteOldRDN: deleteOld}
	if superior != nil {
		req.NewSuperior, req.HasNewSuperior = superior.String(), true
	}
	return c.edit(ctx, req)
}
