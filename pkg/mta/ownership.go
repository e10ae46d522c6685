package mta

import (
	"context"
	"errors"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// ownership binds a submission to its login: the reverse-path and the From
// field must be addresses of the user (RFC 6409 §6.1).
type ownership struct {
	directory directory.Directory
}

// Check implements Check.
func (o ownership) Check(ctx context.Context, at Stage, e *Evidence) error {
	if !e.Session.Submission {
		return nil
	}
	if e.Session.Identity == nil {
		return &mail.Status{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "authentication required"}
	}
	u := &e.Session.Identity.User
	switch at {
	case AtSender:
		if e.Sender.From.IsNull() { // a receipt or other notice (RFC 5321 §4.5.5)
			return nil
		}
		return o.owned(ctx, u, e.Sender.From, "sender address is not yours")
	case AtMessage:
		if e.Header.Froms != 1 || len(e.Header.From) == 0 {
			return mail.Refuse(6, 0, "a submission needs one From field")
		}
		for _, a := range e.Header.From {
			domain, err := mail.ParseDomain(a.Domain)
			if err != nil {
				return &mail.Status{Code: 550, Enhanced: [3]int{5, 6, 0}, Text: "malformed From field", Err: err}
			}
			if err := o.owned(ctx, u, mail.Address{Local: a.Local, Domain: domain}, "From field is not yours"); err != nil {
				return err
			}
		}
	}
	return nil
}

// owned returns nil if a, with or without its +detail, leads to the user: as
// one of the entry's own addresses, or by what else the directory makes of it
// (an alias of the domain, "@domain").
func (o ownership) owned(ctx context.Context, u *directory.User, a mail.Address, refusal string) error {
	base, _, sub := strings.Cut(a.Local, "+")
	plain := mail.Address{Local: base, Domain: a.Domain}
	if owns(u, a) || sub && owns(u, plain) {
		return nil
	}
	candidates := []mail.Address{a}
	if sub && base != "" {
		candidates = append(candidates, plain)
	}
	for _, c := range candidates {
		r, err := o.directory.Recipient(ctx, c)
		switch {
		case err == nil && r.User != nil && r.User.DN.Equal(u.DN):
			return nil
		case err != nil && !errors.Is(err, directory.ErrNotFound):
			return outage(err)
		}
	}
	return mail.Refuse(7, 1, refusal)
}
