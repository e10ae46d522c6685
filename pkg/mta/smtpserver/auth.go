package smtpserver

import (
	"context"
	"errors"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire/smtpwire"
)

// Auth implements smtpwire.Handler.
func (c *client) Auth(_ context.Context, mechanism string) (smtpwire.Exchange, error) {
	if !c.server.o.Submission {
		return nil, &mail.Status{Code: 502, Enhanced: [3]int{5, 5, 1}, Text: "no logins here"}
	}
	if !c.session.Client.Private() {
		return nil, &mail.Status{Code: 538, Enhanced: [3]int{5, 7, 11}, Text: "encryption required"} // RFC 4954 §6
	}
	x, err := c.server.o.Authenticator.Start(mechanism, c.session.Client)
	if err != nil {
		return nil, loginStatus(err)
	}
	return &exchange{client: c, inner: x}, nil
}

// exchange notes who logged in, and gives the errors of a login their codes.
type exchange struct {
	client *client
	inner  auth.Exchange
}

// Next implements smtpwire.Exchange.
func (x *exchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	challenge, done, err := x.inner.Next(ctx, response)
	if errors.Is(err, auth.ErrMalformed) {
		return nil, false, loginStatus(err)
	}
	if err != nil {
		return nil, false, smtpwire.Reported(loginStatus(err)) // package auth has logged the login
	}
	if done {
		listen.Keep(ctx)
		id := x.inner.Identity()
		x.client.session.Identity = &id
		x.client.session.Log = x.client.session.Log.With("account", id.User.Account())
	}
	return challenge, done, nil
}

// loginStatus gives an error of package auth its reply (RFC 4954 §6). Wrong
// user and wrong password read the same, and an outage is never either.
func loginStatus(err error) *mail.Status {
	switch {
	case errors.Is(err, auth.ErrBadCredentials):
		return &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "bad credentials", Err: err}
	case errors.Is(err, auth.ErrRefused):
		return &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 13}, Text: "account may not log in here", Err: err}
	case errors.Is(err, auth.ErrMalformed):
		return &mail.Status{Code: 501, Enhanced: [3]int{5, 5, 2}, Text: "malformed response", Err: err}
	case errors.Is(err, auth.ErrMechanism):
		return &mail.Status{Code: 504, Enhanced: [3]int{5, 5, 4}, Text: "no such mechanism", Err: err}
	case errors.Is(err, auth.ErrThrottled):
		return &mail.Status{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "too many failed logins, try again later", Err: err}
	}
	return &mail.Status{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "login unavailable, try again later", Err: err}
}
