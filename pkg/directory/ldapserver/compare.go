package ldapserver

import (
	"context"
	"errors"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// compare answers whether an entry has a value (§4.10), by the matching rules
// of the Tree's searches.
func (c *session) compare(ctx context.Context, op *operation, request ldapwire.Op) ldapwire.Result {
	req := request.(*ldapwire.CompareRequest)
	res := c.compared(ctx, req)
	c.log.Debug("compare", "id", op.id, "dn", printable(req.DN), "attribute", printable(req.Attribute), "code", res.Code)
	return res
}

func (c *session) compared(ctx context.Context, req *ldapwire.CompareRequest) ldapwire.Result {
	dn, err := parseDN(req.DN)
	if err != nil {
		return c.result(err)
	}
	if c.who.IsRoot() || isPassword(req.Attribute) || !c.mayRead(dn, baseName(req.Attribute)) {
		return result(directory.InsufficientAccessRights, "")
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
			return c.result(err)
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
