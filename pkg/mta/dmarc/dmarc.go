// Package dmarc judges whether the author's domain stands behind a message
// (RFC 7489 and the tree walk of its successor), from what the SPF and DKIM
// checks before it have found, and does with the message what that domain's
// owner asks for.
//
// The organisation of a domain is found by the tree walk, within the bounds of
// the public suffix list. Reports are not sent.
package dmarc

import (
	"context"
	"fmt"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Obedience says what a failed message meets.
type Obedience string

// The settings of Obedience.
const (
	// Obey refuses for the policy reject, and files into Junk for quarantine.
	Obey Obedience = "obey"
	// ObeyGently files into Junk for both.
	ObeyGently Obedience = "quarantine"
	// Observe only notes.
	Observe Obedience = "observe"
)

// Options of New.
type Options struct {
	// Resolver is required.
	Resolver Resolver
	// Obedience is Obey if it is empty.
	Obedience Obedience
}

// Check is the DMARC check; it stands behind those of SPF and DKIM. It may be
// used from many goroutines.
type Check struct{ o Options }

var _ mta.Check = (*Check)(nil)

// New returns a Check.
func New(o Options) *Check {
	if o.Obedience == "" {
		o.Obedience = Obey
	}
	return &Check{o}
}

// verdict is what DMARC says of one message.
type verdict struct {
	result string // of RFC 8601 §2.7.6
	reason string
	policy Policy // in force
	org    string // whose policy it is
}

// Check implements mta.Check.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage || !e.Stranger || len(e.Header.From) == 0 {
		return nil
	}
	author, err := mail.ParseDomain(e.Header.From[0].Domain)
	if err != nil {
		e.Note(mta.Finding{Method: "dmarc", Result: "permerror", Reason: "the author's domain is malformed"})
		return nil
	}
	v, err := c.judge(ctx, author, e.Findings)
	if err != nil {
		v = verdict{result: "temperror", reason: err.Error()}
	}
	f := mta.Finding{Method: "dmarc", Result: v.result, Reason: v.reason, Domain: author,
		Properties: []mta.Property{{Name: "header.from", Value: author}}}
	if v.policy != "" {
		f.Properties = append(f.Properties, mta.Property{Name: "policy.dmarc", Value: string(v.policy)})
	}
	e.Note(f)
	return c.act(v, author, e, err)
}

// act does what the policy asks for, as far as we are told to obey.
func (c *Check) act(v verdict, author string, e *mta.Evidence, cause error) error {
	switch {
	case c.o.Obedience == Observe:
	case v.result == "temperror" && v.policy != None:
		// What cannot be known now is no reason to believe, nor to refuse for good.
		return mail.TryLater(7, 0, "the policy of "+author+" cannot be checked now, try again later", cause)
	case v.result != "fail":
	case v.policy == Reject && c.o.Obedience == Obey:
		return mail.Refuse(7, 1, "refused by the DMARC policy of "+v.org)
	case v.policy == Reject, v.policy == Quarantine:
		e.Suspect(fmt.Sprintf("dmarc: the policy of %s is %s", v.org, v.policy))
	}
	return nil
}

func (c *Check) judge(ctx context.Context, author string, findings []mta.Finding) (verdict, error) {
	found, err := walk(ctx, c.o.Resolver, author)
	if err != nil {
		return verdict{}, err
	}
	if len(found) == 0 {
		return verdict{result: "none"}, nil
	}
	org := organisation(author, found)
	rule, policy, err := c.rule(ctx, author, org, found)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{result: "fail", reason: "neither SPF nor DKIM speaks for " + author, policy: policy, org: rule.domain}
	for _, f := range findings {
		strict := rule.record.StrictSPF
		switch f.Method {
		case "spf":
		case "dkim":
			strict = rule.record.StrictDKIM
		default:
			continue
		}
		if !f.Pass() && f.Result != "temperror" {
			continue
		}
		aligned, err := c.aligned(ctx, f.Domain, author, org, strict)
		switch {
		case err != nil:
			return verdict{}, err
		case aligned && f.Pass():
			return verdict{result: "pass", policy: policy, org: rule.domain}, nil
		case aligned:
			v.result, v.reason = "temperror", f.Method+" could not be checked"
		}
	}
	return v, nil
}

// rule is the record that governs the author's domain: its own, else that of
// its organisation, else that of the public suffix; and the policy it gives.
func (c *Check) rule(ctx context.Context, author, org string, found []place) (place, Policy, error) {
	if found[0].domain == author {
		return found[0], found[0].record.tested(found[0].record.Policy), nil
	}
	rule := found[len(found)-1]
	for _, p := range found {
		if p.domain == org {
			rule = p
		}
	}
	there, err := exists(ctx, c.o.Resolver, author)
	if err != nil {
		return place{}, "", err
	}
	if there {
		return rule, rule.record.tested(rule.record.Subdomain), nil
	}
	return rule, rule.record.tested(rule.record.Missing), nil
}

// aligned reports whether an authenticated domain may speak for the author's
// (RFC 7489 §3.1). Domains that the public suffix list parts are strangers
// whatever their records say, and cost no question.
func (c *Check) aligned(ctx context.Context, domain, author, org string, strict bool) (bool, error) {
	switch {
	case domain == author:
		return true, nil
	case strict, registered(domain) != registered(author):
		return false, nil
	}
	found, err := walk(ctx, c.o.Resolver, domain)
	if err != nil {
		return false, err
	}
	return organisation(domain, found) == org, nil
}
