package pop3server

import (
	"context"
	"fmt"

	"mailsrv/pkg/store"
)

// message is one of the maildrop. Its number is its place, from 1.
type message struct {
	uid       store.UID
	size      int64
	seen      bool // already when the session began
	retrieved bool
	deleted   bool
}

// maildrop is INBOX as it was at the login (RFC 1939 §5).
type maildrop struct {
	box         store.Mailbox
	uidValidity uint32
	messages    []message
}

func openMaildrop(ctx context.Context, a store.Account) (*maildrop, error) {
	box, err := a.Open(ctx, "INBOX")
	if err != nil {
		return nil, fmt.Errorf("opening INBOX: %w", err)
	}
	st, err := box.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the state of INBOX: %w", err)
	}
	d := &maildrop{box: box, uidValidity: st.UIDValidity, messages: make([]message, 0, st.Messages)}
	for m, err := range box.Messages(ctx, store.AllUIDs(), store.FieldMeta) {
		if err != nil {
			return nil, fmt.Errorf("listing INBOX: %w", err)
		}
		d.messages = append(d.messages, message{uid: m.UID, size: m.Size, seen: m.Flags.Has(store.Seen)})
	}
	return d, nil
}

// total counts the messages that are not marked as deleted, and their octets.
func (d *maildrop) total() (n int, size int64) {
	for _, m := range d.messages {
		if !m.deleted {
			n++
			size += m.size
		}
	}
	return n, size
}

// uniqueID is a message's name for UIDL: it outlives sessions and restarts and
// is never used again (RFC 1939 §7).
func (d *maildrop) uniqueID(m *message) string { return fmt.Sprintf("%d.%d", d.uidValidity, m.uid) }

// reset unmarks all messages.
func (d *maildrop) reset() {
	for i := range d.messages {
		d.messages[i].deleted = false
	}
}

// remove takes the marked messages out of INBOX in one commit: all, or none if
// it fails (RFC 1939 §6). It returns how many there were.
func (d *maildrop) remove(ctx context.Context) (int, error) {
	gone := d.uids(func(m *message) bool { return m.deleted })
	if len(gone) == 0 {
		return 0, nil
	}
	if _, err := d.box.Remove(ctx, store.UIDsOf(gone...)); err != nil {
		return 0, fmt.Errorf("removing %d messages: %w", len(gone), err)
	}
	return len(gone), nil
}

// markRead shows to IMAP clients what was retrieved.
func (d *maildrop) markRead(ctx context.Context) error {
	read := d.uids(func(m *message) bool { return m.retrieved && !m.seen && !m.deleted })
	if len(read) == 0 {
		return nil
	}
	seen := store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen}}
	if _, err := d.box.StoreFlags(ctx, store.UIDsOf(read...), seen, 0); err != nil {
		return fmt.Errorf("marking %d messages as read: %w", len(read), err)
	}
	return nil
}

func (d *maildrop) uids(pick func(*message) bool) (uids []store.UID) {
	for i := range d.messages {
		if m := &d.messages[i]; pick(m) {
			uids = append(uids, m.uid)
		}
	}
	return uids
}
