package imapserver

import (
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// selectParams is what may stand behind the name in SELECT (RFC 4466 §2.1).
type selectParams struct {
	features features
	resync   *resync
}

// resync is what a client knows of a mailbox from an earlier session (RFC 7162
// §3.2.5). That it may also say which numbers its messages had is for servers
// that forget what was expunged; ours does not.
type resync struct {
	uidValidity uint32
	since       store.ModSeq
	// known are the UIDs it has; nil: all below UIDNEXT.
	known imapwire.NumSet
}

func readSelectParams(l *imapwire.Lexer) selectParams {
	var p selectParams
	if !l.Take(' ') || l.AtEnd() {
		return p
	}
	l.List(func() {
		switch l.Keyword() {
		case "CONDSTORE":
			p.features = condStore
		case "QRESYNC":
			l.Space()
			p.resync = readResync(l)
		default:
			l.Fail("unknown SELECT parameter")
		}
	})
	return p
}

func readResync(l *imapwire.Lexer) *resync {
	r := &resync{}
	l.Expect('(')
	r.uidValidity = l.Number()
	l.Space()
	if r.since = readModSeq(l); r.since == 0 || r.uidValidity == 0 {
		l.Fail("UIDVALIDITY and MODSEQ are 1 or more")
	}
	if l.Take(' ') && l.Peek() != '(' {
		r.known = readKnown(l)
		if l.Peek() == ' ' {
			l.Space()
		}
	}
	if l.Take('(') {
		readKnown(l)
		l.Space()
		readKnown(l)
		l.Expect(')')
	}
	l.Expect(')')
	return r
}

// readKnown reads a set in which "*" has no meaning (RFC 7162 §7).
func readKnown(l *imapwire.Lexer) imapwire.NumSet {
	set := l.NumSet()
	for _, r := range set {
		if r.First == imapwire.Star || r.Last == imapwire.Star {
			l.Fail("* may not stand here")
		}
	}
	return set
}

// tellMissed tells a client that comes back what happened since it left: which
// messages are gone, and which changed or are new.
func (c *session) tellMissed(r *resync) error {
	v := c.box
	if r.since >= v.modSeq {
		return nil
	}
	changes, err := v.box.Changes(c.ctx, r.since)
	if err != nil {
		return err
	}
	known := r.known
	if known == nil {
		known = imapwire.NumSet{{First: 1, Last: imapwire.Star}}
	}
	var gone []store.UID
	for _, u := range changes.Expunged {
		// What is gone only since the view was read is told by the next poll.
		if _, there := v.index(u); !there && u < v.uidNext {
			gone = append(gone, u)
		}
	}
	c.conn.SetOut(appendVanished(c.conn.Out(), true, v.among(gone, messageSet{NumSet: known})))
	for _, m := range changes.Messages {
		i, there := v.index(m.UID)
		if !there {
			continue
		}
		v.setFlags(i, m.Flags)
		c.toldChange(m)
		c.conn.SetOut(c.appendFlagUpdate(c.conn.Out(), flagNews{i, m.ModSeq}))
		if err := c.connected(); err != nil {
			return err
		}
	}
	return nil
}
