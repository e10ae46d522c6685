package mta

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// group walks a group's members, if the sender may write to it.
func (w *walk) group(ctx context.Context, g *directory.Group, a mail.Address, s scope) error {
	if s.hops++; s.hops > maxHops {
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "too many groups one within the other"}
	}
	if !w.enter(g.DN) {
		return nil
	}
	if err := statusOf(g.Status); err != nil {
		w.step(a.String(), "group is "+string(g.Status), g.About(directory.AboutStatus))
		if g.Status == directory.Disabled {
			err = mail.Refuse(2, 1, "group disabled; cannot receive new mail")
		}
		s.hops--
		return w.later(a, err, s)
	}
	if h := g.MailHost; h != "" && w.rs.r.HasStore != nil && !w.rs.r.HasStore(h) && !w.rs.r.isOurs(h) {
		w.step(a.String(), "group, expanded by "+h, g.About(directory.AboutMailHost))
		return w.add(Target{Via: ViaMX, Host: h, Recipient: mail.Recipient{Address: a}}, s)
	}
	if isDecision(a, g) {
		w.step(a.String(), "a moderator's decision", g.About(directory.AboutModerator))
		return w.add(Target{Via: ViaAction, Host: ActionDecide, Recipient: mail.Recipient{Address: a, Action: ActionDecide}}, s)
	}
	if w.origin.Moderation != mail.Approved || s.hops > 2 {
		if done, err := w.posting(ctx, g, a, s); done || err != nil {
			return err
		}
	}
	if slices.Contains(g.DeliveryOptions, "hold") {
		w.step(a.String(), "on hold", g.About(directory.AboutDelivery))
		s.hops--
		return w.later(a, statusOf(directory.Hold), s)
	}
	if g.Defer || g.Posting.NeedsPassword || slices.Contains(g.DeliveryOptions, "members_offline") {
		s.hops--
		if done, err := w.deferred(a, g.About(directory.AboutDeferral), s); done {
			return err
		}
		s.hops++
	}
	return w.expand(ctx, g, a, w.within(g, a, s))
}

// within is the scope of a group's members.
func (w *walk) within(g *directory.Group, a mail.Address, s scope) scope {
	s.domain = g.Domain
	if !g.ErrorsTo.IsNull() {
		w.step(a.String(), "errors go to "+g.ErrorsTo.String(), g.About(directory.AboutErrorsTo))
		s.sender = g.ErrorsTo
	}
	if g.MaxMessage > 0 && (s.maxMessage == 0 || g.MaxMessage < s.maxMessage) {
		s.maxMessage = g.MaxMessage
	}
	e := g.Edit
	if g.Posting.NeedsPassword { // which is not for the members
		e.Remove = append(slices.Clone(e.Remove), approvedField)
	}
	if !e.IsZero() {
		w.step(a.String(), "the message is changed", g.About(directory.AboutHeader))
		if s.edit != nil { // the outer group's comes first
			e = directory.Edit{Add: slices.Concat(s.edit.Add, e.Add), Remove: slices.Concat(s.edit.Remove, e.Remove),
				Prefix: s.edit.Prefix + e.Prefix, Suffix: e.Suffix + s.edit.Suffix}
		}
		s.edit = &e
	}
	return s
}

// expand walks all members, from all sources.
func (w *walk) expand(ctx context.Context, g *directory.Group, a mail.Address, s scope) error {
	members, err := w.rs.members(ctx, g)
	if err != nil {
		return err
	}
	w.step(a.String(), fmt.Sprintf("group of %d members and %d addresses", len(members), len(g.External)), g.About(directory.AboutMembers))
	for _, u := range g.Searches {
		w.step(a.String(), "members found by "+u.String(), g.About(directory.AboutURL))
	}
	for _, m := range members {
		who := addressOf(m)
		if slices.ContainsFunc(g.Except, m.DN().Equal) {
			w.step(who.String(), "excepted from the group", directory.Fact{})
			continue
		}
		if err := w.member(m.DN().String(), w.entry(ctx, m, who, s)); err != nil {
			return err
		}
	}
	for _, to := range g.External {
		if err := w.member(to.String(), w.address(ctx, to, s)); err != nil {
			return err
		}
	}
	if !slices.Contains(g.DeliveryOptions, "forward") {
		return nil
	}
	return w.forward(ctx, g.Domain, a, g.ForwardTo, g.About(directory.AboutForward), s)
}

// members are a group's users and groups, from its DNs and its searches. A DN
// without an entry is nobody.
func (rs *Resolution) members(ctx context.Context, g *directory.Group) ([]directory.Recipient, error) {
	var list []directory.Recipient
	for _, dn := range g.Members {
		m, err := rs.r.Directory.Member(ctx, dn)
		switch {
		case errors.Is(err, directory.ErrNotFound):
			continue
		case err != nil:
			return nil, outage(err)
		}
		list = append(list, m)
	}
	for _, u := range g.Searches {
		if rs.r.Lists == nil {
			break
		}
		found, err := rs.r.Lists.List(ctx, u)
		switch {
		case errors.Is(err, directory.ErrNotFound):
		case errors.Is(err, directory.ErrTooMany):
			return nil, mail.TryLater(2, 4, "the list is too large", err)
		case err != nil:
			return nil, outage(err)
		}
		list = append(list, found...)
	}
	return list, nil
}

// member lets a group pass over a member that is refused for good: the others
// get the message all the same.
func (w *walk) member(who string, err error) error {
	if mail.IsPermanent(err) {
		w.step(who, "refused: "+mail.StatusOf(err).Text, directory.Fact{})
		return nil
	}
	return err
}
