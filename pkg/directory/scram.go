package directory

import (
	"context"
	"fmt"

	"mailsrv/pkg/password"
)

// SCRAMSecrets is a Directory that keeps the secrets of SCRAM-SHA-256 (RFC
// 7677) beside the passwords, as View does: the ability that auth's mechanism
// asks for.
type SCRAMSecrets interface {
	// SCRAM returns the user who logs in as login, as User does, and the
	// secret. ErrNotFound: there is no such user, or no secret of theirs, since
	// their password has come as a hash and was not used since; the mechanism
	// goes on with a salt made up, so that neither is told apart.
	SCRAM(ctx context.Context, login string) (User, password.SCRAM, error)
}

var _ SCRAMSecrets = (*View)(nil)

// SCRAMAttribute holds SCRAM secrets (RFC 5803). Engines keep it in step with
// userPassword; admins and services alone may read it, and only by its name.
const SCRAMAttribute = "authPassword"

// SCRAM implements SCRAMSecrets, with one search more than User.
func (v *View) SCRAM(ctx context.Context, login string) (User, password.SCRAM, error) {
	u, err := v.User(ctx, login)
	if err != nil {
		return User{}, password.SCRAM{}, err
	}
	sources := []Source{{Attribute: SCRAMAttribute}}
	if m := v.o.Mapping; m != nil {
		sources = m.Attributes[SCRAMAttribute]
	}
	q := Query{Base: u.DN, Scope: ScopeBase}
	for _, s := range sources {
		q.Attributes = append(q.Attributes, s.Attribute)
	}
	e, err := v.one(ctx, q)
	if err != nil {
		return User{}, password.SCRAM{}, fmt.Errorf("reading the SCRAM secret of %q: %w", login, err)
	}
	for _, text := range valuesOf(e, sources) {
		if s, ok := password.ParseSCRAM(text); ok {
			return u, s, nil
		}
	}
	return User{}, password.SCRAM{}, fmt.Errorf("%w: %s has no SCRAM secret", ErrNotFound, u.DN)
}
