package ldapclient

import (
	"context"
	"errors"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// Bind implements directory.Tree. An empty password, or the root DN, is
// refused here: a server might take it for an anonymous bind and call it a
// success (RFC 4513 §5.1.2).
func (c *Client) Bind(ctx context.Context, dn directory.DN, password string) error {
	if password == "" || dn.IsRoot() {
		return &directory.ResultError{Code: directory.InvalidCredentials}
	}
	req := &ldapwire.BindRequest{Version: 3, Name: dn.String(), Auth: ldapwire.AuthSimple, Password: password}
	return c.do(ctx, c.binders, true, func(k *conn) error {
		res, err := roundTrip[*ldapwire.BindResponse](k, req)
		if err != nil {
			return err
		}
		return bindError(res.Result)
	})
}

// bindError maps what servers answer to a bind that is the user's own fault
// (no such entry, no password, locked, inactivated) to InvalidCredentials: the
// causes are never told apart.
func bindError(res ldapwire.Result) error {
	err := resultError(res)
	r, ok := errors.AsType[*directory.ResultError](err)
	if !ok {
		return err
	}
	switch r.Code {
	case directory.NoSuchObject, directory.InvalidDNSyntax, directory.InappropriateAuth,
		directory.ConstraintViolation, directory.UnwillingToPerform:
		return &directory.ResultError{Code: directory.InvalidCredentials, Err: errors.New(r.Error())}
	}
	return err
}
