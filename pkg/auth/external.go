package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// certified lists whom the client's certificate names: the mail addresses in
// it, or else its common name. Only one that the server's CA for clients signed
// counts.
func (c Client) certified() []string {
	if c.Session == nil || len(c.Session.VerifiedChains) == 0 || c.Peer.IsValid() {
		return nil // behind a proxy the certificate is the proxy's
	}
	leaf := c.Session.VerifiedChains[0][0]
	if len(leaf.EmailAddresses) > 0 {
		return leaf.EmailAddresses
	}
	if leaf.Subject.CommonName != "" {
		return []string{leaf.Subject.CommonName}
	}
	return nil
}

// externalExchange is EXTERNAL (RFC 4422 appendix A): who the client is was
// proved by its TLS certificate; it says only as whom it wants to act.
type externalExchange struct {
	l  *Logins
	c  Client
	id Identity
}

// Next implements Exchange.
func (e *externalExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	names := e.c.certified()
	authcid, authzid := names[0], string(response)
	if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, authzid) }); i >= 0 {
		authcid = names[i]
	}
	authzid, authcid = e.l.qualified(e.c, authzid), e.l.qualified(e.c, authcid)
	var err error
	e.id, err = e.l.judge(ctx, e.c, "EXTERNAL", authcid, func(id *Identity) error {
		if authzid != "" && !strings.EqualFold(authzid, authcid) {
			return fmt.Errorf("%w: the certificate of %q is none of %.80q", ErrBadCredentials, authcid, authzid)
		}
		return e.l.known(ctx, id, authcid)
	})
	return nil, err == nil, err
}

// Identity implements Exchange.
func (e *externalExchange) Identity() Identity { return e.id }
