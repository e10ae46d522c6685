package mta

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Router takes a message from the queue to where its recipients are now: those
// of our domains to the store of their mail host, others to the next hop. Each
// attempt asks the directory again, so a user who moved is found where he is.
type Router struct {
	resolver *Resolver
	out      outlets
}

var _ mail.Deliverer = (*Router)(nil)

// NewRouter returns a Router over the given ways out.
func NewRouter(r *Resolver, stores Stores, remotes Remotes) *Router {
	return &Router{resolver: r, out: outlets{stores: stores, remotes: remotes}}
}

// Expansion is the error of a recipient that turned out to be several targets:
// no failure, but a replacement. The queue puts these envelopes in the
// recipient's place, in one commit, so that each target has a state of its own.
type Expansion struct {
	Envelopes []mail.Envelope
}

// Error implements error.
func (e *Expansion) Error() string {
	n := 0
	for _, env := range e.Envelopes {
		n += len(env.To)
	}
	return fmt.Sprintf("expanded to %d recipients", n)
}

// Deliver implements mail.Deliverer. Beside statuses and transient errors it
// returns *Expansion, and errors that are ErrHold.
func (r *Router) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	rs := r.resolver.again()
	errs := make([]error, len(env.To))
	var targets []Target
	var owners []int // targets[n] is env.To[owners[n]]
	for i, rcpt := range env.To {
		found, err := r.route(ctx, rs, rcpt)
		switch {
		case err != nil:
			errs[i] = err
		case len(found) > 1 || len(found) == 1 && !found[0].Sender.IsNull():
			errs[i] = &Expansion{Envelopes: envelopes(env, found)}
		case len(found) == 1:
			targets, owners = append(targets, found[0]), append(owners, i)
		}
	}
	for n, err := range r.out.deliver(ctx, env, targets, body) {
		errs[owners[n]] = err
	}
	return errs
}

// route finds the targets of one recipient of a queued message.
func (r *Router) route(ctx context.Context, rs *Resolution, rcpt mail.Recipient) ([]Target, error) {
	if rcpt.Mailbox == "" {
		plan, err := rs.Resolve(ctx, rcpt)
		return plan.Targets, err
	}
	entry, err := rs.r.Directory.Recipient(ctx, rcpt.Address)
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && entry.User == nil:
		return nil, mail.Refuse(1, 1, "no such user here")
	case err != nil:
		return nil, outage(err)
	}
	if err := statusOf(entry.User.Status); err != nil {
		return nil, err
	}
	t, err := rs.mailboxOf(ctx, entry.User, rcpt)
	t.MaxMessage = entry.User.MaxMessage
	return []Target{t}, err
}

// envelopes puts targets into as few envelopes as their senders allow.
func envelopes(env mail.Envelope, targets []Target) []mail.Envelope {
	var out []mail.Envelope
	index := make(map[mail.Address]int)
	for _, t := range targets {
		from := t.reversePath(env.From)
		i, ok := index[from]
		if !ok {
			i = len(out)
			index[from] = i
			next := env
			next.From, next.To = from, nil
			out = append(out, next)
		}
		out[i].To = append(out[i].To, t.Recipient)
	}
	return out
}

// Destination is what the queue schedules a recipient by: the host or domain
// whose trouble is not that of others.
func Destination(r mail.Recipient) string { return strings.ToLower(r.Address.Domain) }
