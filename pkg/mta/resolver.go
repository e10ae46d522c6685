package mta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Resolver says what becomes of a forward-path: the recipient pipeline of the
// directory schema, from the domain to the members of a group. It decides by
// what the directory answers and nothing else, and delivers nothing. It may be
// used from many goroutines; its fields are not changed after the first use.
type Resolver struct {
	Directory directory.Directory
	// Hosts are the names of our own MTAs: a domain whose routing hosts name
	// none of them is relayed to the first of those.
	Hosts []string
	// Postmaster takes mail for postmaster@ each of our domains that has no
	// entry of that address (RFC 5321 §4.5.1); zero: nobody does.
	Postmaster mail.Address
	// Lists finds the members of dynamic groups; nil: they have none.
	Lists directory.Lister
	// HasStore says whether a mail host is a store that we reach; mail for any
	// other goes to it by SMTP. nil: all are.
	HasStore func(mailHost string) bool
	// Programs are the names that a user's entry may use.
	Programs []string
	// SRS rewrites the senders of what leaves by a forward; zero: it does not.
	SRS SRS
	// Transports are the exceptions to delivery by MX; the first that matches counts.
	Transports []Transport
	// QueueOverQuota lets mail for users who are over quota wait in the queue;
	// else it is refused, for now.
	QueueOverQuota bool
	// DisabledText is what senders to a disabled user hear; empty: our own words.
	DisabledText string
	// Now is the time by which vacations are judged; nil: time.Now.
	Now func() time.Time
	// Decided, if not nil, is called once for each domain in each transaction.
	Decided func(DomainDecision)
}

// Kind is what a domain is to us.
type Kind string

// The kinds of domain.
const (
	Hosted   Kind = "hosted"
	AliasOf  Kind = "alias of hosted"
	Relayed  Kind = "hosted elsewhere"
	External Kind = "external"
)

// DomainDecision is what was decided about a domain.
type DomainDecision struct {
	// Name is the domain as the forward-path has it, Kind what it is.
	Name string
	Kind Kind
	// Domain is zero for an external one.
	Domain directory.Domain
}

// Resolution remembers the domains decided for one message, so that each is
// asked for once. One goroutine uses it.
type Resolution struct {
	r       *Resolver
	poster  Poster
	domains map[string]DomainDecision
	decided func(DomainDecision)
	who     *sender // nil: not looked up yet
	// header reads the message's; nil before it is there.
	header func() (*Header, error)
	// expand: nothing is left for the queue to expand.
	expand bool
}

// Begin starts a message of a sender: each decision about a domain is logged to
// log, and told to Decided. What its entry defers is left for the queue.
func (r *Resolver) Begin(p Poster, log *slog.Logger) *Resolution {
	rs := r.Again(p)
	rs.expand = false
	rs.decided = func(d DomainDecision) {
		log.Info("domain decided", "domain", d.Name, "decision", string(d.Kind), "canonical", d.Domain.Name)
		if r.Decided != nil {
			r.Decided(d)
		}
	}
	return rs
}

// Again is Begin for a message that was accepted before: nothing is left for the
// queue to expand, and decisions are neither logged nor told.
func (r *Resolver) Again(p Poster) *Resolution {
	return &Resolution{r: r, poster: p, domains: make(map[string]DomainDecision), decided: func(DomainDecision) {}, expand: true}
}

func (r *Resolver) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// Domain decides about a domain, at the first question.
func (rs *Resolution) Domain(ctx context.Context, name string) (DomainDecision, error) {
	if d, ok := rs.domains[name]; ok {
		return d, nil
	}
	d := DomainDecision{Name: name}
	dom, err := rs.r.Directory.Domain(ctx, name)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		d.Kind = External
	case err != nil:
		return DomainDecision{}, outage(err)
	case len(dom.RoutingHosts) > 0 && !slices.ContainsFunc(dom.RoutingHosts, rs.r.isOurs):
		d.Kind, d.Domain = Relayed, dom
	case dom.Name != name:
		d.Kind, d.Domain = AliasOf, dom
	default:
		d.Kind, d.Domain = Hosted, dom
	}
	rs.domains[name] = d
	rs.decided(d)
	return d, nil
}

func (r *Resolver) isOurs(host string) bool {
	return slices.ContainsFunc(r.Hosts, func(h string) bool { return equalHost(h, host) })
}

// outage turns an error of the directory into what the client hears: never a
// permanent refusal.
func outage(err error) error {
	if errors.Is(err, directory.ErrAmbiguous) {
		return mail.TryLater(3, 5, "the directory has two answers, try again later", err)
	}
	return mail.TryLater(4, 3, "the directory does not answer, try again later", fmt.Errorf("%w: %w", mail.ErrOutage, err))
}

// statusOf is the inbound column of the status table (schema.md section 5).
func statusOf(s directory.Status) error {
	switch s {
	case directory.Active, "":
		return nil
	case directory.Hold:
		return &mail.Status{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "mailbox is on hold", Err: ErrHold}
	case directory.OverQuota:
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "mailbox is full, try again later"}
	case directory.Disabled:
		return mail.Refuse(2, 1, "user disabled; cannot receive new mail")
	case directory.Deleted, directory.Removed:
		return mail.Refuse(1, 1, "no such user here")
	}
	return &mail.Status{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "mailbox is inactive, try again later"}
}

// statusOf is that of a user, with the words of the configuration.
func (r *Resolver) statusOf(s directory.Status) error {
	if s == directory.Disabled && r.DisabledText != "" {
		return mail.Refuse(2, 1, r.DisabledText)
	}
	return statusOf(s)
}

// ErrHost is in the chain of a failure that is the whole next hop's: it would
// have met any other message too.
var ErrHost = errors.New("the host takes no mail now")

// ErrHold is in the chain of the error of a recipient whose entry says hold:
// the message waits, however long, until the entry is active again.
var ErrHold = errors.New("recipient is on hold")
