package store

import (
	"context"
	"fmt"
	"time"
)

// Keeper is what an engine does for the people who run it. Methods may be
// called from many goroutines, and while the store serves.
type Keeper interface {
	// Verify reads everything, holds bodies against their hashes and indexes
	// and counters against what they count, and calls report for each fault. It
	// changes nothing. Its error is one that kept it from its work.
	Verify(ctx context.Context, report func(Fault)) (Tally, error)
	// Reconstruct is Verify that mends what can be made again from what is
	// there: counters, envelopes, structures, indexes. report hears of every
	// fault; Fault.Mended says which are no more.
	Reconstruct(ctx context.Context, report func(Fault)) (Tally, error)
	// Removed calls each for the removed messages that q chooses and that can
	// still be had again, the oldest first.
	Removed(ctx context.Context, q Selection, each func(RemovedMessage)) error
	// Undelete brings the messages that q chooses back into their mailboxes,
	// which are made again if they are gone, under new UIDs, and returns how
	// many. Quota does not hold it up.
	Undelete(ctx context.Context, q Selection) (int, error)
	// Purge frees what was removed before a time, and returns how many
	// messages cannot be had again any more.
	Purge(ctx context.Context, until time.Time) (int, error)
	// Backup brings the backup in the folder dir, which is made if it is
	// missing, to a state of the store that holds all that was acknowledged
	// before it began. Bodies' files that are there are not written again.
	Backup(ctx context.Context, dir string) (Tally, error)
	// Restore brings the messages that q chooses from the backup in dir into
	// their mailboxes, but those that are there, and returns how many.
	Restore(ctx context.Context, dir string, q Selection) (int, error)
}

// Selection chooses messages. Zero fields choose all.
type Selection struct {
	Account, Mailbox string
	// MessageID is with its angle brackets.
	MessageID string
	// Since and Until bound when the messages were removed (Undelete), or when
	// they came in (Restore).
	Since, Until time.Time
}

// RemovedMessage is a message that was removed from a mailbox.
type RemovedMessage struct {
	Account, Mailbox string
	UID              UID
	MessageID        string
	Size             int64
	At               time.Time // when it was removed
}

// Fault is something that is not as it should be. Empty fields do not apply.
type Fault struct {
	Account, Mailbox string
	UID              UID
	What             string
	Mended           bool
}

// String is one line.
func (f Fault) String() string {
	s := f.What
	switch {
	case f.UID != 0:
		s = fmt.Sprintf("%s: %s: message %d: %s", f.Account, f.Mailbox, f.UID, s)
	case f.Mailbox != "":
		s = fmt.Sprintf("%s: %s: %s", f.Account, f.Mailbox, s)
	}
	if f.Mended {
		s += " (mended)"
	}
	return s
}

// Tally is how much was looked at.
type Tally struct {
	Accounts, Mailboxes, Messages, Bodies, Files int
	Bytes                                        int64
	// Faults were found; Left of them are there still.
	Faults, Left int
}
