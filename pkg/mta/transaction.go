package mta

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// transaction implements Transaction.
type transaction struct {
	agent      *Agent
	trace      mail.TraceID
	log        *slog.Logger
	evidence   Evidence
	resolution *Resolution
	targets    []Target
	seen       map[key]bool
	// canonical is the sender's address in the place of his alternates.
	canonical map[mail.Address]mail.Address
	// refusal is that of a recipient who is refused only now that the message
	// is there.
	refusal error
	refused []Target
}

// Trace implements Transaction.
func (t *transaction) Trace() mail.TraceID { return t.trace }

// Recipient implements Transaction: it resolves the forward-path now, so that
// whatever can be refused is refused while the client listens.
func (t *transaction) Recipient(ctx context.Context, r mail.Recipient) error {
	if r.Address.Domain == "" { // RFC 5321 §4.5.1: <postmaster>
		r.Address.Domain = t.agent.o.DefaultDomain
	}
	r.Mailbox, r.Flags, r.SentCopy = "", nil, false // a client does not choose these
	err := t.recipient(ctx, r)
	if err != nil {
		t.log.Info("recipient refused", "to", r.Address.String(), "err", err)
	}
	return err
}

func (t *transaction) recipient(ctx context.Context, r mail.Recipient) error {
	e := t.evidence
	e.Recipients = append(e.Recipients, r)
	if err := run(ctx, t.agent.checks, AtRecipient, &e); err != nil {
		return err
	}
	d, err := t.resolution.Domain(ctx, r.Address.Domain)
	if err != nil {
		return err
	}
	if d.Kind == External && !e.Session.Submission {
		return mail.Refuse(7, 1, "relay denied")
	}
	plan, err := t.resolution.Resolve(ctx, r)
	for _, s := range plan.Steps {
		t.log.Debug("recipient resolved", "to", r.Address.String(), "step", s.Subject, "decision", s.Finding, "because", s.Fact.String())
	}
	if err != nil {
		return err
	}
	for _, target := range plan.Targets {
		// One target has no business with the others: it alone can be refused here.
		if err := target.fits(e.Size); err != nil && len(plan.Targets) == 1 {
			return err
		}
	}
	t.addTargets(plan.Targets)
	t.evidence = e
	return nil
}

func (t *transaction) addTargets(list []Target) {
	for _, target := range list {
		if !t.seen[target.key()] {
			t.seen[target.key()] = true
			t.targets = append(t.targets, target)
		}
	}
}

// reconsider judges again, by the message itself, what groups that the queue
// will expand ask of it. One that refuses it now is left to the queue for the
// bounce, unless all recipients do.
func (t *transaction) reconsider(ctx context.Context) error {
	rs := t.resolution
	rs.poster.Size, rs.poster.Proof = t.evidence.Size, proofOf(&t.evidence)
	rs.header = func() (*Header, error) { return t.evidence.Header, nil }
	before := t.targets
	t.targets, t.seen = nil, make(map[key]bool)
	for _, target := range before {
		if target.Via != ViaQueue || target.Err != nil || target.Recipient.Moderation != mail.Unmoderated {
			t.addTargets([]Target{target})
			continue
		}
		plan, err := rs.Resolve(ctx, target.Recipient)
		switch {
		case mail.IsPermanent(err):
			t.refusal = err
			t.refused = append(t.refused, target)
		case err != nil:
			return err
		default:
			t.addTargets(plan.Targets)
		}
	}
	return nil
}

// Data implements Transaction. The order in which the message becomes durable:
//
//  1. in the stores that are reachable now, all at the same time and each by
//     one Deliver, the sender's own copy with them; but not for recipients of
//     whose delivery the sender wants to hear (NOTIFY=SUCCESS), since it is the
//     queue that reports;
//  2. in the queue, as one entry for each reverse-path, everything that is
//     left: external recipients, those on hold, those whose store gave a
//     transient answer, and the sender's copy if it was among these;
//  3. then nil, and the door says 250.
//
// If nothing was durable after step 1 and all recipients were refused for good,
// their refusal is the reply, and nothing is queued. If only some were, they go
// to the queue with the rest: its first attempt hears the same answer, and the
// bounce is made where all bounces are made. If the queue fails, the reply is
// transient; the client's second try is a new message, so the stores of step 1
// may then hold two copies.
func (t *transaction) Data(ctx context.Context, body mail.Body) error {
	start := t.agent.now()
	out, err := t.data(ctx, body)
	out.Took = t.agent.now().Sub(start)
	e := &t.evidence
	if err != nil {
		st := mail.StatusOf(err)
		t.log.Info("message refused", "bytes", body.Size(), "code", st.Code, "enhanced", enhanced(st), "err", err)
		if t.agent.o.Refused != nil {
			t.agent.o.Refused(st)
		}
		return err
	}
	t.log.Info("message accepted", "to", listed(e.Recipients), "recipients", len(e.Recipients), "bytes", out.Size, "stored", out.Stored,
		"queued", out.Queued, "message_id", e.Header.MessageID, "verdict", verdict(e), "duration", out.Took)
	if t.agent.o.Accepted != nil {
		t.agent.o.Accepted(out)
	}
	return nil
}

func (t *transaction) data(ctx context.Context, body mail.Body) (Outcome, error) {
	e := &t.evidence
	e.Size, e.Body = body.Size(), body
	var err error
	if e.Header, err = readHeader(body); err != nil {
		return Outcome{}, err
	}
	if err := run(ctx, t.agent.checks, AtMessage, e); err != nil {
		return Outcome{}, err
	}
	if err := t.reconsider(ctx); err != nil {
		return Outcome{}, err
	}
	if e.Sender.Binary { // to see now that it can be; what users send is signed as it will travel
		text, err := Downgraded(body)
		if err != nil {
			return Outcome{}, err
		}
		if e.Session.Submission {
			body, e.Sender.Binary = text, false
			if e.Header, err = readHeader(body); err != nil {
				return Outcome{}, err
			}
		}
	}
	msg, err := t.sign(ctx, t.amend(body))
	if err != nil {
		return Outcome{}, err
	}
	if msg, err = t.seal(ctx, msg); err != nil {
		return Outcome{}, err
	}
	env := mail.Envelope{From: e.Sender.From, Proof: t.resolution.poster.Proof, Trace: t.trace, SMTPUTF8: e.Sender.SMTPUTF8,
		EightBit: e.Sender.EightBit, Binary: e.Sender.Binary, RequireTLS: e.Sender.RequireTLS, Ret: e.Sender.Ret, EnvID: e.Sender.EnvID}
	return t.deliverThrough(ctx, env, msg)
}

// deliverThrough is steps 1 to 3 of Data.
func (t *transaction) deliverThrough(ctx context.Context, env mail.Envelope, body mail.Body) (Outcome, error) {
	out := Outcome{Size: body.Size()}
	all := t.targets
	if t.evidence.Junk != "" {
		all = junked(all)
	}
	if sent, ok := t.sentCopy(ctx); ok {
		all = append(all[:len(all):len(all)], sent)
	}
	var now, left, replies []Target
	for _, target := range all {
		if target.Recipient.Action == ActionReply {
			replies = append(replies, target)
		} else if target.Via == ViaStore && !strings.Contains(target.Recipient.Notify, "SUCCESS") {
			now = append(now, target)
		} else {
			left = append(left, target)
		}
	}
	refusal := t.refusal
	recipients := len(left) // that are, or will be, durable
	for i, err := range t.agent.ways.deliver(ctx, env, now, body) {
		target := now[i]
		copied := target.Recipient.SentCopy
		switch {
		case err == nil:
			out.Stored++
		case copied && mail.IsPermanent(err):
			t.log.Warn("sender's copy refused", "host", target.Host, "err", err)
			continue
		default:
			t.log.Info("recipient not stored now", "to", target.Recipient.Address.String(), "host", target.Host, "err", err)
			left = append(left, target)
		}
		switch {
		case copied:
		case mail.IsPermanent(err):
			if refusal == nil {
				refusal = err
			}
		default:
			recipients++
		}
	}
	if recipients == 0 && refusal != nil {
		return out, refusal
	}
	left = append(left, t.refused...)
	if t.evidence.Junk == "" {
		left = append(left, replies...)
	}
	entries, err := messages(env, left, body)
	if err != nil {
		return out, err
	}
	for _, m := range entries {
		if m.Body == nil {
			m.Body = body
		}
		if err := firstError(t.agent.o.Queue.Deliver(ctx, m.Envelope, m.Body)); err != nil {
			return out, fmt.Errorf("queueing %d recipients: %w", len(m.Envelope.To), err)
		}
		out.Queued += len(m.Envelope.To)
	}
	return out, nil
}

// junked returns the targets with Junk in the place of INBOX; what leaves our
// stores, or was filed into another mailbox, stays as it is.
func junked(targets []Target) []Target {
	out := slices.Clone(targets)
	for i := range out {
		if r := &out[i].Recipient; r.Mailbox == Inbox {
			r.Mailbox = Junk
		}
	}
	return out
}

// firstError returns the first error, transient whatever it says: what our own
// queue cannot take is not the client's fault.
func firstError(errs []error) error {
	for _, err := range errs {
		if st := mail.StatusOf(err); st != nil && st.Code == 452 { // no room: a client may know what to do
			return &mail.Status{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "no space left, try again later", Err: err}
		}
		if err != nil {
			return mail.TryLater(3, 0, "cannot queue the message now, try again later", err)
		}
	}
	return nil
}

// sentCopy is the target of the sender's own copy, if one is made.
func (t *transaction) sentCopy(ctx context.Context) (Target, bool) {
	s := t.evidence.Session
	if t.agent.o.SentMailbox == "" || !s.Submission || s.Identity == nil {
		return Target{}, false
	}
	u := s.Identity.User
	target, err := t.resolution.mailboxOf(ctx, &u, mail.Recipient{Address: userAddress(&u), Mailbox: t.agent.o.SentMailbox,
		Flags: []string{`\Seen`}, SentCopy: true, Notify: "NEVER"})
	if err != nil || target.Via != ViaStore {
		t.log.Warn("sender's copy not made", "account", u.Account(), "err", err)
		return Target{}, false
	}
	return target, true
}

// amend returns the message with our fields before it, without those that only
// we may write, and for a submission with what RFC 6409 §8 lets us mend.
func (t *transaction) amend(body mail.Body) mail.Body {
	e, h := &t.evidence, t.evidence.Header
	now, host := t.agent.now(), t.agent.o.Hostname
	head := append(judgement(e, host), received(e.Session, host, t.trace, e.Sender.SMTPUTF8, e.Recipients, now)...)
	drop := func(f mime.Field) bool { return forged(f, host) }
	if e.Session.Submission {
		// Bcc fields are for the submission alone (RFC 5322 §3.6.3).
		drop = func(f mime.Field) bool { return f.Is("Bcc") || forged(f, host) }
		if h.MessageID == "" {
			h.MessageID = "<" + string(t.trace) + "@" + host + ">"
			head = append(head, "Message-ID: "+h.MessageID+"\r\n"...)
		}
		if !h.HasDate {
			head = append(head, "Date: "+now.Format(dateLayout)+"\r\n"...)
		}
	}
	block, changed := h.rewritten(drop, t.canonical)
	if e.Session.Submission && h.endless() {
		block, changed = append(block, "\r\n"...), true
	}
	if changed {
		return &amended{head: append(head, block...), original: body, skip: int64(len(h.Block))}
	}
	return &amended{head: head, original: body}
}

// sign puts the signatures of the author's domain before what our users send.
func (t *transaction) sign(ctx context.Context, body mail.Body) (mail.Body, error) {
	from := t.evidence.Header.From
	if t.agent.o.Signer == nil || !t.evidence.Session.Submission || len(from) == 0 {
		return body, nil
	}
	head, err := t.agent.o.Signer.Sign(ctx, from[0].Domain, body)
	if err != nil {
		return nil, fmt.Errorf("signing for %s: %w", from[0].Domain, err)
	}
	if len(head) == 0 {
		return body, nil
	}
	return &amended{head: head, original: body}, nil
}

// seal puts what we found before a stranger's message that leaves us again, so
// that the next host need not judge us by it.
func (t *transaction) seal(ctx context.Context, body mail.Body) (mail.Body, error) {
	e := &t.evidence
	leaves := slices.ContainsFunc(t.targets, func(target Target) bool { // or may, once the queue has expanded it
		return target.Via == ViaMX || target.Via == ViaTransport || target.Via == ViaQueue && target.Err == nil
	})
	if t.agent.o.Sealer == nil || !e.Stranger || !leaves {
		return body, nil
	}
	domain := e.Recipients[0].Address.Domain
	head, err := t.agent.o.Sealer.Seal(ctx, domain, results(e, t.agent.o.Hostname), body)
	if err != nil {
		return nil, fmt.Errorf("sealing for %s: %w", domain, err)
	}
	if len(head) == 0 {
		return body, nil
	}
	return &amended{head: head, original: body}, nil
}

// listed names recipients for the log, as the client did.
func listed(to []mail.Recipient) string {
	const most = 20
	var names []string
	for _, r := range to[:min(len(to), most)] {
		names = append(names, r.Address.String())
	}
	return strings.Join(names, " ")
}

func enhanced(s *mail.Status) string {
	return fmt.Sprintf("%d.%d.%d", s.Enhanced[0], s.Enhanced[1], s.Enhanced[2])
}
