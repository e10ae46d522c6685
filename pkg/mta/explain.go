package mta

import (
	"context"
	"fmt"
	"log/slog"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Inquiry is a question about a message that nobody sends: what would become of
// one recipient. The Checks are not asked: what they say depends on the hour.
type Inquiry struct {
	To, From mail.Address
	// Login is who submits the message; nil: it comes from another MTA.
	Login *directory.User
	// Size is in bytes; 0: any.
	Size int64
}

// Answer is what would become of it.
type Answer struct {
	Plan Plan
	// Effects say it in words, one for each place, or why there is none.
	Effects []string
	// Err is the reply that the client would hear; nil: 250.
	Err error
}

// Explain answers an inquiry by the rules of a real transaction, and sends
// nothing. What is left for the queue is followed to its end.
func (r *Resolver) Explain(ctx context.Context, q Inquiry) Answer {
	e := &Evidence{Session: &Session{}, Sender: Sender{From: q.From}}
	p := Poster{From: q.From, Size: q.Size}
	if q.Login != nil {
		if err := (ownership{r}).owned(ctx, q.Login, q.From, "sender address is not yours"); err != nil && !q.From.IsNull() {
			return refusedAnswer(Plan{}, err)
		}
		e.Session.Submission = true
		p.Proof = mail.LoggedIn
	}
	rs := r.Begin(p, slog.New(slog.DiscardHandler))
	d, err := rs.Domain(ctx, q.To.Domain)
	if err != nil {
		return refusedAnswer(Plan{}, err)
	}
	if d.Kind == External && !e.Session.Submission {
		return refusedAnswer(Plan{Decision: d}, mail.Refuse(7, 1, "relay denied"))
	}
	plan, err := rs.Resolve(ctx, mail.Recipient{Address: q.To})
	if err != nil {
		return refusedAnswer(plan, err)
	}
	a := Answer{Plan: plan}
	for _, t := range plan.Targets {
		if t.Via != ViaQueue || t.Err != nil || t.Recipient.Moderation != mail.Unmoderated {
			a.Effects = append(a.Effects, t.effect())
			continue
		}
		later, err := r.Again(p).Resolve(ctx, t.Recipient)
		a.Plan.Steps = append(a.Plan.Steps, later.Steps...)
		if err != nil {
			a.Effects = append(a.Effects, fmt.Sprintf("%s: queued, then refused: %s", t.Recipient.Address, mail.StatusOf(err).Reply()))
		}
		for _, then := range later.Targets {
			a.Effects = append(a.Effects, then.effect()+", by the queue")
		}
	}
	if len(plan.Targets) == 0 {
		a.Effects = []string{"taken, and delivered nowhere"}
	}
	return a
}

func refusedAnswer(p Plan, err error) Answer {
	return Answer{Plan: p, Err: err, Effects: []string{"refused: " + mail.StatusOf(err).Reply()}}
}

// effect says in words what becomes of a target.
func (t Target) effect() string {
	to, how := t.Recipient.Address.String(), ""
	switch t.Via {
	case ViaStore:
		how = "delivered to mailbox " + t.Recipient.Mailbox + " in the store " + t.Host
	case ViaMX:
		how = "sent to the MX of " + t.Recipient.Address.Domain
		if t.Host != "" {
			how = "relayed to " + t.Host
		}
	case ViaTransport:
		how = "sent by the transport " + t.Host
	case ViaAction:
		how = map[string]string{ActionReply: "answered automatically", ActionNotify: "shown to the moderators", ActionDecide: "taken as a moderator's decision"}[t.Host]
		if how == "" {
			how = "given to the " + t.Host
		}
	default:
		how = "kept in the queue"
		switch {
		case t.Recipient.Moderation == mail.Awaiting:
			how += " until a moderator releases it"
		case t.Err != nil:
			how += ": " + mail.StatusOf(t.Err).Text
		}
	}
	if !t.Sender.IsNull() {
		how += ", in the name of " + t.Sender.String()
	}
	if t.Edit != nil {
		how += ", changed by a list"
	}
	if t.MaxMessage > 0 {
		how += fmt.Sprintf(", up to %d bytes", t.MaxMessage)
	}
	return to + ": " + how
}
