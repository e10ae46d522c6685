package imapserver

import (
	"strings"

	"mailsrv/pkg/wire/imapwire"
)

// features are extensions that change what a session hears, and so wait until
// the client has asked for them.
type features uint8

const (
	// condStore: FETCH responses of changes tell MODSEQ (RFC 7162 §3.1).
	condStore features = 1 << iota
	// qResync: VANISHED stands for EXPUNGE (RFC 7162 §3.2); it implies condStore.
	qResync
	// rev2: the session is one of IMAP4rev2 (RFC 9051 §6.3.1).
	rev2
	// utf8Accept: UTF8=ACCEPT (RFC 6855 §3).
	utf8Accept
	// uidOnly: no message has a number (RFC 9586).
	uidOnly
)

// enableable is what ENABLE knows.
var enableable = [...]struct {
	name string
	set  features
}{
	{"CONDSTORE", condStore},
	{"QRESYNC", condStore | qResync},
	{"IMAP4rev2", rev2},
	{"UTF8=ACCEPT", utf8Accept},
	{"UIDONLY", uidOnly},
}

func (c *session) has(f features) bool { return c.features&f == f }

// enable is ENABLE (RFC 5161). Extensions that need no enabling, or that we do
// not know, are passed over (§3.1), and those enabled before are not told again.
func (c *session) enable(cmd *imapwire.Command) error {
	var names []string
	for ok := true; ok; ok = cmd.Args.Peek() == ' ' {
		cmd.Args.Space()
		names = append(names, cmd.Args.Atom())
	}
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	out := append(c.conn.Out(), "* ENABLED"...)
	var asked features
	for _, e := range enableable {
		for _, name := range names {
			if strings.EqualFold(name, e.name) && !c.has(e.set) && asked&e.set != e.set {
				out = append(append(out, ' '), e.name...)
				asked |= e.set
			}
		}
	}
	c.conn.SetOut(append(out, "\r\n"...))
	c.grant(asked)
	return nil
}

// grant enables features, also for a command that does so by its arguments.
func (c *session) grant(f features) {
	if f&condStore != 0 && !c.has(condStore) && c.box != nil {
		c.conn.SetOut(append(c.box.appendHighest(append(c.conn.Out(), "* OK ["...)), "] highest so far\r\n"...))
	}
	c.features |= f
	c.reader.UTF8Names = c.features&(rev2|utf8Accept) != 0
	if f&rev2 != 0 && c.box != nil { // RFC 9051 knows no \Recent
		c.box.forgetRecent()
	}
}

// appendMailbox appends a mailbox name as the client reads it: in UTF-8 if it
// said so, else in modified UTF-7.
func (c *session) appendMailbox(dst []byte, name string) []byte {
	if c.features&(rev2|utf8Accept) != 0 {
		return imapwire.AppendMailboxUTF8(dst, name)
	}
	return imapwire.AppendMailbox(dst, name)
}
