package mta

import (
	"strings"

	"mailsrv/pkg/mail"
)

// Poster is who sends a message, as far as it is known when a recipient is
// resolved: groups judge by it who may write to them.
type Poster struct {
	// From is the reverse-path, and Proof what vouches for it.
	From  mail.Address
	Proof mail.Proof
	// Size is in bytes, declared or counted; 0: not known.
	Size int64
}

// proofOf is what the session and the Checks say about the reverse-path.
func proofOf(e *Evidence) mail.Proof {
	if e.Session.Submission && e.Session.Identity != nil {
		return mail.LoggedIn
	}
	if !e.Stranger { // it relays for others, and answers for them
		return mail.DomainProven
	}
	for _, f := range e.Findings {
		if f.Method == "spf" && f.Pass() && strings.EqualFold(f.Domain, e.Sender.From.Domain) {
			return mail.DomainProven
		}
	}
	return mail.Unproven
}
