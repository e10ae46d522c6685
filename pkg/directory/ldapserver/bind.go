package ldapserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/password"
	"mailsrv/pkg/wire/ldapwire"
)

const mechanismExternal = "EXTERNAL"

// bind answers a bind (RFC 4511 §4.2, RFC 4513 §5). Whatever comes of it, the
// connection has no identity of an earlier one.
func (c *session) bind(ctx context.Context, req *ldapwire.BindRequest) *ldapwire.BindResponse {
	start := time.Now()
	c.who, c.privileged = directory.DN{}, false
	c.start = start
	who, mech, err := c.authenticate(ctx, req)
	res := c.result(err)
	switch {
	case err != nil:
		c.log.Info("bind refused", "account", printable(req.Name), "mech", mech, "tls", c.tls, "code", res.Code, "duration", time.Since(start), "err", err)
	case who.IsRoot():
		c.log.Debug("bind as nobody")
	default:
		c.who, c.privileged = who, c.srv.o.Access.Privileged(who)
		c.log.Info("bind", "account", who.String(), "mech", mech, "tls", c.tls, "duration", time.Since(start))
	}
	return &ldapwire.BindResponse{Result: res}
}

// authenticate returns who the client is, and how it said so.
func (c *session) authenticate(ctx context.Context, req *ldapwire.BindRequest) (who directory.DN, mech string, err error) {
	switch {
	case req.Version != 3:
		return who, "", refusal(directory.ProtocolError, "only LDAP version 3 is spoken here")
	case req.Auth == ldapwire.AuthSASL && req.Mechanism == mechanismExternal:
		who, err = c.external(req)
		return who, mechanismExternal, err
	case req.Auth != ldapwire.AuthSimple:
		return who, "", refusal(directory.AuthMethodNotSupported, "unknown authentication method")
	}
	who, err = c.simple(ctx, req)
	return who, "simple", err
}

func (c *session) simple(ctx context.Context, req *ldapwire.BindRequest) (directory.DN, error) {
	nobody := directory.DN{}
	if req.Name == "" && req.Password == "" {
		return nobody, nil // §5.1.1: anonymous
	}
	if !c.secure {
		return nobody, refusal(directory.ConfidentialityRequired, "passwords need TLS")
	}
	if req.Password == "" { // §5.1.2, §6.3.1: a forgotten password must not look like a success
		return nobody, refusal(directory.UnwillingToPerform, "empty password")
	}
	dn, err := parseDN(req.Name)
	if err != nil {
		return nobody, err
	}
	if dn.IsRoot() {
		return nobody, refusal(directory.InvalidCredentials, "")
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.o.TimeLimit)
	defer cancel()
	err = c.srv.verify(ctx, dn, req.Password)
	switch {
	case err == nil:
		return dn, nil
	case errors.Is(err, directory.ErrBadCredentials): // one text for all causes
		err = &directory.ResultError{Code: directory.InvalidCredentials, Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		err = &directory.ResultError{Code: directory.Busy, Text: "too many passwords to check", Err: err}
	}
	return nobody, err
}

// verify checks the password of an account or an entry.
func (s *Server) verify(ctx context.Context, dn directory.DN, given string) error {
	i := slices.IndexFunc(s.o.Accounts, func(a Account) bool { return a.DN.Equal(dn) })
	if i < 0 {
		return s.o.Tree.Bind(ctx, dn, given)
	}
	want := s.o.Accounts[i].Password
	if !password.IsHashed(want) {
		a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(given))
		if want != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
			return nil
		}
		return directory.ErrBadCredentials
	}
	select {
	case s.hashes <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.hashes }()
	if !password.Check([]string{want}, given) {
		return directory.ErrBadCredentials
	}
	return nil
}

// external is SASL EXTERNAL over a unix socket: the DN that Options.Peers has
// for the uid at the other end. An authorization identity must be that DN.
func (c *session) external(req *ldapwire.BindRequest) (directory.DN, error) {
	nobody := directory.DN{}
	if len(c.srv.o.Peers) == 0 {
		return nobody, refusal(directory.AuthMethodNotSupported, "unknown authentication method")
	}
	uid, ok := listen.PeerUID(c.conn.Raw())
	if !ok {
		return nobody, refusal(directory.InappropriateAuth, "EXTERNAL needs a unix socket")
	}
	dn, ok := c.srv.o.Peers[uid]
	if !ok || req.Credentials != "" && req.Credentials != "dn:"+dn.String() {
		return nobody, refusal(directory.InvalidCredentials, "")
	}
	return dn, nil
}

// confidential reports whether nobody else can read what comes over conn: by
// TLS, or because it does not leave the host.
func confidential(conn net.Conn) (secure, overTLS bool) {
	if _, ok := conn.(*tls.Conn); ok {
		return true, true
	}
	remote := conn.RemoteAddr()
	if remote.Network() == "unix" {
		return true, false
	}
	from, err := netip.ParseAddrPort(remote.String())
	return err == nil && from.Addr().Unmap().IsLoopback(), false
}
