package mta

import (
	"context"
	"errors"
	"log/slog"
	"slices"

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
	// Decided, if not nil, is called once for each domain in each transaction.
	Decided func(Decision)
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

// Decision is what was decided about a domain.
type Decision struct {
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
	domains map[string]Decision
	decided func(Decision)
}

// Begin starts a message: each decision about a domain is logged to log, and
// told to Decided.
func (r *Resolver) Begin(log *slog.Logger) *Resolution {
	rs := r.again()
	rs.decided = func(d Decision) {
		log.Info("domain decided", "domain", d.Name, "decision", string(d.Kind), "canonical", d.Domain.Name)
		if r.Decided != nil {
			r.Decided(d)
		}
	}
	return rs
}

// again resolves for a message whose domains were decided before.
func (r *Resolver) again() *Resolution {
	return &Resolution{r: r, domains: make(map[string]Decision), decided: func(Decision) {}}
}

// Domain decides about a domain, at the first question.
func (rs *Resolution) Domain(ctx context.Context, name string) (Decision, error) {
	if d, ok := rs.domains[name]; ok {
		return d, nil
	}
	d := Decision{Name: name}
	dom, err := rs.r.Directory.Domain(ctx, name)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		d.Kind = External
	case err != nil:
		return Decision{}, outage(err)
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
	return mail.TryLater(4, 3, "the directory does not answer, try again later", err)
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

// ErrHold is in the chain of the error of a recipient whose entry says hold:
// the message waits, however long, until the entry is active again.
var ErrHold = errors.New("recipient is on hold")
