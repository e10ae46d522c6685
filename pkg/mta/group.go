package mta

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// group walks a group's members.
func (w *walk) group(ctx context.Context, g *directory.Group, a mail.Address, s scope) error {
	if s.hops++; s.hops > maxHops {
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "too many groups one within the other"}
	}
	if !w.enter(g.DN) {
		return nil
	}
	if err := statusOf(g.Status); err != nil {
		w.step(a.String(), "group is "+string(g.Status))
		if g.Status == directory.Disabled {
			err = mail.Refuse(2, 1, "group disabled; cannot receive new mail")
		}
		return w.later(a, err, s)
	}
	w.step(a.String(), fmt.Sprintf("group of %d members and %d addresses", len(g.Members), len(g.External)))
	if !g.ErrorsTo.IsNull() {
		s.sender = g.ErrorsTo
	}
	if g.MaxMessage > 0 && (s.maxMessage == 0 || g.MaxMessage < s.maxMessage) {
		s.maxMessage = g.MaxMessage
	}
	for _, dn := range g.Members {
		m, err := w.rs.r.Directory.Member(ctx, dn)
		switch {
		case errors.Is(err, directory.ErrNotFound):
			w.step(dn.String(), "no such member")
			continue
		case err != nil:
			return outage(err)
		}
		if err := w.member(dn.String(), w.entry(ctx, m, addressOf(m), s)); err != nil {
			return err
		}
	}
	for _, to := range g.External {
		if err := w.member(to.String(), w.address(ctx, to, s)); err != nil {
			return err
		}
	}
	return nil
}

// member lets a group pass over a member that is refused for good: the others
// get the message all the same.
func (w *walk) member(who string, err error) error {
	if mail.IsPermanent(err) {
		w.step(who, "refused: "+mail.StatusOf(err).Text)
		return nil
	}
	return err
}

// addressOf is the address under which an entry is found again.
func addressOf(r directory.Recipient) mail.Address {
	if r.Group != nil {
		return r.Group.Mail
	}
	return userAddress(r.User)
}

func userAddress(u *directory.User) mail.Address {
	for _, a := range slices.Concat([]mail.Address{u.Mail}, u.Alternates, u.Equivalents) {
		if a.Local != "" {
			return a
		}
	}
	return mail.Address{Local: u.UID, Domain: u.Domain}
}
