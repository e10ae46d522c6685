package mta

import (
	"context"
	"errors"
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
	Decision DomainDecision
	// Targets are the places it goes to, each once; none with a nil error of
	// Resolve means that the entry asks for no delivery.
	Targets []Target
	// Steps tell how they were found, for the log and for a dry run.
	Steps []Step
}

// Step is one turn of a resolution: what this address or DN was found to be,
// and the attribute that said so; the zero Fact where none did.
type Step struct {
	Subject, Finding string
	Fact             directory.Fact
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

// scope is what the entries on the way lay upon the targets below them.
type scope struct {
	hops       int
	sender     mail.Address // of a group's errors-to
	domain     string       // of the last entry that led on
	edit       *directory.Edit
	maxMessage int64
}

func (w *walk) step(subject, finding string, f directory.Fact) {
	w.plan.Steps = append(w.plan.Steps, Step{Subject: subject, Finding: finding, Fact: f})
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
		w.step(a.String(), "external", directory.Fact{})
		return w.external(ctx, a, s)
	case Relayed:
		w.step(a.String(), "relayed to "+d.Domain.RoutingHosts[0], d.Domain.About(directory.AboutHosts))
		return w.add(Target{Via: ViaMX, Host: d.Domain.RoutingHosts[0], Recipient: mail.Recipient{Address: a}}, s)
	case AliasOf:
		w.step(a.String(), "the domain is an alias of "+d.Domain.Name, d.Domain.About(directory.AboutAlias))
	}
	if err := statusOf(d.Domain.Status); err != nil {
		w.step(a.String(), "domain is "+string(d.Domain.Status), d.Domain.About(directory.AboutStatus))
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

// external adds an address of somebody else's domain, by its transport.
func (w *walk) external(ctx context.Context, a mail.Address, s scope) error {
	target := Target{Via: ViaMX, Recipient: mail.Recipient{Address: a}}
	if t, ok := w.rs.r.transport(w.rs.poster.From, a); ok {
		w.step(a.String(), "transport "+t.Name, directory.Fact{})
		if !t.Address.IsNull() && t.Address.Key() != a.Key() {
			return w.address(ctx, t.Address, s)
		}
		target.Via, target.Host = ViaTransport, t.Name
	}
	if s.sender.IsNull() && s.domain != "" {
		from := w.rs.poster.From
		if d, err := w.rs.Domain(ctx, from.Domain); err != nil && !from.IsNull() {
			return err
		} else if rewritten, ok := w.rs.r.SRS.Forward(from, s.domain); ok && d.Kind == External {
			w.step(a.String(), "forwarded in the name of "+rewritten.String(), directory.Fact{})
			s.sender = rewritten
		}
	}
	return w.add(target, s)
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
	return slices.ContainsFunc(addressesOf(r), same)
}

// nobody deals with an address of our domains that no entry has.
func (w *walk) nobody(ctx context.Context, a mail.Address, d directory.Domain, s scope) error {
	sender, found, err := w.rs.r.SRS.Reverse(a)
	post := w.rs.r.Postmaster
	switch {
	case found && err == nil && w.rs.poster.From.IsNull():
		w.step(a.String(), "a bounce for "+sender.String(), directory.Fact{})
		s.domain = ""
		return w.address(ctx, sender, s)
	case found:
		w.step(a.String(), "no bounce, or not for us", directory.Fact{})
		return mail.Refuse(1, 1, "no such user here")
	case !d.CatchAll.IsNull() && d.CatchAll.Key() != a.Key():
		w.step(a.String(), "unknown local user, catch-all", d.About(directory.AboutCatchAll))
		s.domain = d.Name
		return w.address(ctx, d.CatchAll, s)
	case d.SmartHost != "":
		w.step(a.String(), "unknown local user, smart host "+d.SmartHost, d.About(directory.AboutSmartHost))
		return w.add(Target{Via: ViaMX, Host: d.SmartHost, Recipient: mail.Recipient{Address: a}}, s)
	case strings.EqualFold(a.Local, "postmaster") && !post.IsNull() && post.Key() != a.Key():
		w.step(a.String(), "postmaster", directory.Fact{})
		return w.address(ctx, post, s)
	}
	w.step(a.String(), "unknown local user", directory.Fact{})
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
		w.step(dn.String(), "met before", directory.Fact{})
		return false
	}
	w.visited[n] = true
	return true
}

// later deals with a status that is not active. Hold takes the mail and lets
// it wait; a transient one is the sender's to try again, but must not stop the
// other members of a group: for those it waits in our queue.
func (w *walk) later(a mail.Address, err error, s scope) error {
	if a.Domain == "" { // a nested group without an address: nothing to come back to
		return mail.Refuse(2, 4, "nobody is behind this address")
	}
	full := mail.StatusOf(err).Enhanced == [3]int{4, 2, 2}
	wait := errors.Is(err, ErrHold) || full && w.rs.r.QueueOverQuota
	if !wait && (mail.IsPermanent(err) || s.hops <= 1) {
		return err
	}
	return w.add(Target{Via: ViaQueue, Recipient: mail.Recipient{Address: a}, Err: err}, s)
}

// deferred leaves an entry to the queue, if the client is still waiting.
func (w *walk) deferred(a mail.Address, f directory.Fact, s scope) (bool, error) {
	if w.rs.expand || a.Domain == "" || s.hops > 1 {
		return false, nil
	}
	w.step(a.String(), "left for the queue to expand", f)
	return true, w.add(Target{Via: ViaQueue, Recipient: mail.Recipient{Address: a}}, s)
}

// add appends a target unless the message goes there already.
func (w *walk) add(t Target, s scope) error {
	t.Sender, t.MaxMessage, t.Edit = s.sender, s.maxMessage, s.edit
	if t.Sender.IsNull() && t.Recipient.Notify == "" { // a list answers for its members itself (RFC 3461 §5.2.7)
		t.Recipient.Notify, t.Recipient.ORCPT = w.origin.Notify, w.origin.ORCPT
	}
	if w.seen[t.key()] {
		w.step(t.Recipient.Address.String(), "has the message already", directory.Fact{})
		return nil
	}
	if len(w.plan.Targets) >= maxTargets {
		return mail.TryLater(2, 4, "the list is too large", nil)
	}
	w.seen[t.key()] = true
	w.plan.Targets = append(w.plan.Targets, t)
	return nil
}
