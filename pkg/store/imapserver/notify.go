package imapserver

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

const (
	// maxNotifyGroups bounds the groups of a NOTIFY, and the names of a group.
	maxNotifyGroups = 100
	// maxMetadata bounds the changes of metadata that wait for a client.
	maxMetadata = 1000
)

// notifyEvents is a set of events of RFC 5465 §5.
type notifyEvents uint8

const (
	eventNew notifyEvents = 1 << iota
	eventExpunge
	eventFlags
	eventName
	eventSubscription
	eventMetadata
	eventServerMetadata
)

// notifyWords is what NOTIFY knows; what it does not know is answered with these.
var notifyWords = [...]struct {
	word  string
	event notifyEvents
}{
	{"MESSAGENEW", eventNew}, {"MESSAGEEXPUNGE", eventExpunge}, {"FLAGCHANGE", eventFlags}, {"MAILBOXNAME", eventName}, {"SUBSCRIPTIONCHANGE", eventSubscription},
	{"MAILBOXMETADATACHANGE", eventMetadata}, {"SERVERMETADATACHANGE", eventServerMetadata},
}

// notifyGroup is the events that are wanted of some mailboxes.
type notifyGroup struct {
	filter string
	names  []string // of SUBTREE and MAILBOXES
	events notifyEvents
	// fetch is what is told of each new message of the selected mailbox; nil: nothing.
	fetch *fetchRequest
}

// selects reports whether the group is about the selected mailbox.
func (g *notifyGroup) selects() bool { return g.filter == "SELECTED" || g.filter == "SELECTED-DELAYED" }

// has reports whether a mailbox is one of the group's (RFC 5465 §6).
func (g *notifyGroup) has(e *store.MailboxEntry) bool {
	personal := !strings.HasPrefix(e.Name, store.OtherUsers) && !strings.HasPrefix(e.Name, store.SharedTree)
	switch g.filter {
	case "INBOXES": // where deliveries come to
		return e.Name == "INBOX" || personal && e.SpecialUse == `\Junk`
	case "PERSONAL":
		return personal
	case "SUBSCRIBED":
		return e.Subscribed
	case "SUBTREE":
		return slices.ContainsFunc(g.names, func(n string) bool { return e.Name == n || strings.HasPrefix(e.Name, n+delimiter) })
	case "SUBTREE-ONE": // RFC 7377 §2.2
		return slices.ContainsFunc(g.names, func(n string) bool {
			below, ok := strings.CutPrefix(e.Name, n)
			return ok && (below == "" || below[:1] == delimiter && !strings.Contains(below[1:], delimiter))
		})
	case "MAILBOXES":
		return slices.Contains(g.names, e.Name)
	}
	return false
}

// notification is what a session asked to be told by NOTIFY.
type notification struct {
	groups   []notifyGroup
	selected *notifyGroup // nil: nothing of the selected mailbox
	// entries are the mailboxes as the client was told of them.
	entries []store.MailboxEntry
	watched map[string]*watchedBox // by name
	stop    []func()
	// stopSelected ends the watch of the selected mailbox, which is that with the ID.
	stopSelected func()
	selectedID   int64

	mu    sync.Mutex
	tree  bool                 // mailboxes or subscriptions changed
	dirty map[*watchedBox]bool // changed
	// metadata changed, by more than maxMetadata if that many are there.
	metadata []store.MetadataChange
}

// watchedBox is a mailbox whose changes are told by STATUS.
type watchedBox struct {
	name   string
	box    store.Mailbox
	events notifyEvents
	told   store.Status
	stop   func()
}

// notify is NOTIFY (RFC 5465 §3).
func (c *session) notify(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	n := &notification{watched: map[string]*watchedBox{}, dirty: map[*watchedBox]bool{}}
	status, known := false, true
	switch l.Keyword() {
	case "NONE":
	case "SET":
		l.Space()
		if l.Peek() != '(' {
			if l.Keyword() != "STATUS" {
				l.Fail("expected STATUS or a group of events")
			}
			status = true
			l.Space()
		}
		known = n.read(l)
	default:
		l.Fail("expected SET or NONE")
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	if !known {
		return no("BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)", "one of the events is not known")
	}
	if c.box != nil { // what is told from now on begins here
		if err := c.poll(true); err != nil {
			return err
		}
	}
	c.endNotify()
	c.notified = n
	return c.beginNotify(status)
}

// read reads the groups, and reports whether all their events are known.
func (n *notification) read(l *imapwire.Lexer) (known bool) {
	known = true
	for more := true; more && l.Err() == nil; more = l.Take(' ') {
		g, ok := readNotifyGroup(l)
		known = known && ok
		if n.groups = append(n.groups, g); len(n.groups) > maxNotifyGroups {
			l.Fail("too many groups of events")
		}
	}
	for i := range n.groups {
		if !n.groups[i].selects() {
			continue
		}
		if n.selected != nil {
			l.Fail("the selected mailbox is named twice")
		}
		n.selected = &n.groups[i]
	}
	return known
}

func readNotifyGroup(l *imapwire.Lexer) (g notifyGroup, known bool) {
	l.Expect('(')
	g.filter = l.Keyword()
	switch g.filter {
	case "SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED":
	case "SUBTREE", "MAILBOXES":
		g.readNames(l)
	default:
		l.Fail("unknown choice of mailboxes")
	}
	l.Space()
	known = true
	if l.Peek() != '(' {
		if l.Keyword() != "NONE" {
			l.Fail("expected a list of events or NONE")
		}
	} else {
		l.List(func() { known = g.readEvent(l) && known })
	}
	l.Expect(')')
	switch messages := g.events & (eventNew | eventExpunge); {
	case messages == eventNew || messages == eventExpunge:
		l.Fail("MessageNew and MessageExpunge go together") // RFC 5465 §5
	case g.events&eventFlags != 0 && messages == 0:
		l.Fail("FlagChange wants MessageNew and MessageExpunge")
	case g.selects() && g.events&^(eventNew|eventExpunge|eventFlags) != 0:
		l.Fail("of the selected mailbox only messages are told")
	}
	return g, known
}

// readNames reads one name, or a list of them in parentheses.
func (g *notifyGroup) readNames(l *imapwire.Lexer) {
	add := func() {
		if g.names = append(g.names, notifyName(l.Mailbox())); len(g.names) > maxNotifyGroups {
			l.Fail("too many mailboxes")
		}
	}
	l.Space()
	if l.Peek() == '(' {
		l.List(add)
	} else {
		add()
	}
}

// notifyName is INBOX in any case, or the name.
func notifyName(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

func (g *notifyGroup) readEvent(l *imapwire.Lexer) (known bool) {
	word := l.Keyword()
	if word == "MESSAGENEW" && l.Take(' ') {
		if l.Peek() != '(' { // it was the space before the next event
			g.events |= eventNew
			return g.readEvent(l)
		}
		g.fetch = readFetch(l)
		g.fetch.uid = true
		if !g.selects() {
			l.Fail("only new messages of the selected mailbox can be fetched")
		} else if g.fetch.setsSeen() {
			l.Fail("what is told of a new message cannot set \\Seen")
		}
	}
	for _, w := range notifyWords {
		if w.word == word {
			g.events |= w.event
			return true
		}
	}
	return false
}

// selectedEvents are what may be told of the selected mailbox without being
// asked for; immediate: EXPUNGE between commands too.
func (c *session) selectedEvents() (messages, flags, immediate bool) {
	switch n := c.notified; {
	case n == nil:
		return true, true, false
	case n.selected == nil:
		return false, false, false
	default:
		return n.selected.events&eventNew != 0, n.selected.events&eventFlags != 0, n.selected.filter == "SELECTED"
	}
}

// endNotify ends all watching. What is told from then on is nothing.
func (c *session) endNotify() {
	n := c.notified
	if n == nil {
		return
	}
	for _, stop := range n.stop {
		stop()
	}
	for _, w := range n.watched {
		w.stop()
	}
	if n.stopSelected != nil {
		n.stopSelected()
	}
	c.notified = nil
}

// overflows tells the client that it asked for too much, or that its mailboxes
// cannot be read, and stops (RFC 5465 §8).
func (c *session) overflows(err error) {
	if err != nil && !errors.Is(err, errTooManyNotified) {
		c.log.Warn("notifications end", "err", err)
	}
	c.endNotify()
	c.notified = &notification{}
	c.conn.WriteString("* OK [NOTIFICATIONOVERFLOW] no more notifications\r\n")
}

var errTooManyNotified = errors.New("too many mailboxes")
