package mta

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"mailsrv/pkg/mail"
)

// Check is one opinion about a transaction. All checks are asked at each
// stage, in the order given; the first that objects decides. One Check serves
// all transactions at the same time.
type Check interface {
	// Check returns nil, or the *mail.Status with which the command of this
	// stage is refused; any other error is transient.
	Check(ctx context.Context, at Stage, e *Evidence) error
}

// Stage is the moment at which a Check is asked.
type Stage int

// The stages.
const (
	AtSender    Stage = iota // MAIL FROM
	AtRecipient              // RCPT TO: the last of Evidence.Recipients is the one in question
	AtMessage                // after the final dot
)

// Evidence is the transaction so far. Checks read it, note what they find, and
// keep nothing of it.
type Evidence struct {
	Session *Session
	Sender  Sender
	// Recipients were accepted; at AtRecipient the last one is on trial.
	Recipients []mail.Recipient
	// Header is the message's header; nil before AtMessage.
	Header *Header
	// Body is the message as the client sent it; nil before AtMessage.
	Body mail.Body
	// Size is the message's size in bytes at AtMessage, before that what the
	// client declared, or 0.
	Size int64
	// Findings are what the checks noted at AtSender and AtMessage, in their order.
	Findings []Finding
	// Stranger: the client neither logged in nor is of a trusted network, so
	// that the origin of what it brings is in doubt.
	Stranger bool
	// Vouched: somebody whom the admin trusts knows the client as a good one.
	Vouched bool
	// Junk says why the message belongs into the Junk mailbox; empty: it does not.
	Junk string
	// Fields are put before the message, with their CRLFs; see AddField.
	Fields []byte
}

// Note adds a finding.
func (e *Evidence) Note(f Finding) { e.Findings = append(e.Findings, f) }

// AddField puts a field before the message. A name that is none is passed over;
// lines of the value are folded, and control characters replaced.
func (e *Evidence) AddField(name, value string) {
	token := func(r rune) bool { return r > ' ' && r < 0x7f && r != ':' }
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return !token(r) }) >= 0 {
		return
	}
	var lines []string
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			switch {
			case r == '\r' || r == '\n':
				return -1
			case r < ' ' && r != '\t', r == 0x7f:
				return '?'
			}
			return r
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	e.Fields = append(e.Fields, name+": "+strings.Join(lines, "\r\n\t")+"\r\n"...)
}

// Suspect sends the message to the recipients' Junk mailboxes; the first reason stays.
func (e *Evidence) Suspect(why string) { e.Junk = cmp.Or(e.Junk, why) }

// Signer signs what our users send (RFC 6376). It may be used from many goroutines.
type Signer interface {
	// Sign returns the fields that vouch for body, to be put before it, with
	// their CRLFs; none if the domain has no keys. Its error is transient.
	Sign(ctx context.Context, domain string, body mail.Body) ([]byte, error)
}

// Sealer seals what we hand on for others (ARC, RFC 8617). It may be used from
// many goroutines.
type Sealer interface {
	// Seal returns the fields that tell the next host what we found, to be put
	// before body, with their CRLFs; none if the domain has no keys or body
	// cannot be sealed. results is our Authentication-Results, unfolded or not,
	// without its name. Its error is transient.
	Seal(ctx context.Context, domain, results string, body mail.Body) ([]byte, error)
}

// run asks all checks.
func run(ctx context.Context, checks []Check, at Stage, e *Evidence) error {
	for _, c := range checks {
		if err := c.Check(ctx, at, e); err != nil {
			return err
		}
	}
	return nil
}

// limits bounds what one transaction costs us.
type limits struct {
	size       int64
	recipients int
}

// maxReceived is how many hops a message may have made (RFC 5321 §6.3).
const maxReceived = 50

// Check implements Check.
func (l limits) Check(_ context.Context, at Stage, e *Evidence) error {
	switch {
	case at == AtRecipient && len(e.Recipients) > l.recipients:
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 5, 3}, Text: "too many recipients"}
	case at != AtRecipient && e.Size > l.size:
		return &mail.Status{Code: 552, Enhanced: [3]int{5, 3, 4}, Text: fmt.Sprintf("message is larger than %d bytes", l.size)}
	case at == AtMessage && e.Header.Received > maxReceived:
		return &mail.Status{Code: 554, Enhanced: [3]int{5, 4, 6}, Text: "too many hops, the message goes round in circles"}
	}
	return nil
}
