package imapserver

import (
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// statusItem is one figure of STATUS.
type statusItem struct {
	name  string
	value func(*session, store.Status) uint64
}

// statusItems is all that STATUS knows: RFC 3501 §6.3.10, RFC 8438 (SIZE),
// RFC 7889 (APPENDLIMIT), RFC 9051 §6.3.11 (DELETED), RFC 7162 §3.1.7 (HIGHESTMODSEQ).
var statusItems = [...]statusItem{
	{"MESSAGES", func(_ *session, s store.Status) uint64 { return uint64(s.Messages) }},
	{"RECENT", func(_ *session, s store.Status) uint64 { return uint64(s.Recent) }},
	{"UIDNEXT", func(_ *session, s store.Status) uint64 { return uint64(s.UIDNext) }},
	{"UIDVALIDITY", func(_ *session, s store.Status) uint64 { return uint64(s.UIDValidity) }},
	{"UNSEEN", func(_ *session, s store.Status) uint64 { return uint64(s.Unseen) }},
	{"DELETED", func(_ *session, s store.Status) uint64 { return uint64(s.Deleted) }},
	{"SIZE", func(_ *session, s store.Status) uint64 { return uint64(s.Size) }},
	{"HIGHESTMODSEQ", func(_ *session, s store.Status) uint64 { return uint64(s.HighestModSeq) }},
	{"APPENDLIMIT", func(c *session, _ store.Status) uint64 { return uint64(c.o.MaxMessage) }},
}

// statusRequest says which of statusItems are wanted.
type statusRequest struct {
	// mailboxID: RFC 8474 §4.3; it is no figure.
	mailboxID bool
	// deletedStorage: RFC 9208 §4.1.4; it is counted message by message.
	deletedStorage bool
	items          [len(statusItems)]bool
	// condStore: an item was asked for that only a client of CONDSTORE knows.
	condStore bool
}

func readStatusItems(l *imapwire.Lexer) *statusRequest {
	var q statusRequest
	l.List(func() {
		name := l.Keyword()
		switch name {
		case "MAILBOXID":
			q.mailboxID = true
			return
		case "DELETED-STORAGE":
			q.deletedStorage = true
			return
		}
		for i := range statusItems {
			if statusItems[i].name == name {
				q.items[i] = true
				q.condStore = q.condStore || name == "HIGHESTMODSEQ"
				return
			}
		}
		l.Fail("unknown STATUS item")
	})
	return &q
}

// status is STATUS (RFC 3501 §6.3.10).
func (c *session) status(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	name := l.Mailbox()
	l.Space()
	q := readStatusItems(l)
	if err := l.End(); err != nil {
		return bad(err)
	}
	return c.tellStatus(name, q)
}

// appendMailboxID appends a mailbox's ID as STATUS and response codes have it
// (RFC 8474 §4).
func appendMailboxID(dst []byte, box store.Mailbox) []byte {
	return append(strconv.AppendInt(append(dst, "MAILBOXID (F"...), box.ID(), 10), ')')
}

func (c *session) tellStatus(name string, q *statusRequest) error {
	box, err := c.store.Account.Open(c.ctx, name)
	if err != nil {
		return err
	}
	s, err := box.Status(c.ctx)
	if err != nil {
		return err
	}
	if q.condStore {
		c.grant(condStore)
	}
	out := c.appendMailbox(append(c.conn.Out(), "* STATUS "...), name)
	out = append(out, " ("...)
	first := true
	for i, item := range statusItems {
		if !q.items[i] {
			continue
		}
		if !first {
			out = append(out, ' ')
		}
		first = false
		out = append(append(out, item.name...), ' ')
		out = strconv.AppendUint(out, item.value(c, s), 10)
	}
	if q.deletedStorage {
		size, err := c.deletedStorage(box, s)
		if err != nil {
			return err
		}
		if !first {
			out = append(out, ' ')
		}
		out, first = strconv.AppendInt(append(out, "DELETED-STORAGE "...), size, 10), false
	}
	if q.mailboxID {
		if !first {
			out = append(out, ' ')
		}
		out = appendMailboxID(out, box)
	}
	c.conn.SetOut(append(out, ")\r\n"...))
	return nil
}
