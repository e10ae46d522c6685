package store

import (
	"context"
	"fmt"
	"time"

	"mailsrv/pkg/mail"
)

// Quota bounds an account: bytes over all mailboxes, and messages. Negative:
// no limit. 0: nothing may be stored.
type Quota struct {
	Bytes, Messages int64
	// Reject: who sends to a full account hears that it is for good (552), and
	// not for now (452).
	Reject bool
}

// NoQuota limits nothing.
func NoQuota() Quota { return Quota{Bytes: -1, Messages: -1} }

// QuotaWarning says that an account has come to use so much of its quota.
type QuotaWarning struct {
	Account string
	// Percent is the threshold that was crossed, the highest if several were at once.
	Percent int
	Usage   Usage
	Quota   Quota
}

// Crossed returns the highest of the thresholds, in percent, that an account
// crosses when it goes from one usage to another; 0 if none.
func (q Quota) Crossed(from, to Usage, thresholds []int) (percent int) {
	for _, p := range thresholds {
		bytes, messages := q.Bytes*int64(p)/100, q.Messages*int64(p)/100
		if q.Bytes > 0 && from.Bytes < bytes && to.Bytes >= bytes || q.Messages > 0 && from.Messages < messages && to.Messages >= messages {
			percent = max(percent, p)
		}
	}
	return percent
}

// Warn puts a message into the INBOX of an account whose quota is nearly used
// up; that one message does not count against it. hostname is whose postmaster
// it comes from.
func (d *Deliverer) Warn(ctx context.Context, w QuotaWarning, hostname string, now time.Time) error {
	if IsSharedAccount(w.Account) {
		return fmt.Errorf("mailboxes in %s of %s are %d%% full, and nobody is their owner", SharedTree, w.Account[len(sharedAccount):], w.Percent)
	}
	trace := mail.NewTraceID()
	use := fmt.Sprintf("%d messages", w.Usage.Messages)
	if w.Quota.Messages > 0 {
		use += fmt.Sprintf(" of %d", w.Quota.Messages)
	}
	if w.Quota.Bytes > 0 {
		use = fmt.Sprintf("%d KiB of %d KiB, in ", w.Usage.Bytes/1024, w.Quota.Bytes/1024) + use
	}
	text := fmt.Sprintf("From: Mail system <postmaster@%s>\r\nTo: <%s>\r\nSubject: Your mailbox is %d%% full\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n"+
		"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"+
		"Your mail takes %s.\r\n\r\nWhen it is full, no new mail can be stored. Please delete what you no longer need.\r\n",
		hostname, w.Account, w.Percent, now.Format("Mon, 2 Jan 2006 15:04:05 -0700"), trace, hostname, use)
	if err := d.store.Deliver(ctx, trace, mail.Bytes(text), []Target{{Account: w.Account, Quota: NoQuota()}})[0]; err != nil {
		return fmt.Errorf("warning %s of its quota: %w", w.Account, err)
	}
	return nil
}
