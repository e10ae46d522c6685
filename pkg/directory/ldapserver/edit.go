package ldapserver

import (
	"context"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// target reads the DN of an entry to be changed, and refuses who may not
// change that attribute of it ("": the entry itself).
func (c *session) target(name, attribute string) (directory.DN, error) {
	dn, err := parseDN(name)
	if err != nil {
		return dn, err
	}
	return dn, c.mayWrite(dn, attribute)
}

func (c *session) mayWrite(dn directory.DN, attribute string) error {
	switch {
	case c.who.IsRoot():
		return refusal(directory.InsufficientAccessRights, "bind first")
	case !c.srv.o.Access.MayWrite(c.who, dn, baseName(attribute)):
		return refusal(directory.InsufficientAccessRights, "")
	case c.srv.editor == nil:
		return refusal(directory.UnwillingToPerform, "this directory is read-only")
	}
	return nil
}

// add is RFC 4511 §4.7.
func (c *session) add(ctx context.Context, req *ldapwire.AddRequest) ldapwire.Result {
	return c.edited("add", req.DN, func() error {
		dn, err := c.target(req.DN, "")
		if err != nil {
			return err
		}
		e := directory.Entry{DN: dn, Attributes: make([]directory.Attribute, len(req.Attributes))}
		for i, a := range req.Attributes {
			if e.Attributes[i], err = attributeOf(a); err != nil {
				return err
			}
			if len(a.Values) == 0 {
				return refusal(directory.InvalidAttributeSyntax, "no values of "+a.Name)
			}
		}
		return c.srv.editor.Add(ctx, e)
	})
}

// modify is §4.6.
func (c *session) modify(ctx context.Context, req *ldapwire.ModifyRequest) ldapwire.Result {
	return c.edited("modify", req.DN, func() error {
		dn, err := parseDN(req.DN)
		if err != nil {
			return err
		}
		if len(req.Changes) == 0 {
			if err := c.mayWrite(dn, ""); err != nil {
				return err
			}
		}
		changes := make([]directory.Change, len(req.Changes))
		for i, change := range req.Changes {
			if change.Kind > int(directory.ReplaceValues) {
				return refusal(directory.ProtocolError, "unknown kind of modification")
			}
			a, err := attributeOf(change.Attribute)
			if err != nil {
				return err
			}
			if err := c.mayWrite(dn, a.Name); err != nil {
				return err
			}
			changes[i] = directory.Change{Kind: directory.ChangeKind(change.Kind), Attribute: a}
		}
		return c.srv.editor.Modify(ctx, dn, changes)
	})
}

// delete is §4.8.
func (c *session) delete(ctx context.Context, req *ldapwire.DelRequest) ldapwire.Result {
	return c.edited("delete", req.DN, func() error {
		dn, err := c.target(req.DN, "")
		if err != nil {
			return err
		}
		return c.srv.editor.Delete(ctx, dn)
	})
}

// rename is §4.9, modify DN.
func (c *session) rename(ctx context.Context, req *ldapwire.ModifyDNRequest) ldapwire.Result {
	return c.edited("rename", req.DN, func() error {
		dn, err := c.target(req.DN, "")
		if err != nil {
			return err
		}
		rdn, err := parseDN(req.NewRDN)
		if err != nil {
			return err
		}
		if len(rdn.RDNs) != 1 || dn.IsRoot() {
			return refusal(directory.InvalidDNSyntax, "not one RDN")
		}
		parent := dn.Parent()
		var superior *directory.DN
		if req.HasNewSuperior {
			if parent, err = parseDN(req.NewSuperior); err != nil {
				return err
			}
			superior = &parent
		}
		to := directory.DN{RDNs: append(rdn.RDNs, parent.RDNs...)}
		if err := c.mayWrite(to, ""); err != nil {
			return err
		}
		return c.srv.editor.Rename(ctx, dn, rdn.RDNs[0], req.DeleteOldRDN, superior)
	})
}

// edited runs a change and logs it.
func (c *session) edited(what, dn string, run func() error) ldapwire.Result {
	err := run()
	res := c.result(err)
	if err != nil {
		c.log.Info(what+" refused", "dn", printable(dn), "account", c.who.String(), "code", res.Code, "err", err)
	} else {
		c.log.Info(what, "dn", printable(dn), "account", c.who.String())
	}
	return res
}

// attributeOf checks the description of an attribute that a client sent.
func attributeOf(a ldapwire.Attribute) (directory.Attribute, error) {
	for _, r := range []byte(a.Name) {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == ';') {
			return directory.Attribute{}, refusal(directory.UndefinedAttributeType, "malformed attribute description")
		}
	}
	if a.Name == "" {
		return directory.Attribute{}, refusal(directory.UndefinedAttributeType, "empty attribute description")
	}
	return directory.Attribute{Name: a.Name, Values: a.Values}, nil
}
