package ldapserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
	"mailsrv/pkg/wire/ldapwire"
)

// extended answers the extended operations other than StartTLS (RFC 4511 §4.12).
func (c *session) extended(ctx context.Context, req *ldapwire.ExtendedRequest, with controls) (*ldapwire.ExtendedResponse, []ldapwire.Control) {
	c.log.Debug("extended operation", "oid", printable(req.OID))
	switch req.OID {
	case ldapwire.OIDWhoAmI: // RFC 4532 §2.2
		res := &ldapwire.ExtendedResponse{HasValue: true}
		if !with.as.nobody() {
			res.Value = "dn:" + with.as.DN.String()
		}
		return res, nil
	case ldapwire.OIDPasswordModify:
		res, err := c.passwordModify(ctx, req, with.as)
		return res, with.policyAfterChange(err)
	case ldapwire.OIDCancel:
		return &ldapwire.ExtendedResponse{Result: c.cancel(req)}, nil
	}
	return &ldapwire.ExtendedResponse{Result: result(directory.ProtocolError, "unknown extended operation "+printable(req.OID))}, nil
}

// passwordModify is RFC 3062.
func (c *session) passwordModify(ctx context.Context, req *ldapwire.ExtendedRequest, as asker) (*ldapwire.ExtendedResponse, error) {
	var generated string
	user := as.DN.String()
	err := func() error {
		p, err := ldapwire.DecodePasswordModify(req.Value)
		if err != nil {
			return &directory.ResultError{Code: directory.ProtocolError, Text: "malformed password modify request", Err: err}
		}
		if !c.secure {
			return refusal(directory.ConfidentialityRequired, "passwords need TLS")
		}
		if p.User != "" {
			user = strings.TrimPrefix(p.User, "dn:")
		}
		dn, err := parseDN(user)
		if err != nil {
			return err
		}
		if err := as.mayWrite(c.srv, dn, "userPassword"); err != nil {
			return err
		}
		if p.Old != "" {
			err := c.guarded(ctx, dn.Normal(), func() error { return c.srv.o.Tree.Bind(ctx, dn, p.Old) })
			if err != nil && !errors.Is(err, directory.ErrPasswordExpired) {
				return err
			}
		}
		if p.New == "" {
			generated = rand.Text()
			p.New = generated
		}
		if changer, ok := c.srv.o.Tree.(directory.PasswordChanger); ok {
			return changer.ChangePassword(ctx, dn, p.New)
		}
		// Only the hash goes on: a value that looks hashed is still a password.
		return c.srv.editor.Modify(ctx, dn, []directory.Change{{Kind: directory.ReplaceValues,
			Attribute: directory.Attribute{Name: "userPassword", Values: []string{password.Hash(p.New)}}}})
	}()
	res := as.result(c, err)
	c.logEdit("password change", user, as, res, err)
	answer := &ldapwire.ExtendedResponse{Result: res}
	if generated != "" && res.Code == int(directory.Success) {
		answer.Value, answer.HasValue = string(ldapwire.AppendGenerated(nil, generated)), true
	}
	return answer, err
}

// cancel is RFC 3909: as abandon, but both operations are answered.
func (c *session) cancel(req *ldapwire.ExtendedRequest) ldapwire.Result {
	id, err := ldapwire.DecodeCancel(req.Value)
	if err != nil {
		return result(directory.ProtocolError, "malformed cancel request")
	}
	c.mu.Lock()
	op := c.ops[id]
	c.mu.Unlock()
	if op == nil {
		return result(directory.NoSuchOperation, "")
	}
	op.canceled.Store(true)
	op.cancel()
	return ldapwire.Result{}
}

// startTLS is RFC 4511 §4.14. False ends the connection: the handshake failed,
// or plaintext came behind the request, which must not survive it.
func (c *session) startTLS(ctx context.Context, id int) bool {
	answer := func(code directory.ResultCode, text string) {
		c.reply(id, &ldapwire.ExtendedResponse{Result: result(code, text), OID: ldapwire.OIDStartTLS})
	}
	c.mu.Lock()
	underWay := len(c.ops)
	c.mu.Unlock()
	switch {
	case c.srv.o.TLS == nil:
		answer(directory.ProtocolError, "TLS is not offered") // §4.14.1: as an unknown operation
		return true
	case c.tls, underWay > 0:
		answer(directory.OperationsError, "TLS is active or operations are under way")
		return true
	case c.conn.Buffered() > 0:
		c.log.Info("plaintext behind StartTLS")
		return false
	}
	c.running.Wait() // for those that have answered and are about to end
	answer(directory.Success, "")
	conn := tls.Server(c.conn.Raw(), c.srv.o.TLS)
	if err := handshake(ctx, conn); err != nil {
		c.log.Info("tls handshake failed", "err", err)
		return false
	}
	if err := c.conn.Upgrade(conn); err != nil {
		return false
	}
	c.out.conn = conn
	c.secure, c.tls = true, true
	return true
}
