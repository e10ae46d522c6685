package imapserver

import (
	"fmt"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// storeFlags is STORE (RFC 3501 §6.4.6), uidStore UID STORE.
func (c *session) storeFlags(cmd *imapwire.Command) error {
	return c.changeFlags(cmd, (*view).bySeq, false)
}
func (c *session) uidStore(cmd *imapwire.Command) error {
	return c.changeFlags(cmd, (*view).byUID, true)
}

func (c *session) changeFlags(cmd *imapwire.Command, by numbering, uid bool) error {
	l := cmd.Args
	l.Space()
	set := readSet(l)
	l.Space()
	unchangedSince, conditional := readUnchangedSince(l)
	change, silent := readFlagChange(l)
	l.Space()
	names := readStoredFlags(l)
	if err := l.End(); err != nil {
		return bad(err)
	}
	var err error
	if change.Flags, err = readFlags(names); err != nil {
		return err
	}
	v := c.box
	if v.readOnly {
		return errReadOnly()
	}
	if conditional {
		c.grant(condStore)
	}
	spans := by(v, set)
	if len(spans) == 0 {
		return nil
	}
	if conditional && unchangedSince == 0 { // no message has such a ModSeq
		c.code = imapwire.AppendNumSet(append(c.code, "MODIFIED "...), v.numbers(spans, uid))
		return nil
	}
	result, err := v.box.StoreFlags(c.ctx, v.uidSet(spans), change, unchangedSince)
	if err != nil {
		return fmt.Errorf("storing flags in %q: %w", v.box.Name(), err)
	}
	c.tellStored(result.Changed, change, silent)
	if c.code = v.appendModified(c.code, result.Modified, uid); len(c.code) == 0 && len(result.Changed) < count(spans) {
		c.code = append(c.code, "EXPUNGEISSUED"...)
	}
	return nil
}

// readUnchangedSince reads the modifier of a conditional STORE, if there is
// one (RFC 7162 §3.1.3).
func readUnchangedSince(l *imapwire.Lexer) (since store.ModSeq, conditional bool) {
	if l.Peek() != '(' {
		return 0, false
	}
	l.List(func() {
		if l.Keyword() != "UNCHANGEDSINCE" {
			l.Fail("unknown STORE modifier")
		}
		l.Space()
		since = readModSeq(l)
	})
	l.Space()
	return since, true
}

// readFlagChange reads FLAGS, +FLAGS or -FLAGS, with or without .SILENT.
func readFlagChange(l *imapwire.Lexer) (change store.FlagChange, silent bool) {
	switch {
	case l.Take('+'):
		change.Kind = store.FlagsAdd
	case l.Take('-'):
		change.Kind = store.FlagsRemove
	}
	switch l.Keyword() {
	case "FLAGS":
	case "FLAGS.SILENT":
		silent = true
	default:
		l.Fail("expected FLAGS, +FLAGS or -FLAGS")
	}
	return change, silent
}

// readStoredFlags reads flags with or without parentheses.
func readStoredFlags(l *imapwire.Lexer) []string {
	if l.Peek() == '(' {
		return l.FlagList()
	}
	names := []string{l.Flag()}
	for l.Take(' ') {
		names = append(names, l.Flag())
	}
	return names
}

// tellStored answers STORE. A silent one still hears of flags that are other
// than what it can work out, since others changed them too, and with CONDSTORE
// of the ModSeq (RFC 7162 §3.1.3).
func (c *session) tellStored(changed []store.FlagState, change store.FlagChange, silent bool) {
	v := c.box
	type news struct {
		flagNews
		quiet bool
	}
	tell := make([]news, 0, len(changed))
	for _, m := range changed {
		i, known := v.index(m.UID)
		if !known {
			continue
		}
		expected := silent && v.flagsOf(i).Apply(change).Equal(m.Flags)
		v.setFlags(i, m.Flags)
		c.toldChange(m)
		if !expected || c.has(condStore) {
			tell = append(tell, news{flagNews{i, m.ModSeq}, expected})
		}
	}
	c.tellKeywords()
	for _, n := range tell {
		if !n.quiet {
			c.conn.SetOut(c.appendFlagUpdate(c.conn.Out(), n.flagNews))
			continue
		}
		out := c.appendFetch(c.conn.Out(), n.i, true)
		c.conn.SetOut(append(appendModSeq(out, n.modSeq), ")\r\n"...))
	}
}
