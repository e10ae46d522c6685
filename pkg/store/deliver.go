package store

import (
	"context"
	"errors"
	"fmt"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Deliverer is the final delivery: it finds the account of each recipient in
// the directory, judges its status and hands the message to the engine once
// for all. It may be used from many goroutines.
type Deliverer struct {
	store     Store
	directory directory.Directory
	defaults  Quota
}

var _ mail.Deliverer = (*Deliverer)(nil)

// NewDeliverer returns a Deliverer into s. The store asks d by itself and
// believes no MTA about status and quota; defaults are the quota of users
// whose entry has none.
func NewDeliverer(s Store, d directory.Directory, defaults Quota) *Deliverer {
	return &Deliverer{store: s, directory: d, defaults: defaults}
}

// Deliver implements mail.Deliverer. A message that is there twice for one
// account and mailbox is stored once, by env.Trace.
func (d *Deliverer) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	var targets []Target
	var places []int
	for i, r := range env.To {
		t, err := d.Target(ctx, env.From, r)
		if err != nil {
			errs[i] = err
			continue
		}
		targets, places = append(targets, t), append(places, i)
	}
	for n, err := range d.Store(ctx, env.Trace, body, targets) {
		errs[places[n]] = err
	}
	return errs
}

// Target judges one recipient of a message from sender, and returns where it
// goes. Its error is a *mail.Status: 550 5.1.1 if nobody has the address, 550
// 5.2.1 or 451 4.2.1 by the account's status (schema.md section 5), 451 4.4.3
// if the directory cannot be asked.
func (d *Deliverer) Target(ctx context.Context, sender mail.Address, r mail.Recipient) (Target, error) {
	who, detail, err := d.recipient(ctx, r.Address)
	if err != nil {
		return Target{}, directoryStatus(err)
	}
	if who.User == nil || IsSharedAccount(who.User.Account()) {
		return Target{}, mail.Refuse(1, 1, "no mailbox here by that name")
	}
	if err := admits(who.User.Status); err != nil {
		return Target{}, err
	}
	flags, err := ParseFlags(r.Flags)
	if err != nil {
		return Target{}, &mail.Status{Code: 501, Enhanced: [3]int{5, 5, 4}, Text: "bad flags", Err: err}
	}
	if reserved(r.Mailbox) {
		r.Mailbox = "" // it would lie where the user has no name for it
	}
	if detail != "" && r.Mailbox == "" && !r.SentCopy {
		if r.Mailbox, err = d.posted(ctx, who.User.Account(), detail); err != nil {
			return Target{}, storeStatus(Target{}, 0, err)
		}
	}
	t := Target{
		Account: who.User.Account(), Mailbox: r.Mailbox, Flags: flags, ReturnPath: sender, Recipient: r.Address,
		SentCopy: r.SentCopy, Quota: QuotaOf(*who.User, d.defaults),
	}
	if r.SentCopy {
		t.Recipient = mail.Address{} // it was delivered to the others
	}
	return t, nil
}

// Room judges, before the message is there, whether one of size bytes would
// fit into the target's quota now; size 0 if it is not known. Its error is a
// *mail.Status. Whether it does fit, Store says.
func (d *Deliverer) Room(ctx context.Context, t Target, size int64) error {
	q := t.Quota
	if q.Bytes < 0 && q.Messages < 0 {
		return nil
	}
	if q.Bytes == 0 || q.Messages == 0 || q.Bytes > 0 && size > q.Bytes {
		return quotaStatus(q, size, ErrOverQuota)
	}
	a, err := d.store.Account(ctx, t.Account)
	if err != nil {
		return storeStatus(t, size, fmt.Errorf("opening account %s: %w", t.Account, err))
	}
	u, err := a.Usage(ctx)
	if err != nil {
		return storeStatus(t, size, fmt.Errorf("measuring account %s: %w", t.Account, err))
	}
	if q.Bytes > 0 && u.Bytes+max(size, 1) > q.Bytes || q.Messages > 0 && u.Messages >= q.Messages {
		return quotaStatus(q, size, ErrOverQuota)
	}
	return nil
}

// Store stores the message at all targets in one commit, and returns one error
// per target, each nil or a *mail.Status.
func (d *Deliverer) Store(ctx context.Context, trace mail.TraceID, body mail.Body, targets []Target) []error {
	if len(targets) == 0 {
		return nil
	}
	errs := d.store.Deliver(ctx, trace, body, targets)
	for i, err := range errs {
		if err != nil {
			errs[i] = storeStatus(targets[i], body.Size(), err)
		}
	}
	return errs
}

// admits is the column "inbound mail" of schema.md section 5.
func admits(s directory.Status) error {
	switch s {
	case directory.Active:
		return nil
	case directory.Disabled:
		return mail.Refuse(2, 1, "user disabled; cannot receive new mail")
	case directory.Deleted, directory.Removed:
		return mail.Refuse(2, 1, "mailbox is closed")
	case directory.OverQuota:
		return fullStatus(nil)
	case directory.Hold: // the MTA that sent it here keeps it until the account is active again
		return mail.TryLater(2, 1, "mailbox is on hold", nil)
	}
	return mail.TryLater(2, 1, "mailbox is inactive for now", nil)
}

// directoryStatus never turns an outage into "no such user".
func directoryStatus(err error) *mail.Status {
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return &mail.Status{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such user here", Err: err}
	case errors.Is(err, directory.ErrAmbiguous):
		return mail.TryLater(3, 5, "address is claimed twice", err)
	}
	return mail.TryLater(4, 3, "directory unavailable, try again later", err)
}

func storeStatus(t Target, size int64, err error) *mail.Status {
	switch {
	case errors.Is(err, ErrOverQuota):
		return quotaStatus(t.Quota, size, err)
	case errors.Is(err, ErrTooMany):
		return fullStatus(err)
	case errors.Is(err, ErrBadName):
		return &mail.Status{Code: 550, Enhanced: [3]int{5, 2, 0}, Text: "mailbox name is not allowed", Err: err}
	}
	return mail.StatusOf(err)
}

// quotaStatus is permanent for what can never fit, and else, unless the quota
// says otherwise, transient: the user may clean up while the sender waits.
func quotaStatus(q Quota, size int64, err error) *mail.Status {
	if q.Bytes == 0 || q.Messages == 0 || q.Bytes > 0 && size > q.Bytes {
		return &mail.Status{Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "message exceeds the mailbox's quota", Err: err}
	}
	if q.Reject {
		return &mail.Status{Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "mailbox full", Err: err}
	}
	return fullStatus(err)
}

func fullStatus(err error) *mail.Status {
	return &mail.Status{Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "mailbox full", Err: err}
}
