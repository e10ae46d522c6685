package ldapserver

import (
	"context"
	"errors"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// expiryWarning is how long before its end a password is spoken of.
const expiryWarning = 14 * 24 * time.Hour

// policyAfterBind is what the password policy control tells of a bind
// (draft-behera-ldap-password-policy-10 §6.2).
func (s *Server) policyAfterBind(ctx context.Context, who directory.DN, err error) ldapwire.Control {
	p := ldapwire.Policy{ExpiresIn: -1, Error: policyError(err)}
	if ager, ok := s.o.Tree.(directory.PasswordAger); ok && err == nil && !who.IsRoot() {
		if left, ends, err := ager.PasswordExpires(ctx, who); err == nil && ends && left < expiryWarning {
			p.ExpiresIn = int(max(left, 0) / time.Second)
		}
	}
	return p.Control()
}

// policyAfterChange is what it tells of a change; none unless it was asked.
func (with controls) policyAfterChange(err error) []ldapwire.Control {
	if !with.wantsPolicy {
		return nil
	}
	return []ldapwire.Control{ldapwire.Policy{ExpiresIn: -1, Error: policyError(err)}.Control()}
}

// policyError is the control's number for what was wrong with a password; -1: nothing.
func policyError(err error) int {
	switch {
	case errors.Is(err, directory.ErrPasswordExpired):
		return ldapwire.PolicyPasswordExpired
	case errors.Is(err, directory.ErrPasswordTooShort):
		return ldapwire.PolicyPasswordTooShort
	case errors.Is(err, directory.ErrPasswordUsed):
		return ldapwire.PolicyPasswordInHistory
	}
	return -1
}
