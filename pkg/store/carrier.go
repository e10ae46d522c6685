package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of a Carrier.
var (
	// ErrHeld: the account is sealed, or is arriving; nothing may be changed.
	ErrHeld = fmt.Errorf("%w: the account is being moved", ErrUnavailable)
	// ErrNoAccount: the store has no account of that name.
	ErrNoAccount = errors.New("no such account")
	// ErrAccountInUse: the store has an account of that name that holds mail of its own.
	ErrAccountInUse = errors.New("account holds mail of its own")
)

// CarrierCodes are the numbers, HTTP's (RFC 9110 §15), by which these and
// ErrUnavailable cross the wire.
func CarrierCodes() map[int]error {
	return map[int]error{404: ErrNoAccount, 410: ErrNoMailbox, 409: ErrAccountInUse, 423: ErrHeld, 422: ErrCargo, 503: ErrUnavailable}
}

// Carrier moves accounts between stores with all that clients know them by:
// UIDs, UIDVALIDITY, flags, MODSEQ. An account is open, sealed or arriving
// (Hold), which survives a restart. Methods may be called from many goroutines
// and while the store serves; each may be repeated.
type Carrier interface {
	// Census describes an account; closely reads every row and sums it up in
	// hashes, so that two accounts of equal mailboxes are equal. ErrNoAccount.
	Census(ctx context.Context, account string, closely bool) (Census, error)
	// Seal ends all changes to an account. What was acknowledged before is there
	// to be exported; whoever tries to change more hears ErrHeld. After until,
	// unless it is zero, the store drops the account. ErrNoAccount.
	Seal(ctx context.Context, account string, until time.Time) error
	// Open ends the seal, or opens an account that has arrived. ErrNoAccount.
	Open(ctx context.Context, account string) error
	// Receive makes the account one that arrives, empty, or leaves one that does
	// as it is. A sealed one, and one without any message, gives way.
	// ErrAccountInUse.
	Receive(ctx context.Context, account string) error
	// Export writes the account as cargo (Record): a mailbox and its messages
	// above a UID; with an empty name all that belongs to no mailbox.
	// ErrNoAccount, ErrNoMailbox.
	Export(ctx context.Context, account, mailbox string, above UID, to io.Writer) error
	// Import takes what Export wrote into an account that arrives. What came
	// whole before an error stays. ErrHeld if it does not arrive.
	Import(ctx context.Context, account string, from io.Reader) error
	// Drop removes an account that is sealed or arriving, with all its mail; one
	// that is not there is fine. An open one is ErrAccountInUse.
	Drop(ctx context.Context, account string) error
}

// Hold is whether an account may be changed.
type Hold string

// The holds. An account is open unless it is being moved.
const (
	HoldNone     Hold = ""
	HoldSealed   Hold = "sealed"
	HoldArriving Hold = "arriving"
)

// Census is what an account holds.
type Census struct {
	Hold Hold `json:"hold,omitempty"`
	// Until is when a sealed account is dropped; zero: never.
	Until    time.Time `json:"until,omitzero"`
	Messages int64     `json:"messages"`
	Bytes    int64     `json:"bytes"`
	// Mailboxes are in the order of their names.
	Mailboxes []MailboxCensus `json:"mailboxes"`
	// Rest sums up what belongs to no mailbox; empty unless taken closely.
	Rest string `json:"rest,omitempty"`
}

// MailboxCensus is a mailbox in a Census.
type MailboxCensus struct {
	Name        string `json:"name"`
	UIDValidity uint32 `json:"uidvalidity"`
	UIDNext     UID    `json:"uidnext"`
	ModSeq      ModSeq `json:"modseq"`
	Messages    int64  `json:"messages"`
	Bytes       int64  `json:"bytes"`
	// Last is the highest UID that is there.
	Last UID `json:"last"`
	// Sum is a hash over all that is known of the mailbox and its messages,
	// content included; empty unless taken closely.
	Sum string `json:"sum,omitempty"`
}

// Differs says in words how two accounts differ; empty: not at all.
func (c Census) Differs(from Census) string {
	for i := range max(len(c.Mailboxes), len(from.Mailboxes)) {
		switch {
		case i >= len(c.Mailboxes):
			return fmt.Sprintf("mailbox %q is in one alone", from.Mailboxes[i].Name)
		case i >= len(from.Mailboxes):
			return fmt.Sprintf("mailbox %q is in one alone", c.Mailboxes[i].Name)
		case c.Mailboxes[i] != from.Mailboxes[i]:
			return fmt.Sprintf("mailbox %q: %+v and %+v", c.Mailboxes[i].Name, c.Mailboxes[i], from.Mailboxes[i])
		}
	}
	if c.Rest != from.Rest {
		return "subscriptions or removed messages"
	}
	return ""
}
