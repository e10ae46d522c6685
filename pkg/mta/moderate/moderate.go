// Package moderate asks the moderators of a group about a message that the
// queue holds, and does what they decide: two actions of the MTA, and so a
// mail.Deliverer.
//
// A moderator gets the message as an attachment, and lets it pass by a reply.
// The address of the reply bears a token that only those know who were asked.
package moderate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
)

// Queue holds the messages.
type Queue interface {
	mail.Deliverer
	// Awaiting lists the messages to a group that wait for a decision.
	Awaiting(ctx context.Context, group mail.Address) ([]mail.TraceID, error)
	// Decide ends the wait of one.
	Decide(ctx context.Context, trace mail.TraceID, group mail.Address, approve bool) error
}

// Options of New.
type Options struct {
	Queue     Queue
	Directory directory.Directory
	// Lists finds moderators that are named by a search; nil: none are.
	Lists directory.Lister
	// Key is the secret of the tokens.
	Key []byte
	// Hostname is our name in Message-IDs.
	Hostname string
	Log      *slog.Logger
}

// Moderation asks, and decides. It may be used from many goroutines.
type Moderation struct {
	o   Options
	now func() time.Time
}

var _ mail.Deliverer = (*Moderation)(nil)

// New returns a Moderation.
func New(o Options) *Moderation { return &Moderation{o: o, now: time.Now} }

// Deliver implements mail.Deliverer for the actions mta.ActionNotify and
// mta.ActionDecide.
func (m *Moderation) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	for i, to := range env.To {
		if to.Action == mta.ActionNotify {
			errs[i] = m.ask(ctx, env, to.Address, body)
		} else {
			errs[i] = m.decide(ctx, env, to.Address, body)
		}
	}
	return errs
}

// errNoGroup: the group is gone, or is moderated no longer.
var errNoGroup = mail.Refuse(1, 1, "no such list here")

func (m *Moderation) group(ctx context.Context, a mail.Address) (*directory.Group, error) {
	r, err := m.o.Directory.Recipient(ctx, a)
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && r.Group == nil:
		return nil, errNoGroup
	case err != nil:
		return nil, mail.TryLater(4, 3, "the directory does not answer, try again later", err)
	}
	return r.Group, nil
}

// moderators are the addresses of those to be asked.
func (m *Moderation) moderators(ctx context.Context, g *directory.Group) ([]mail.Recipient, error) {
	var list []mail.Recipient
	add := func(a mail.Address) {
		same := func(r mail.Recipient) bool { return r.Address.Key() == a.Key() }
		if a.Local != "" && !slices.ContainsFunc(list, same) {
			list = append(list, mail.Recipient{Address: a, Notify: "NEVER"})
		}
	}
	for _, p := range g.Posting.Moderators {
		add(p.Address)
		var found []directory.Recipient
		var err error
		switch {
		case !p.DN.IsRoot():
			var r directory.Recipient
			r, err = m.o.Directory.Member(ctx, p.DN)
			found = append(found, r)
		case p.Search != nil && m.o.Lists != nil:
			found, err = m.o.Lists.List(ctx, *p.Search)
		}
		if err != nil && !errors.Is(err, directory.ErrNotFound) {
			return nil, mail.TryLater(4, 3, "the directory does not answer, try again later", err)
		}
		for _, r := range found {
			switch {
			case r.User != nil:
				add(r.User.Mail)
			case r.Group != nil:
				add(r.Group.Mail)
			}
		}
	}
	return list, nil
}

// ask sends the message to the moderators.
func (m *Moderation) ask(ctx context.Context, env mail.Envelope, to mail.Address, body mail.Body) error {
	g, err := m.group(ctx, to)
	if err != nil {
		return err
	}
	moderators, err := m.moderators(ctx, g)
	if err != nil {
		return err
	}
	if len(moderators) == 0 {
		return mail.TryLater(3, 5, "the list has no moderator now", nil)
	}
	approve, ok := mta.NewDecision(m.o.Key, env.Trace, g.Mail, true).Address()
	discard, ok2 := mta.NewDecision(m.o.Key, env.Trace, g.Mail, false).Address()
	if !ok || !ok2 {
		approve, discard = mail.Address{}, mail.Address{} // mailsrv queue release is left
	}
	trace := mail.NewTraceID()
	q := question{group: g.Mail, from: env.From, original: body, approve: approve, discard: discard, hostname: m.o.Hostname, at: m.now(), trace: trace, held: env.Trace}
	message, err := q.message()
	if err != nil {
		return err
	}
	out := mail.Envelope{To: moderators, Trace: trace, EightBit: env.EightBit, SMTPUTF8: env.SMTPUTF8}
	for _, err := range m.o.Queue.Deliver(ctx, out, message) {
		if err != nil {
			return fmt.Errorf("queueing a question to moderators: %w", err)
		}
	}
	m.o.Log.Info("moderators asked", "trace", string(env.Trace), "to", g.Mail.String(), "moderators", len(moderators))
	return nil
}

// decide does what a reply says.
func (m *Moderation) decide(ctx context.Context, env mail.Envelope, to mail.Address, body mail.Body) error {
	d, ok := mta.ParseDecision(to)
	if !ok {
		return errNoGroup
	}
	automatic, err := isAutomatic(env, body)
	switch {
	case err != nil:
		return err
	case automatic: // somebody's vacation is no decision
		return mail.Refuse(7, 1, "a decision is made by people")
	}
	g, err := m.group(ctx, d.Group)
	if err != nil {
		return err
	}
	traces, err := m.o.Queue.Awaiting(ctx, g.Mail)
	if err != nil {
		return err
	}
	for _, t := range traces {
		if !d.IsAbout(m.o.Key, t, g.Mail) {
			continue
		}
		if err := m.o.Queue.Decide(ctx, t, g.Mail, d.Approve); err != nil {
			return fmt.Errorf("deciding about a held message: %w", err)
		}
		m.o.Log.Info("moderator decided", "trace", string(t), "to", g.Mail.String(), "approve", d.Approve, "from", env.From.String())
		return nil
	}
	return mail.Refuse(7, 2, "that message waits no longer, or the address is wrong")
}

// isAutomatic reports whether a program answered (RFC 3834 §5).
func isAutomatic(env mail.Envelope, body mail.Body) (bool, error) {
	rc, err := body.Open()
	if err != nil {
		return false, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	head, err := io.ReadAll(io.LimitReader(rc, 256<<10))
	if err != nil {
		return false, fmt.Errorf("reading the message: %w", err)
	}
	if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
		head = head[:end+2]
	}
	auto, ok := mime.First(head, "Auto-Submitted")
	return env.From.IsNull() || ok && !strings.EqualFold(strings.TrimSpace(auto), "no"), nil
}
