package ldapserver

import (
	"context"
	"errors"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// compare answers whether an entry has a value (§4.10), by the matching rules
// of the Tree's searches.
func (c *session) compare(ctx context.Context, op *operation, request ldapwire.Op, with controls) (ldapwire.Result, []ldapwire.Control) {
	req := request.(*ldapwire.CompareRequest)
	res := c.compared(ctx, req, with)
	c.log.Debug("compare", "id", op.id, "dn", printable(req.DN), "attribute", printable(req.Attribute), "code", res.Code)
	return res, nil
}

func (c *session) compared(ctx context.Context, req *ldapwire.CompareRequest, with controls) ldapwire.Result {
	as := with.as
	dn, err := parseDN(req.DN)
	if err != nil {
		return as.result(c, err)
	}
	if isPassword(req.Attribute) || !as.mayRead(c.srv, dn, c.srv.named(req.Attribute)) {
		return result(directory.InsufficientAccessRights, "")
	}
	if with.assert != nil {
		if found, err := c.exists(ctx, dn, *with.assert); err != nil || !found {
			if err == nil {
				err = refusal(directory.AssertionFailed, "")
			}
			return as.result(c, err)
		}
	}
	for _, try := range [...]struct {
		filter directory.Filter
		code   directory.ResultCode
	}{
		{directory.Equal(req.Attribute, req.Value), directory.CompareTrue},
		{directory.Filter{Kind: directory.Present, Attribute: req.Attribute}, directory.CompareFalse},
	} {
		found, err := c.exists(ctx, dn, try.filter)
		if err != nil {
			return as.result(c, err)
		}
		if found {
			return result(try.code, "")
		}
	}
	return result(directory.NoSuchAttribute, "")
}

func (c *session) exists(ctx context.Context, dn directory.DN, f directory.Filter) (bool, error) {
	for _, err := range c.srv.o.Tree.Search(ctx, directory.Query{Base: dn, Filter: f, Attributes: []string{"1.1"}}) {
		if r, ok := errors.AsType[*directory.ResultError](err); ok && r.Code == directory.SizeLimitExceeded {
			break
		}
		return err == nil, err
	}
	return false, nil
}
