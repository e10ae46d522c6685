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
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/password"
	"mailsrv/pkg/wire/ldapwire"
)

// The SASL mechanisms.
const (
	mechanismExternal = "EXTERNAL"
	mechanismPlain    = "PLAIN"
)

// bind answers a bind (RFC 4511 §4.2, RFC 4513 §5). Whatever comes of it, the
// connection has no identity of an earlier one.
func (c *session) bind(ctx context.Context, req *ldapwire.BindRequest, with controls) (*ldapwire.BindResponse, []ldapwire.Control) {
	start := time.Now()
	c.identify(asker{})
	c.start = start
	c.cursors.close()
	who, mech, challenge, err := c.authenticate(ctx, req)
	as := asker{}
	if err == nil {
		as, err = c.srv.asker(ctx, who)
	}
	res := c.asker.result(c, err)
	switch {
	case res.Code == int(directory.SASLBindInProgress):
	case err != nil:
		c.log.Info("bind refused", "account", printable(req.Name), "mech", mech, "tls", c.tls, "code", res.Code, "duration", time.Since(start), "err", err)
	case who.IsRoot():
		c.log.Debug("bind as nobody")
	default:
		listen.Keep(ctx)
		c.identify(as)
		c.log.Info("bind", "account", who.String(), "mech", mech, "tls", c.tls, "duration", time.Since(start))
	}
	var answers []ldapwire.Control
	if with.wantsPolicy {
		answers = []ldapwire.Control{c.srv.policyAfterBind(ctx, who, err)}
	}
	return &ldapwire.BindResponse{Result: res, ServerCredentials: challenge, HasServerCredentials: challenge != ""}, answers
}

// authenticate returns who the client is, how it said so, and what it is to hear
// besides. It ends an exchange under way, or takes it further.
func (c *session) authenticate(ctx context.Context, req *ldapwire.BindRequest) (who directory.DN, mech, challenge string, err error) {
	under := c.exchange
	switch {
	case req.Version != 3:
		err = refusal(directory.ProtocolError, "only LDAP version 3 is spoken here")
	case req.Auth == ldapwire.AuthSimple:
		mech = "simple"
		who, err = c.simple(ctx, req.Name, req.Password)
	case req.Auth == ldapwire.AuthSASL:
		mech = printable(req.Mechanism)
		who, challenge, err = c.sasl(ctx, req, under)
	default:
		err = refusal(directory.AuthMethodNotSupported, "unknown authentication method")
	}
	if r, ok := errors.AsType[*directory.ResultError](err); !ok || r.Code != directory.SASLBindInProgress {
		c.exchange = nil
	}
	return who, mech, challenge, err
}

// plain is SASL PLAIN (RFC 4616): the names are DNs, with "dn:" before them or not.
func (c *session) plain(ctx context.Context, req *ldapwire.BindRequest) (directory.DN, error) {
	parts := strings.Split(req.Credentials, "\x00")
	if len(parts) != 3 || parts[1] == "" {
		return directory.DN{}, refusal(directory.ProtocolError, "malformed PLAIN message")
	}
	name := strings.TrimPrefix(parts[1], "dn:")
	dn, err := c.simple(ctx, name, parts[2])
	if err != nil || parts[0] == "" {
		return dn, err
	}
	if authzid, err := parseDN(strings.TrimPrefix(parts[0], "dn:")); err != nil || !authzid.Equal(dn) {
		return directory.DN{}, refusal(directory.InvalidCredentials, "")
	}
	return dn, nil
}

func (c *session) simple(ctx context.Context, name, given string) (directory.DN, error) {
	nobody := directory.DN{}
	if name == "" && given == "" {
		return nobody, nil // §5.1.1: anonymous
	}
	if !c.secure {
		return nobody, refusal(directory.ConfidentialityRequired, "passwords need TLS")
	}
	if given == "" { // §5.1.2, §6.3.1: a forgotten password must not look like a success
		return nobody, refusal(directory.UnwillingToPerform, "empty password")
	}
	dn, err := parseDN(name)
	if err != nil {
		return nobody, err
	}
	if dn.IsRoot() {
		return nobody, refusal(directory.InvalidCredentials, "")
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.o.TimeLimit)
	defer cancel()
	err = c.guarded(ctx, dn.Normal(), func() error { return c.srv.verify(ctx, dn, given) })
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

// peer is who is at the other end by other means than LDAP's: the process on a
// unix socket, or the owner of the client certificate.
func (c *session) peer() (dn directory.DN, ok bool) {
	if uid, local := listen.PeerUID(c.conn.Raw()); local {
		dn, ok = c.srv.o.Peers[uid]
		return dn, ok
	}
	t, overTLS := c.out.conn.(*tls.Conn)
	if !overTLS || len(c.srv.o.Certificates) == 0 {
		return dn, false
	}
	// Verified chains alone: a certificate by itself says nothing.
	chains := t.ConnectionState().VerifiedChains
	if len(chains) == 0 {
		return dn, false
	}
	dn, ok = c.srv.o.Certificates[chains[0][0].Subject.String()]
	return dn, ok
}

// external is SASL EXTERNAL. An authorization identity must be the peer's own.
func (c *session) external(req *ldapwire.BindRequest) (directory.DN, error) {
	dn, ok := c.peer()
	if !ok || req.Credentials != "" && req.Credentials != "dn:"+dn.String() {
		return directory.DN{}, refusal(directory.InvalidCredentials, "")
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
