package mta

import (
	"context"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// ownership binds a submission to its login: the reverse-path and the From
// field must be addresses of the user, or of a group that he owns or is named
// in as one who may write (RFC 6409 §6.1).
type ownership struct {
	resolver *Resolver
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
// one of the entry's own addresses, by what else the directory makes of it (an
// alias of the domain, "@domain"), or by a group.
func (o ownership) owned(ctx context.Context, u *directory.User, a mail.Address, refusal string) error {
	if owns(u, a) {
		return nil
	}
	candidates := []mail.Address{a}
	if base, _, sub := strings.Cut(a.Local, "+"); sub && base != "" {
		candidates = append(candidates, mail.Address{Local: base, Domain: a.Domain})
	}
	rs := o.resolver.Again(Poster{From: u.Mail})
	for _, c := range candidates {
		r, err := rs.holder(ctx, c)
		switch {
		case err != nil:
			return err
		case r.User != nil && r.User.DN.Equal(u.DN), r.Group != nil && maySendAs(u, r.Group):
			return nil
		}
	}
	return mail.Refuse(7, 1, refusal)
}

// maySendAs reports whether the user is an owner of the group, or named among
// those who may write to it. To be a member is not enough.
func maySendAs(u *directory.User, g *directory.Group) bool {
	if slices.ContainsFunc(g.Owners, u.DN.Equal) {
		return true
	}
	return slices.ContainsFunc(g.Posting.Allowed, func(p directory.Party) bool {
		return !p.DN.IsRoot() && p.DN.Equal(u.DN) || !p.Address.IsNull() && owns(u, p.Address)
	})
}
