package mta

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// The actions of mail.Recipient that this package gives; the name of a program
// follows ActionProgram.
const (
	// ActionReply sends the user's automatic reply.
	ActionReply = "autoreply"
	// ActionProgram runs a program of the configuration.
	ActionProgram = "program:"
	// ActionNotify asks the moderators of a group.
	ActionNotify = "moderators"
	// ActionDecide does what a moderator's reply says.
	ActionDecide = "moderation"
)

// user walks a user's entry, reached as a.
func (w *walk) user(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	if !w.enter(u.DN) {
		return nil
	}
	if err := w.rs.r.statusOf(u.Status); err != nil {
		w.step(a.String(), "user is "+string(u.Status), u.About(directory.AboutStatus))
		return w.later(a, err, s)
	}
	if !u.RoutingAddress.IsNull() {
		return w.routed(ctx, u, a, s)
	}
	if u.MaxMessage > 0 && (s.maxMessage == 0 || u.MaxMessage < s.maxMessage) {
		w.step(a.String(), fmt.Sprintf("takes at most %d bytes", u.MaxMessage), u.About(directory.AboutSize))
		s.maxMessage = u.MaxMessage
	}
	if slices.Contains(u.DeliveryOptions, "hold") {
		w.step(a.String(), "on hold", u.About(directory.AboutDelivery))
		return w.later(a, statusOf(directory.Hold), s)
	}
	if u.Defer {
		if done, err := w.deferred(a, u.About(directory.AboutDeferral), s); done {
			return err
		}
	}
	return w.options(ctx, u, a, s)
}

// routed follows the administrator's routing address, which ends all else. One
// of the form "@host:address" goes to that host.
func (w *walk) routed(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	fact := u.About(directory.AboutRouting)
	if u.RoutingHost != "" {
		w.step(a.String(), "routed to "+u.RoutingAddress.String()+" at "+u.RoutingHost, fact)
		return w.add(Target{Via: ViaMX, Host: u.RoutingHost, Recipient: mail.Recipient{Address: u.RoutingAddress}}, s)
	}
	w.step(a.String(), "routed to "+u.RoutingAddress.String(), fact)
	s.domain = u.Domain
	return w.address(ctx, u.RoutingAddress, s)
}

// options does what the delivery options say. A user who forwards to himself
// means his mailbox; one whose options we can follow none of keeps his mail
// there too.
func (w *walk) options(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	fact := u.About(directory.AboutDelivery)
	keep, done := len(u.DeliveryOptions) == 0, false
	var forward []mail.Address
	for _, option := range u.DeliveryOptions {
		switch option {
		case "mailbox", "native", "unix":
			keep = true
		case "forward":
			for _, to := range u.ForwardTo {
				if owns(u, to) {
					keep = true
				} else {
					forward = append(forward, to)
				}
			}
		case "autoreply":
			done = w.autoreply(u, a, s) || done
		case "program":
			done = w.programs(u, a, s) || done
		case "nomail":
			w.step(a.String(), "wants no mail", fact)
			w.discard, done = true, true
		default:
			w.step(a.String(), "delivery option "+option+" passed over", fact)
		}
	}
	if keep || len(forward) == 0 && !done {
		if err := w.mailbox(ctx, u, a, s); err != nil {
			return err
		}
	}
	return w.forward(ctx, u.Domain, a, forward, u.About(directory.AboutForward), s)
}

// forward follows addresses that an entry of a domain leads to. One that is
// refused for good does not stop the others.
func (w *walk) forward(ctx context.Context, domain string, a mail.Address, list []mail.Address, f directory.Fact, s scope) error {
	s.domain = domain
	for _, to := range list {
		w.step(a.String(), "forwarded to "+to.String(), f)
		if err := w.member(to.String(), w.address(ctx, to, s)); err != nil {
			return err
		}
	}
	return nil
}

// autoreply adds the user's automatic reply, if it is due now.
func (w *walk) autoreply(u *directory.User, a mail.Address, s scope) bool {
	if !u.AutoReply.Active(w.rs.r.now()) {
		w.step(a.String(), "automatic reply, but not at this time", u.About(directory.AboutAbsence))
		return false
	}
	w.step(a.String(), "automatic reply, mode "+string(u.AutoReply.Mode), u.About(directory.AboutReply))
	s.sender, s.edit = mail.Address{}, nil
	return w.add(Target{Via: ViaAction, Host: ActionReply,
		Recipient: mail.Recipient{Address: userAddress(u), Action: ActionReply, Notify: "NEVER"}}, s) == nil
}

// programs adds the user's programs that are registered.
func (w *walk) programs(u *directory.User, a mail.Address, s scope) (any bool) {
	fact := u.About(directory.AboutProgram)
	for _, name := range u.Programs {
		if !slices.Contains(w.rs.r.Programs, name) {
			w.step(a.String(), "program "+name+" is not registered, passed over", fact)
			continue
		}
		w.step(a.String(), "program "+name, fact)
		any = w.add(Target{Via: ViaAction, Host: ActionProgram + name,
			Recipient: mail.Recipient{Address: userAddress(u), Action: ActionProgram + name}}, s) == nil || any
	}
	return any
}

// mailbox adds the user's own mailbox.
func (w *walk) mailbox(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	t, err := w.rs.mailboxOf(ctx, u, mail.Recipient{Address: userAddress(u), Mailbox: Inbox})
	if err != nil {
		w.step(a.String(), "user without a mail host", directory.Fact{})
		return err
	}
	if t.Via == ViaStore {
		w.step(a.String(), "user, mail host "+t.Host, u.About(directory.AboutMailHost))
	} else {
		w.step(a.String(), "user, relayed to "+t.Host, u.About(directory.AboutMailHost))
	}
	return w.add(t, s)
}

// mailboxOf is the Target for a final delivery to a user: the store of the mail
// host, that host itself if it is none of our stores or, for a user who has
// none, the smart host of the domain.
func (rs *Resolution) mailboxOf(ctx context.Context, u *directory.User, r mail.Recipient) (Target, error) {
	if u.MailHost != "" && (rs.r.HasStore == nil || rs.r.HasStore(u.MailHost)) {
		return Target{Via: ViaStore, Host: u.MailHost, Recipient: r}, nil
	}
	r.Mailbox = ""
	if u.MailHost != "" {
		return Target{Via: ViaMX, Host: u.MailHost, Recipient: r}, nil
	}
	d, err := rs.Domain(ctx, u.Domain)
	if err != nil {
		return Target{}, err
	}
	if d.Domain.SmartHost == "" {
		return Target{}, mail.TryLater(3, 5, "the mailbox has no host yet, try again later", fmt.Errorf("%s has no mailHost and its domain no smart host", u.DN))
	}
	return Target{Via: ViaMX, Host: d.Domain.SmartHost, Recipient: r}, nil
}

// owns reports whether a, with or without its +detail, is one of the user's own
// addresses, without asking the directory: aliases of the domain are not seen.
func owns(u *directory.User, a mail.Address) bool {
	own := addressesOf(directory.Recipient{User: u})
	same := func(k mail.Address) bool {
		return slices.ContainsFunc(own, func(o mail.Address) bool { return o.Key() == k.Key() })
	}
	base, _, sub := strings.Cut(a.Local, "+")
	return same(a) || sub && base != "" && same(mail.Address{Local: base, Domain: a.Domain})
}

// addressesOf lists the addresses of an entry, the canonical one first; those
// of the form "@domain" have no local part.
func addressesOf(r directory.Recipient) []mail.Address {
	if r.Group != nil {
		return slices.Concat([]mail.Address{r.Group.Mail}, r.Group.Alternates, r.Group.Equivalents)
	}
	return slices.Concat([]mail.Address{r.User.Mail}, r.User.Alternates, r.User.Equivalents)
}

// addressOf is the address under which an entry is found again.
func addressOf(r directory.Recipient) mail.Address {
	if r.Group != nil {
		return r.Group.Mail
	}
	return userAddress(r.User)
}

func userAddress(u *directory.User) mail.Address {
	for _, a := range addressesOf(directory.Recipient{User: u}) {
		if a.Local != "" {
			return a
		}
	}
	return mail.Address{Local: u.UID, Domain: u.Domain}
}
