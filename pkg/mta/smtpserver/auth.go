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
		return nil, auth.Status(err)
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
		return nil, false, auth.Status(err)
	}
	if err != nil {
		return nil, false, smtpwire.Reported(auth.Status(err)) // package auth has logged the login
	}
	if done {
		listen.Keep(ctx)
		id := x.inner.Identity()
		x.client.session.Identity = &id
		x.client.session.Log = x.client.session.Log.With("account", id.User.Account())
	}
	return challenge, done, nil
}
