package imapserver

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"mailsrv/pkg/store"
)

// beginNotify begins to watch what was asked for; status has the client told how
// mailboxes are now.
func (c *session) beginNotify(status bool) error {
	n := c.notified
	if w, ok := c.store.Account.(store.TreeWatcher); ok && n.wantsTree() {
		n.stop = append(n.stop, w.WatchTree(func() {
			n.mu.Lock()
			n.tree = true
			n.mu.Unlock()
			c.conn.Wake()
		}))
	}
	if n.wants(eventMetadata|eventServerMetadata) && c.store.Sharing != nil {
		n.stop = append(n.stop, c.store.Sharing.WatchMetadata(func(m store.MetadataChange) {
			n.mu.Lock()
			if len(n.metadata) <= maxMetadata {
				n.metadata = append(n.metadata, m)
			}
			n.mu.Unlock()
			c.conn.Wake()
		}))
	}
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err == nil {
		n.entries = entries
		err = c.watchBoxes(func(w *watchedBox) {
			if status {
				c.tellNotified(w)
			}
		})
	}
	if err != nil {
		c.overflows(err)
		return nil
	}
	c.watchSelected()
	return nil
}

// wantsTree reports whether some group is about other mailboxes than the
// selected one: which these are changes with the tree.
func (n *notification) wantsTree() bool {
	for i := range n.groups {
		if !n.groups[i].selects() {
			return true
		}
	}
	return false
}

// wants reports whether some group has one of the events.
func (n *notification) wants(events notifyEvents) bool {
	for i := range n.groups {
		if n.groups[i].events&events != 0 {
			return true
		}
	}
	return false
}

// of returns the events that are wanted of a mailbox: those of the first group that has it.
func (n *notification) of(e *store.MailboxEntry) notifyEvents {
	for i := range n.groups {
		if n.groups[i].has(e) {
			return n.groups[i].events
		}
	}
	return 0
}

// watchBoxes watches those of n.entries whose messages are wanted, and no others;
// begun is called for each that was not watched before.
func (c *session) watchBoxes(begun func(*watchedBox)) error {
	n := c.notified
	old := maps.Clone(n.watched)
	for i := range n.entries {
		e := &n.entries[i]
		events := n.of(e)
		if e.NoSelect || e.NonExistent || events&(eventNew|eventFlags) == 0 {
			continue
		}
		if w := old[e.Name]; w != nil && (e.ID == 0 || w.box.ID() == e.ID) {
			w.events = events
			delete(old, e.Name)
			continue
		}
		if len(n.watched) >= c.o.MaxNotified {
			return errTooManyNotified
		}
		w, err := c.watchBox(e.Name, events)
		if errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoRight) {
			continue // gone meanwhile, or not to be read: passed over (RFC 5465 §6)
		}
		if err != nil {
			return err
		}
		if before := old[e.Name]; before != nil {
			before.stop()
			delete(old, e.Name)
		}
		n.watched[e.Name] = w
		begun(w)
	}
	for name, w := range old {
		w.stop()
		delete(n.watched, name)
	}
	return nil
}

func (c *session) watchBox(name string, events notifyEvents) (*watchedBox, error) {
	n := c.notified
	box, err := c.store.Account.Open(c.ctx, name)
	if err != nil {
		return nil, err
	}
	w := &watchedBox{name: name, box: box, events: events}
	w.stop = box.Watch(func() {
		n.mu.Lock()
		n.dirty[w] = true
		n.mu.Unlock()
		c.conn.Wake()
	})
	if w.told, err = box.Status(c.ctx); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// watchSelected watches the mailbox that is selected now, if that is wanted.
func (c *session) watchSelected() {
	n := c.notified
	id := int64(0)
	if c.box != nil && n.selected != nil {
		id = c.box.box.ID()
	}
	if id == n.selectedID {
		return
	}
	if n.stopSelected != nil {
		n.stopSelected()
		n.stopSelected = nil
	}
	if n.selectedID = id; id != 0 {
		n.stopSelected = c.box.box.Watch(c.conn.Wake)
		c.conn.Wake() // for what happened since it was selected
	}
}

// woken tells a client that waits between two commands what happened.
func (c *session) woken() error {
	if c.notified == nil {
		return nil
	}
	if messages, _, immediate := c.selectedEvents(); c.box != nil && messages {
		if err := c.poll(immediate); err != nil {
			return err
		}
	}
	c.tellNotifications()
	return c.flush()
}

// tellNotifications tells what happened to mailboxes that are not selected.
func (c *session) tellNotifications() {
	n := c.notified
	if n == nil {
		return
	}
	n.mu.Lock()
	tree, dirty, metadata := n.tree, n.dirty, n.metadata
	n.tree, n.metadata = false, nil
	if len(dirty) > 0 {
		n.dirty = map[*watchedBox]bool{}
	}
	n.mu.Unlock()
	if tree {
		if err := c.tellTree(); err != nil {
			c.overflows(err)
			return
		}
	}
	for w := range dirty {
		if n.watched[w.name] == w {
			c.tellChanged(w)
		}
	}
	if len(metadata) > maxMetadata {
		c.overflows(errTooManyNotified)
		return
	}
	for _, m := range metadata {
		c.tellMetadataChange(m)
	}
}

// tellMetadataChange names entries that changed (RFC 5464 §4.4.2).
func (c *session) tellMetadataChange(m store.MetadataChange) {
	n := c.notified
	name, entries := c.store.Sharing.Concerns(c.ctx, m)
	if len(entries) == 0 || name == "" && !n.wants(eventServerMetadata) {
		return
	}
	if name != "" {
		i := slices.IndexFunc(n.entries, func(e store.MailboxEntry) bool { return e.Name == name })
		if i < 0 || n.of(&n.entries[i])&eventMetadata == 0 {
			return
		}
	}
	out := c.appendMailbox(append(c.conn.Out(), "* METADATA "...), name)
	for _, e := range entries {
		out = append(append(out, ' '), e...)
	}
	c.conn.SetOut(append(out, "\r\n"...))
}

// tellChanged tells a mailbox's STATUS if something that is wanted is new.
func (c *session) tellChanged(w *watchedBox) {
	st, err := w.box.Status(c.ctx)
	if err != nil {
		if !errors.Is(err, store.ErrNoMailbox) && !errors.Is(err, store.ErrNoRight) {
			c.log.Warn("status not read", "mailbox", w.name, "err", err)
		}
		return
	}
	old := w.told
	w.told = st
	if c.box != nil && c.box.box.ID() == w.box.ID() {
		return
	}
	flags := w.events&eventFlags != 0 && (st.Unseen != old.Unseen || c.has(condStore) && st.HighestModSeq != old.HighestModSeq)
	if st.Messages != old.Messages || st.UIDNext != old.UIDNext || flags {
		c.tellNotified(w)
	}
}

// tellNotified writes a STATUS of what is known of a mailbox (RFC 5465 §5.2, §5.3, §5.1).
func (c *session) tellNotified(w *watchedBox) {
	st := &w.told
	out := c.appendMailbox(append(c.conn.Out(), "* STATUS "...), w.name)
	out = fmt.Appendf(out, " (MESSAGES %d UIDNEXT %d UIDVALIDITY %d", st.Messages, st.UIDNext, st.UIDValidity)
	if w.events&eventFlags != 0 {
		out = fmt.Appendf(out, " UNSEEN %d", st.Unseen)
	}
	if c.has(condStore) {
		out = fmt.Appendf(out, " HIGHESTMODSEQ %d", st.HighestModSeq)
	}
	c.conn.SetOut(append(out, ")\r\n"...))
}

// tellTree tells how mailboxes and subscriptions changed, and watches those that
// are to be watched now.
func (c *session) tellTree() error {
	n := c.notified
	entries, err := c.store.Account.Mailboxes(c.ctx)
	if err != nil {
		return err
	}
	old := map[string]*store.MailboxEntry{}
	byID := map[int64]*store.MailboxEntry{}
	for i := range n.entries {
		e := &n.entries[i]
		old[e.Name] = e
		if e.ID != 0 {
			byID[e.ID] = e
		}
	}
	for i := range entries {
		e := &entries[i]
		before := old[e.Name]
		if before != nil && before.ID == e.ID && before.NonExistent == e.NonExistent && before.NoSelect == e.NoSelect {
			delete(old, e.Name)
			delete(byID, e.ID)
			if before.Subscribed != e.Subscribed && n.of(e)&eventSubscription != 0 {
				c.tellEntry(e, "")
			}
			continue
		}
		from := byID[e.ID]
		switch {
		case e.ID != 0 && from != nil && from.Name != e.Name && (n.of(e)|n.of(from))&eventName != 0:
			delete(old, from.Name)
			c.tellEntry(e, from.Name)
		case n.of(e)&eventName != 0 && (!e.NonExistent || before != nil && !before.NonExistent),
			n.of(e)&eventSubscription != 0 && e.Subscribed != (before != nil && before.Subscribed):
			c.tellEntry(e, "")
		}
		delete(old, e.Name)
	}
	for _, gone := range old {
		if n.of(gone)&eventName == 0 && !(gone.Subscribed && n.of(gone)&eventSubscription != 0) {
			continue
		}
		c.tellEntry(&store.MailboxEntry{Name: gone.Name, NonExistent: true}, "")
	}
	n.entries = entries
	return c.watchBoxes(func(w *watchedBox) {
		if w.told.Messages > 0 { // it came with messages, as by a renaming
			c.tellNotified(w)
		}
	})
}

// tellEntry writes a LIST of a mailbox, which had the name from before.
func (c *session) tellEntry(e *store.MailboxEntry, from string) {
	out := appendAttributes(append(c.conn.Out(), "* LIST ("...), e, true)
	out = c.appendMailbox(append(out, `) "/" `...), e.Name)
	if from != "" {
		out = append(c.appendMailbox(append(out, ` ("OLDNAME" (`...), from), "))"...)
	}
	c.conn.SetOut(append(out, "\r\n"...))
}

// tellNew tells what was asked for of new messages, which are those of the view
// from index first on.
func (c *session) tellNew(first int) error {
	if c.notified == nil || c.notified.selected == nil || c.notified.selected.fetch == nil || first >= c.box.len() {
		return nil
	}
	q := *c.notified.selected.fetch
	_, err := c.fetchSpans([]span{{first, c.box.len()}}, &q)
	return err
}
