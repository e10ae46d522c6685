package mta

import (
	"context"
	"fmt"

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

// Evidence is the transaction so far. Checks read it and keep nothing of it.
type Evidence struct {
	Session *Session
	Sender  Sender
	// Recipients were accepted; at AtRecipient the last one is on trial.
	Recipients []mail.Recipient
	// Header is the message's header; nil before AtMessage.
	Header *Header
	// Size is the message's size in bytes at AtMessage, before that what the
	// client declared, or 0.
	Size int64
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
