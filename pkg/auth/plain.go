package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"mailsrv/pkg/directory"
)

// password verifies a user's own password, or one of their programs for the
// service, or leaves that to the user's store.
func (l *Logins) password(ctx context.Context, id *Identity, service directory.Service, login, password string) (err error) {
	if l.o.Replay && password != "" {
		if id.User, err = l.o.Directory.User(ctx, login); err == nil && id.User.Replay.Password {
			id.Replay = password
			return nil
		} else if err != nil && !errors.Is(err, directory.ErrNotFound) {
			return err
		}
	}
	if v, ok := l.o.Directory.(directory.ServiceVerifier); ok && service != "" {
		id.User, err = v.VerifyFor(ctx, login, password, service)
	} else {
		id.User, err = l.o.Directory.Verify(ctx, login, password)
	}
	return err
}

// plainExchange is PLAIN (RFC 4616): authzid NUL authcid NUL password.
type plainExchange struct {
	l  *Logins
	c  Client
	id Identity
}

// Next implements Exchange.
func (e *plainExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 {
		e.l.o.Observe("PLAIN", "malformed")
		return nil, false, fmt.Errorf("%w: PLAIN", ErrMalformed)
	}
	var err error
	e.id, err = e.l.login(ctx, e.c, "PLAIN", string(parts[0]), string(parts[1]), string(parts[2]))
	return nil, err == nil, err
}

// Identity implements Exchange.
func (e *plainExchange) Identity() Identity { return e.id }

// loginExchange is LOGIN, as draft-murchison-sasl-login describes it.
type loginExchange struct {
	l    *Logins
	c    Client
	name []byte
	step int
	id   Identity
}

// Next implements Exchange.
func (e *loginExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil && e.step == 0 {
		return []byte("Username:"), false, nil
	}
	if e.step++; e.step == 1 {
		e.name = bytes.Clone(response)
		return []byte("Password:"), false, nil
	}
	if bytes.IndexByte(response, 0) >= 0 || bytes.IndexByte(e.name, 0) >= 0 {
		e.l.o.Observe("LOGIN", "malformed")
		return nil, false, fmt.Errorf("%w: LOGIN", ErrMalformed)
	}
	var err error
	e.id, err = e.l.login(ctx, e.c, "LOGIN", "", string(e.name), string(response))
	return nil, err == nil, err
}

// Identity implements Exchange.
func (e *loginExchange) Identity() Identity { return e.id }
