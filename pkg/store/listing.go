package store

import "context"

// Lister is a Mailbox that lists all its messages at once, for much less than
// Messages: what a session wants when it selects a large mailbox.
type Lister interface {
	// List returns the messages as they are now. The caller may change the
	// slices UIDs and Flags.
	List(ctx context.Context) (Listing, error)
}

var (
	_ Lister = (*ownBox)(nil)
	_ Lister = (*guardedBox)(nil)
)

// List implements Lister.
func (b *ownBox) List(ctx context.Context) (Listing, error) { return List(ctx, b.Mailbox) }

// List implements Lister.
func (b *guardedBox) List(ctx context.Context) (Listing, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return Listing{}, err
	}
	return List(ctx, b.box)
}

// List lists any mailbox: at once if it is a Lister.
func List(ctx context.Context, m Mailbox) (Listing, error) {
	if l, ok := m.(Lister); ok {
		return l.List(ctx)
	}
	status, err := m.Status(ctx)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{UIDValidity: status.UIDValidity, UIDNext: status.UIDNext, HighestModSeq: status.HighestModSeq}
	for msg, err := range m.Messages(ctx, AllUIDs(), 0) {
		if err != nil {
			return Listing{}, err
		}
		ref := FlagRef(msg.Flags.System)
		if len(msg.Flags.Keywords) > 0 {
			ref = FirstSet + FlagRef(len(l.Sets))
			l.Sets = append(l.Sets, msg.Flags)
		}
		l.UIDs, l.Flags = append(l.UIDs, msg.UID), append(l.Flags, ref)
		l.UIDNext = max(l.UIDNext, msg.UID+1) // it came behind the status
	}
	return l, nil
}

// Listing is a mailbox's messages at one moment, ascending by UID.
type Listing struct {
	UIDValidity   uint32
	UIDNext       UID
	HighestModSeq ModSeq

	UIDs []UID
	// Flags has an element for each UID.
	Flags []FlagRef
	// Sets are combinations with keywords; some may be no message's.
	Sets []Flags
}

// FlagRef is a combination of flags in a Listing: below FirstSet it is system
// flags without keywords, from there on an index into Sets, less FirstSet.
type FlagRef uint32

// FirstSet is above all combinations of system flags.
const FirstSet FlagRef = 256
