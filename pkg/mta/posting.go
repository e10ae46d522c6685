package mta

import (
	"context"
	"crypto/subtle"
	"errors"
	"path"
	"slices"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// posting judges whether the sender may write to the group, in the order of
// schema.md section 4. done: the message does not go to the members, now.
func (w *walk) posting(ctx context.Context, g *directory.Group, a mail.Address, s scope) (done bool, err error) {
	p, sender := g.Posting, sender{from: w.rs.poster.From}
	if len(p.Allowed)+len(p.Disallowed)+len(p.Moderators) > 0 {
		if sender = w.rs.sender(ctx); sender.err != nil {
			return true, sender.err
		}
	}
	why, fact, err := w.rs.objection(ctx, g, sender)
	if err != nil {
		return true, err
	}
	if g.MaxMessage > 0 && w.rs.poster.Size > g.MaxMessage {
		w.step(a.String(), "the message is too large", g.About(directory.AboutSize))
		return true, &mail.Status{Code: 552, Enhanced: [3]int{5, 2, 3}, Text: "message is larger than this list takes"}
	}
	moderated := len(p.Moderators) > 0
	if why == "" && moderated && !p.Restricted() {
		why, fact = "every message waits for a moderator", g.About(directory.AboutModerator)
	} else {
		moderated = moderated && p.ToModerator
	}
	switch {
	case why == "":
		return false, nil
	case moderated && w.rs.poster.Proof != mail.Unproven:
		own, err := w.rs.isAny(ctx, g, p.Moderators, sender)
		if err != nil || own {
			if own {
				w.step(a.String(), "the sender is a moderator", g.About(directory.AboutModerator))
			}
			return err != nil, err
		}
	}
	w.step(a.String(), why, fact)
	if moderated {
		return true, w.moderate(g, a, s)
	}
	text := p.RejectText
	if text == "" {
		text = "you may not write to this list"
	}
	return true, mail.Refuse(7, 2, text)
}

// moderate keeps the message for the group in the queue, and asks the moderators.
func (w *walk) moderate(g *directory.Group, a mail.Address, s scope) error {
	if addressOf(directory.Recipient{Group: g}).Domain == "" {
		return mail.Refuse(7, 2, "a moderated list without an address takes no mail")
	}
	w.step(a.String(), "kept until a moderator releases it", g.About(directory.AboutReject))
	held := mail.Recipient{Address: addressOf(directory.Recipient{Group: g}), Moderation: mail.Awaiting}
	if err := w.add(Target{Via: ViaQueue, Recipient: held}, s); err != nil {
		return err
	}
	ask := mail.Recipient{Address: held.Address, Action: ActionNotify, Notify: "NEVER"}
	s.sender = mail.Address{}
	return w.add(Target{Via: ViaAction, Host: ActionNotify, Recipient: ask}, s)
}

// objection says what speaks against the sender; empty: nothing.
func (rs *Resolution) objection(ctx context.Context, g *directory.Group, who sender) (string, directory.Fact, error) {
	p := g.Posting
	type condition struct {
		asked bool
		holds func() (bool, error)
		why   string
		about directory.Aspect
	}
	conditions := []condition{
		{p.Authenticated, func() (bool, error) { return rs.poster.Proof == mail.LoggedIn, nil }, "senders have to log in", directory.AboutPolicy},
		{p.NeedsPassword, func() (bool, error) { return rs.approved(p.Password) }, "the list wants its password", directory.AboutPolicy},
		{len(p.AllowedDomains) > 0, func() (bool, error) { return inDomains(p.AllowedDomains, who.from), nil }, "the sender's domain is not allowed", directory.AboutAllowedDomain},
		{len(p.Allowed) > 0, func() (bool, error) { return rs.isAny(ctx, g, p.Allowed, who) }, "the sender is none of those allowed", directory.AboutAllowed},
	}
	first, any := condition{}, false
	for _, c := range conditions {
		if !c.asked {
			continue
		}
		ok, err := c.holds()
		if err != nil {
			return "", directory.Fact{}, err
		}
		if any = any || ok; !ok && first.why == "" {
			first = c
		}
	}
	if inDomains(p.DisallowedDomains, who.from) {
		return "the sender's domain is not wanted", g.About(directory.AboutDisallowedDomain), nil
	}
	unwanted, err := rs.isAny(ctx, g, p.Disallowed, who)
	switch {
	case err != nil:
		return "", directory.Fact{}, err
	case unwanted:
		return "the sender is not wanted", g.About(directory.AboutDisallowed), nil
	case first.why == "" || any && p.AnyOf:
		return "", directory.Fact{}, nil
	}
	return first.why, g.About(first.about), nil
}

// approved reports whether the message holds the list's password in an Approved
// field. Before the message is there nobody can tell.
func (rs *Resolution) approved(password string) (bool, error) {
	if rs.header == nil || password == "" {
		return password != "", nil
	}
	h, err := rs.header()
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare([]byte(h.Approved), []byte(password)) == 1, nil
}

func inDomains(globs []string, from mail.Address) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, from.Domain)
		return ok && err == nil
	})
}

// sender is who writes, with the entry of one of our users.
type sender struct {
	from mail.Address
	user *directory.User // nil: a stranger, or a group
	err  error
}

// sender looks the reverse-path up, once for a message.
func (rs *Resolution) sender(ctx context.Context) sender {
	if rs.who == nil {
		rs.who = &sender{from: rs.poster.From}
		if !rs.who.from.IsNull() {
			r, err := rs.holder(ctx, rs.who.from)
			rs.who.user, rs.who.err = r.User, err
		}
	}
	return *rs.who
}

// holder returns the entry of an address of ours, with or without its +detail;
// neither user nor group if there is none.
func (rs *Resolution) holder(ctx context.Context, a mail.Address) (directory.Recipient, error) {
	d, err := rs.Domain(ctx, a.Domain)
	if err != nil || d.Kind == External {
		return directory.Recipient{}, err
	}
	w := &walk{rs: rs}
	r, err := w.lookup(ctx, a)
	if errors.Is(err, directory.ErrNotFound) {
		return directory.Recipient{}, nil
	}
	if err != nil {
		return directory.Recipient{}, outage(err)
	}
	return r, nil
}

// isAny reports whether the sender is one of the parties. g is whose parties
// they are: it stands for its members.
func (rs *Resolution) isAny(ctx context.Context, g *directory.Group, list []directory.Party, who sender) (bool, error) {
	for _, p := range list {
		var found []directory.Recipient
		switch {
		case p.Search != nil:
			m, err := rs.members(ctx, &directory.Group{Searches: []directory.MemberURL{*p.Search}})
			if err != nil {
				return false, err
			}
			found = m
		case !p.DN.IsRoot():
			m, err := rs.members(ctx, &directory.Group{Members: []directory.DN{p.DN}})
			if err != nil {
				return false, err
			}
			found = m
		case p.Address.Key() == who.from.Key():
			return true, nil
		default:
			r, err := rs.holder(ctx, p.Address)
			if err != nil {
				return false, err
			}
			found = []directory.Recipient{r}
		}
		for _, r := range found {
			if ok, err := rs.stands(ctx, r, who, map[string]bool{}); ok || err != nil {
				return ok, err
			}
		}
	}
	return false, nil
}

// stands reports whether an entry is the sender, or a group that he is a member of.
func (rs *Resolution) stands(ctx context.Context, r directory.Recipient, who sender, seen map[string]bool) (bool, error) {
	switch {
	case r.User != nil:
		return who.user != nil && r.User.DN.Equal(who.user.DN), nil
	case r.Group == nil || seen[r.Group.DN.Normal()]:
		return false, nil
	}
	seen[r.Group.DN.Normal()] = true
	if slices.ContainsFunc(r.Group.External, func(a mail.Address) bool { return a.Key() == who.from.Key() }) {
		return true, nil
	}
	members, err := rs.members(ctx, r.Group)
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if ok, err := rs.stands(ctx, m, who, seen); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}
