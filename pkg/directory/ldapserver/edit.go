package ldapserver

import (
	"context"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// edited is how a change ended, with the answers to its controls.
type edited struct {
	res      ldapwire.Result
	controls []ldapwire.Control
}

// edit answers a change.
func (c *session) edit(id int, response ldapwire.Tag, e edited) {
	c.reply(id, done(response, e.res), e.controls...)
}

// add is RFC 4511 §4.7.
func (c *session) add(ctx context.Context, req *ldapwire.AddRequest, with controls) edited {
	return c.change(ctx, "add", req.DN, with, func(op *directory.Operation) error {
		op.Kind = directory.AddEntry
		if err := with.as.mayWrite(c.srv, op.DN, ""); err != nil {
			return err
		}
		for _, a := range req.Attributes {
			attribute, err := attributeOf(a)
			if err != nil {
				return err
			}
			if len(a.Values) == 0 {
				return refusal(directory.InvalidAttributeSyntax, "no values of "+a.Name)
			}
			if err := with.as.mayWrite(c.srv, op.DN, attribute.Name); err != nil {
				return err
			}
			op.Attributes = append(op.Attributes, attribute)
		}
		return nil
	})
}

// modify is §4.6.
func (c *session) modify(ctx context.Context, req *ldapwire.ModifyRequest, with controls) edited {
	return c.change(ctx, "modify", req.DN, with, func(op *directory.Operation) error {
		op.Kind = directory.ModifyEntry
		if len(req.Changes) == 0 {
			if err := with.as.mayWrite(c.srv, op.DN, ""); err != nil {
				return err
			}
		}
		for _, change := range req.Changes {
			if change.Kind > int(directory.IncrementValues) {
				return refusal(directory.ProtocolError, "unknown kind of modification")
			}
			a, err := attributeOf(change.Attribute)
			if err != nil {
				return err
			}
			if err := with.as.mayWrite(c.srv, op.DN, a.Name); err != nil {
				return err
			}
			op.Changes = append(op.Changes, directory.Change{Kind: directory.ChangeKind(change.Kind), Attribute: a})
		}
		return nil
	})
}

// delete is §4.8.
func (c *session) delete(ctx context.Context, req *ldapwire.DelRequest, with controls) edited {
	return c.change(ctx, "delete", req.DN, with, func(op *directory.Operation) error {
		op.Kind, op.Subtree = directory.DeleteEntry, with.subtree
		return with.as.mayWrite(c.srv, op.DN, "")
	})
}

// rename is §4.9, modify DN.
func (c *session) rename(ctx context.Context, req *ldapwire.ModifyDNRequest, with controls) edited {
	return c.change(ctx, "rename", req.DN, with, func(op *directory.Operation) error {
		op.Kind, op.DeleteOld = directory.RenameEntry, req.DeleteOldRDN
		if err := with.as.mayWrite(c.srv, op.DN, ""); err != nil {
			return err
		}
		rdn, err := parseDN(req.NewRDN)
		if err != nil {
			return err
		}
		if len(rdn.RDNs) != 1 || op.DN.IsRoot() {
			return refusal(directory.InvalidDNSyntax, "not one RDN")
		}
		op.RDN = rdn.RDNs[0]
		parent := op.DN.Parent()
		if req.HasNewSuperior {
			if parent, err = parseDN(req.NewSuperior); err != nil {
				return err
			}
			op.Superior = &parent
		}
		return with.as.mayWrite(c.srv, directory.DN{RDNs: append([]directory.RDN{op.RDN}, parent.RDNs...)}, "")
	})
}

// change makes a change, once prepare has filled it in and found that the asker
// may, and logs it.
func (c *session) change(ctx context.Context, what, name string, with controls, prepare func(*directory.Operation) error) edited {
	outcome, err := func() (directory.Outcome, error) {
		op := directory.Operation{Actor: with.as.DN, Assert: with.assert}
		var err error
		if op.DN, err = parseDN(name); err != nil {
			return directory.Outcome{}, err
		}
		if err := prepare(&op); err != nil {
			return directory.Outcome{}, err
		}
		if with.assert != nil && !with.as.mayFilter(c.srv, op.DN, with.assert) {
			return directory.Outcome{}, refusal(directory.InsufficientAccessRights, "")
		}
		return c.srv.operate(ctx, op)
	}()
	e := edited{res: with.as.result(c, err)}
	c.logEdit(what, name, with.as, e.res, err)
	e.controls = with.policyAfterChange(err)
	if err != nil {
		return e
	}
	if with.pre != nil && outcome.Before != nil {
		e.controls = append(e.controls, c.entryControl(ldapwire.OIDPreRead, *outcome.Before, with.pre, with.as))
	}
	if with.post != nil && outcome.After != nil {
		e.controls = append(e.controls, c.entryControl(ldapwire.OIDPostRead, *outcome.After, with.post, with.as))
	}
	return e
}

// operate makes a change by the best that the Tree offers.
func (s *Server) operate(ctx context.Context, op directory.Operation) (directory.Outcome, error) {
	if s.operator != nil {
		return s.operator.Operate(ctx, op)
	}
	switch op.Kind {
	case directory.AddEntry:
		return directory.Outcome{}, s.editor.Add(ctx, directory.Entry{DN: op.DN, Attributes: op.Attributes})
	case directory.ModifyEntry:
		return directory.Outcome{}, s.editor.Modify(ctx, op.DN, op.Changes)
	case directory.DeleteEntry:
		return directory.Outcome{}, s.editor.Delete(ctx, op.DN)
	}
	return directory.Outcome{}, s.editor.Rename(ctx, op.DN, op.RDN, op.DeleteOld, op.Superior)
}

// entryControl tells the attributes of an entry that were asked for and may be read.
func (c *session) entryControl(oid string, e directory.Entry, names []string, as asker) ldapwire.Control {
	answer := &ldapwire.SearchEntry{DN: e.DN.String()}
	for name, values := range c.readable(e, as) {
		operational := c.srv.o.Schema != nil && c.srv.o.Schema.Attribute(name) != nil && c.srv.o.Schema.Attribute(name).Operational()
		if asked(names, name, operational) {
			answer.Attributes = append(answer.Attributes, ldapwire.Attribute{Name: name, Values: values})
		}
	}
	return ldapwire.EntryControl(oid, answer)
}

func (c *session) logEdit(what, dn string, as asker, res ldapwire.Result, err error) {
	if err != nil {
		c.log.Info(what+" refused", "dn", printable(dn), "account", as.DN.String(), "code", res.Code, "err", err)
	} else {
		c.log.Info(what, "dn", printable(dn), "account", as.DN.String())
	}
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
