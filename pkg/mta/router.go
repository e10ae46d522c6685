package mta

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Router takes a message from the queue to where its recipients are now: those
// of our domains to the store of their mail host, others to the next hop. Each
// attempt asks the directory again, so a user who moved is found where he is.
type Router struct {
	resolver *Resolver
	ways     Ways
}

var _ mail.Deliverer = (*Router)(nil)

// NewRouter returns a Router over the given ways out.
func NewRouter(r *Resolver, ways Ways) *Router { return &Router{resolver: r, ways: ways} }

// Expansion is the error of a recipient that turned out to be several targets:
// no failure, but a replacement. The queue puts these messages in the
// recipient's place, in one commit, so that each target has a state of its own.
type Expansion struct {
	Messages []Message
}

// Handed is the error of a recipient whose message the next host has, and of
// which no report will come from there though the sender asked for one: no
// failure, but the queue's turn to report (RFC 3461 §5.2.2).
type Handed struct {
	// Final: it is in a mailbox; else it was relayed to a host without DSN.
	Final bool
}

// Error implements error.
func (h *Handed) Error() string {
	if h.Final {
		return "delivered"
	}
	return "relayed to a host that sends no reports"
}

// Message is an envelope with its body; nil: the body that was expanded.
type Message struct {
	Envelope mail.Envelope
	Body     mail.Body
}

// Error implements error.
func (e *Expansion) Error() string {
	n := 0
	for _, m := range e.Messages {
		n += len(m.Envelope.To)
	}
	return fmt.Sprintf("expanded to %d recipients", n)
}

// Deliver implements mail.Deliverer. Beside statuses and transient errors it
// returns *Expansion, and errors that are ErrHold.
func (r *Router) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	rs := r.resolver.Again(Poster{From: env.From, Proof: env.Proof, Size: body.Size()})
	rs.header = sync.OnceValues(func() (*Header, error) { return readHeader(body) })
	errs := make([]error, len(env.To))
	var targets []Target
	var owners []int // targets[n] is env.To[owners[n]]
	for i, rcpt := range env.To {
		found, err := r.route(ctx, rs, rcpt)
		switch {
		case err != nil:
			errs[i] = err
		case len(found) > 1 || len(found) == 1 && !found[0].Sender.IsNull():
			var e Expansion
			if e.Messages, errs[i] = messages(env, found, body); errs[i] == nil {
				errs[i] = &e
			}
		case len(found) == 1:
			targets, owners = append(targets, found[0]), append(owners, i)
		}
	}
	for n, err := range r.ways.deliver(ctx, env, targets, body) {
		errs[owners[n]] = err
	}
	return errs
}

// route finds the targets of one recipient of a queued message.
func (r *Router) route(ctx context.Context, rs *Resolution, rcpt mail.Recipient) ([]Target, error) {
	if rcpt.Mailbox == "" && rcpt.Action == "" {
		plan, err := rs.Resolve(ctx, rcpt)
		return plan.Targets, err
	}
	if rcpt.Action == ActionNotify || rcpt.Action == ActionDecide { // about a group
		return []Target{{Via: ViaAction, Host: rcpt.Action, Recipient: rcpt}}, nil
	}
	entry, err := rs.r.Directory.Recipient(ctx, rcpt.Address)
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && entry.User == nil:
		return nil, mail.Refuse(1, 1, "no such user here")
	case err != nil:
		return nil, outage(err)
	}
	if err := rs.r.statusOf(entry.User.Status); err != nil {
		return nil, err
	}
	if rcpt.Action != "" {
		return []Target{{Via: ViaAction, Host: rcpt.Action, Recipient: rcpt}}, nil
	}
	t, err := rs.mailboxOf(ctx, entry.User, rcpt)
	t.MaxMessage = entry.User.MaxMessage
	return []Target{t}, err
}

// messages puts targets into as few messages as their senders, and what groups
// change, allow.
func messages(env mail.Envelope, targets []Target, body mail.Body) ([]Message, error) {
	type kind struct {
		from mail.Address
		edit *directory.Edit
	}
	var out []Message
	index := make(map[kind]int)
	for _, t := range targets {
		k := kind{t.reversePath(env.From), t.Edit}
		i, ok := index[k]
		if !ok {
			i = len(out)
			index[k] = i
			m := Message{Envelope: env}
			m.Envelope.From, m.Envelope.To = k.from, nil
			if t.Edit != nil {
				var err error
				if m.Body, err = edited(body, t.Edit); err != nil {
					return nil, err
				}
			}
			out = append(out, m)
		}
		out[i].Envelope.To = append(out[i].Envelope.To, t.Recipient)
	}
	return out, nil
}

// Destination is what the queue schedules a recipient by: the host or domain
// whose trouble is not that of others.
func Destination(r mail.Recipient) string {
	if r.Action != "" {
		return r.Action + "@" + r.Address.Domain
	}
	return strings.ToLower(r.Address.Domain)
}
