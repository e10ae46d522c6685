package store

import "context"

// Sharer is what a Store keeps for mailboxes that others than their owner use:
// their lists of rights, and a \Seen of each user's own. It checks no rights;
// Namespaces does. Methods may be called from many goroutines.
type Sharer interface {
	// Granted lists the mailboxes whose list has one of the identifiers, or any
	// group.
	Granted(ctx context.Context, identifiers []string) ([]SharedMailbox, error)
	// ACL returns the list of a mailbox, also of one that cannot be selected.
	// ErrNoMailbox, also if there is no such account, which is not made.
	ACL(ctx context.Context, account, name string) (ACL, error)
	// SetACL changes the entry of one identifier, as ACL.With does. It is
	// durable, and holds for all sessions, when SetACL returns. ErrNoMailbox, also for
	// a name that cannot be selected, ErrTooMany.
	SetACL(ctx context.Context, account, name, identifier string, change RightsChange, r Rights) error
	// OpenAs opens a mailbox of an account for another user: \Seen is the
	// reader's own, and nothing is \Recent. ErrNoMailbox, also if there is no such
	// account, which is not made.
	OpenAs(ctx context.Context, account, name, reader string) (SharedBox, error)
	// Transfer is Mailbox.Copy, or Move, between mailboxes of different accounts
	// or of OpenAs. Flags that within does not allow to be set at the destination
	// are left out; the quota is the destination's.
	Transfer(ctx context.Context, from Mailbox, uids UIDSet, to Mailbox, within Rights, q Quota, move bool) (CopyResult, error)
}

// SharedBox is a mailbox as it is to somebody who does not own it.
type SharedBox interface {
	Mailbox
	// ACL is its list as it is now.
	ACL(ctx context.Context) (ACL, error)
}

// SharedMailbox is a mailbox with a list of rights.
type SharedMailbox struct {
	Account string
	MailboxEntry
	ACL ACL
}
