package mta

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Bounds of one resolution.
const (
	maxHops    = 20     // addresses and groups one behind the other
	maxTargets = 10_000 // places that one forward-path may end in
)

// Plan is what becomes of one forward-path.
type Plan struct {
	// Decision is about the domain of the forward-path itself.
	Decision Decision
	// Targets are the places it goes to, each once; none with a nil error of
	// Resolve means that the entry asks for no delivery.
	Targets []Target
	// Steps tell how they were found, for the log and for a dry run.
	Steps []Step
}

// Step is one turn of a resolution: what this address or DN was found to be.
type Step struct {
	Subject, Finding string
}

// Resolve says what becomes of the forward-path in r, whose Mailbox must be
// empty. The error is a *mail.Status: permanent if the address is refused for
// good, transient if the directory gave no answer or the entry's status says
// so; that of an entry on hold is ErrHold too.
func (rs *Resolution) Resolve(ctx context.Context, r mail.Recipient) (Plan, error) {
	d, err := rs.Domain(ctx, r.Address.Domain)
	if err != nil {
		return Plan{}, err
	}
	w := &walk{rs: rs, origin: r, seen: make(map[key]bool), visited: make(map[string]bool)}
	w.plan.Decision = d
	err = w.address(ctx, r.Address, scope{})
	if err == nil && len(w.plan.Targets) == 0 && !w.discard {
		err = mail.Refuse(2, 4, "nobody is behind this address")
		if w.looped {
			err = &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "this address forwards to itself"}
		}
	}
	return w.plan, err
}

// walk is one Resolve.
type walk struct {
	rs     *Resolution
	origin mail.Recipient
	plan   Plan
	seen   map[key]bool
	// visited holds the entries on the way, by normal DN: each is walked once.
	visited map[string]bool
	looped  bool // an entry led back to itself
	discard bool // an entry asked for no delivery
}

// scope is what the groups on the way lay upon the targets below them.
type scope struct {
	hops       int
	sender     mail.Address
	maxMessage int64
}

func (w *walk) step(subject, finding string) {
	w.plan.Steps = append(w.plan.Steps, Step{Subject: subject, Finding: finding})
}

// address walks a forward-path, or an address that an entry leads to.
func (w *walk) address(ctx context.Context, a mail.Address, s scope) error {
	if s.hops++; s.hops > maxHops {
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "too many forwards one behind the other"}
	}
	d, err := w.rs.Domain(ctx, a.Domain)
	if err != nil {
		return err
	}
	switch d.Kind {
	case External:
		w.step(a.String(), "external")
		return w.add(Target{Via: ViaMX, Recipient: mail.Recipient{Address: a}}, s)
	case Relayed:
		w.step(a.String(), "relayed to "+d.Domain.RoutingHosts[0])
		return w.add(Target{Via: ViaMX, Host: d.Domain.RoutingHosts[0], Recipient: mail.Recipient{Address: a}}, s)
	}
	if err := statusOf(d.Domain.Status); err != nil {
		w.step(a.String(), "domain is "+string(d.Domain.Status))
		return w.later(a, err, s)
	}
	entry, err := w.lookup(ctx, a)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return w.nobody(ctx, a, d.Domain, s)
	case err != nil:
		return outage(err)
	}
	return w.entry(ctx, entry, a, s)
}

// lookup finds the entry of an address: by the whole address, then without
// its +detail, and only then by "@domain".
func (w *walk) lookup(ctx context.Context, a mail.Address) (directory.Recipient, error) {
	entry, err := w.rs.r.Directory.Recipient(ctx, a)
	base, _, sub := strings.Cut(a.Local, "+")
	if !sub || base == "" || err != nil && !errors.Is(err, directory.ErrNotFound) || err == nil && hasLocal(entry, a.Local) {
		return entry, err
	}
	plain, plainErr := w.rs.r.Directory.Recipient(ctx, mail.Address{Local: base, Domain: a.Domain})
	if errors.Is(plainErr, directory.ErrNotFound) {
		return entry, err
	}
	return plain, plainErr
}

// hasLocal reports whether the entry has an address of that local part; if not,
// it was found by "@domain". (A Recipient search has matched the domain.)
func hasLocal(r directory.Recipient, local string) bool {
	same := func(a mail.Address) bool { return strings.EqualFold(a.Local, local) }
	if r.Group != nil {
		return same(r.Group.Mail)
	}
	return same(r.User.Mail) || slices.ContainsFunc(r.User.Alternates, same) || slices.ContainsFunc(r.User.Equivalents, same)
}

// nobody deals with an address of our domains that no entry has.
func (w *walk) nobody(ctx context.Context, a mail.Address, d directory.Domain, s scope) error {
	post := w.rs.r.Postmaster
	switch {
	case !d.CatchAll.IsNull() && d.CatchAll.Key() != a.Key():
		w.step(a.String(), "unknown local user, catch-all")
		return w.address(ctx, d.CatchAll, s)
	case d.SmartHost != "":
		w.step(a.String(), "unknown local user, smart host "+d.SmartHost)
		return w.add(Target{Via: ViaMX, Host: d.SmartHost, Recipient: mail.Recipient{Address: a}}, s)
	case strings.EqualFold(a.Local, "postmaster") && !post.IsNull() && post.Key() != a.Key():
		w.step(a.String(), "postmaster")
		return w.address(ctx, post, s)
	}
	w.step(a.String(), "unknown local user")
	return mail.Refuse(1, 1, "no such user here")
}

func (w *walk) entry(ctx context.Context, r directory.Recipient, a mail.Address, s scope) error {
	if r.Group != nil {
		return w.group(ctx, r.Group, a, s)
	}
	return w.user(ctx, r.User, a, s)
}

// enter marks an entry as walked, and reports whether it is new.
func (w *walk) enter(dn directory.DN) bool {
	n := dn.Normal()
	if w.visited[n] {
		w.looped = true
		w.step(dn.String(), "met before")
		return false
	}
	w.visited[n] = true
	return true
}

// user walks a user's entry, reached as a.
func (w *walk) user(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	if !w.enter(u.DN) {
		return nil
	}
	if err := statusOf(u.Status); err != nil {
		w.step(a.String(), "user is "+string(u.Status))
		return w.later(a, err, s)
	}
	if !u.RoutingAddress.IsNull() {
		w.step(a.String(), "routed to "+u.RoutingAddress.String())
		return w.address(ctx, u.RoutingAddress, s)
	}
	if u.MaxMessage > 0 && (s.maxMessage == 0 || u.MaxMessage < s.maxMessage) {
		s.maxMessage = u.MaxMessage
	}
	forward, keep := w.options(u, a)
	if slices.Contains(u.DeliveryOptions, "hold") {
		return w.later(a, statusOf(directory.Hold), s)
	}
	if keep {
		if err := w.mailbox(ctx, u, a, s); err != nil {
			return err
		}
	}
	for _, to := range forward {
		w.step(a.String(), "forwarded to "+to.String())
		if err := w.address(ctx, to, s); err != nil {
			if !mail.IsPermanent(err) {
				return err
			}
			w.step(to.String(), "refused: "+mail.StatusOf(err).Text)
		}
	}
	return nil
}

// options reads the delivery options: where to forward to, and whether the
// user's own mailbox gets a copy. A user who forwards to himself means his
// mailbox; one whose options we can follow none of keeps his mail there too.
func (w *walk) options(u *directory.User, a mail.Address) (forward []mail.Address, keep bool) {
	if len(u.DeliveryOptions) == 0 {
		return nil, true
	}
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
		case "nomail":
			w.discard = true
		case "hold":
		default:
			w.step(a.String(), "delivery option "+option+" passed over")
		}
	}
	if !keep && len(forward) == 0 && !slices.Contains(u.DeliveryOptions, "nomail") {
		keep = true
	}
	return forward, keep
}

// mailbox adds the user's own mailbox.
func (w *walk) mailbox(ctx context.Context, u *directory.User, a mail.Address, s scope) error {
	t, err := w.rs.mailboxOf(ctx, u, mail.Recipient{Address: userAddress(u), Mailbox: Inbox})
	if err != nil {
		return err
	}
	w.step(a.String(), "user, mail host "+t.Host)
	return w.add(t, s)
}

// mailboxOf is the Target for a final delivery to a user: the store of the mail
// host or, for a user who has none, the smart host of the domain.
func (rs *Resolution) mailboxOf(ctx context.Context, u *directory.User, r mail.Recipient) (Target, error) {
	if u.MailHost != "" {
		return Target{Via: ViaStore, Host: u.MailHost, Recipient: r}, nil
	}
	d, err := rs.Domain(ctx, u.Domain)
	if err != nil {
		return Target{}, err
	}
	if d.Domain.SmartHost == "" {
		return Target{}, mail.TryLater(3, 5, "the mailbox has no host yet, try again later", fmt.Errorf("%s has no mailHost and its domain no smart host", u.DN))
	}
	r.Mailbox = ""
	return Target{Via: ViaMX, Host: d.Domain.SmartHost, Recipient: r}, nil
}

// later deals with a status that is not active. Hold takes the mail and lets
// it wait; a transient one is the sender's to try again, but must not stop the
// other members of a group: for those it waits in our queue.
func (w *walk) later(a mail.Address, err error, s scope) error {
	if a.Domain == "" { // a nested group without an address: nothing to come back to
		return mail.Refuse(2, 4, "nobody is behind this address")
	}
	if !errors.Is(err, ErrHold) && (mail.IsPermanent(err) || s.hops <= 1) {
		return err
	}
	return w.add(Target{Via: ViaQueue, Recipient: mail.Recipient{Address: a}, Err: err}, s)
}

// add appends a target unless the message goes there already.
func (w *walk) add(t Target, s scope) error {
	t.Sender, t.MaxMessage = s.sender, s.maxMessage
	if t.Sender.IsNull() { // a list answers for its members itself (RFC 3461 §5.2.7)
		t.Recipient.Notify, t.Recipient.ORCPT = w.origin.Notify, w.origin.ORCPT
	}
	if w.seen[t.key()] {
		return nil
	}
	if len(w.plan.Targets) >= maxTargets {
		return mail.TryLater(2, 4, "the list is too large", nil)
	}
	w.seen[t.key()] = true
	w.plan.Targets = append(w.plan.Targets, t)
	return nil
}

// owns reports whether a is one of the user's own addresses, without asking
// the directory: aliases of the domain are not seen.
func owns(u *directory.User, a mail.Address) bool {
	k := a.Key()
	same := func(o mail.Address) bool { return o.Key() == k }
	return same(u.Mail) || slices.ContainsFunc(u.Alternates, same) || slices.ContainsFunc(u.Equivalents, same)
}
