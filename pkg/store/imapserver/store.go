package imapserver

import (
	"fmt"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// storeFlags is STORE (RFC 3501 §6.4.6), uidStore UID STORE.
func (c *session) storeFlags(cmd *imapwire.Command) error { return c.changeFlags(cmd, (*view).bySeq) }
func (c *session) uidStore(cmd *imapwire.Command) error   { return c.changeFlags(cmd, (*view).byUID) }

func (c *session) changeFlags(cmd *imapwire.Command, by numbering) error {
	l := cmd.Args
	l.Space()
	set := l.NumSet()
	l.Space()
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
	spans := by(v, set)
	if len(spans) == 0 {
		return nil
	}
	result, err := v.box.StoreFlags(c.ctx, v.uidSet(spans), change, 0)
	if err != nil {
		return fmt.Errorf("storing flags in %q: %w", v.box.Name(), err)
	}
	c.tellStored(result.Changed, change, silent)
	if len(result.Changed) < count(spans) {
		c.code = append(c.code, "EXPUNGEISSUED"...)
	}
	return nil
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
// than what it can work out: others changed them too.
func (c *session) tellStored(changed []store.FlagState, change store.FlagChange, silent bool) {
	v := c.box
	tell := make([]int, 0, len(changed))
	for _, m := range changed {
		i, known := v.index(m.UID)
		if !known {
			continue
		}
		expected := silent && v.flagsOf(i).Apply(change).Equal(m.Flags)
		v.setFlags(i, m.Flags)
		if !expected {
			tell = append(tell, i)
		}
	}
	c.tellKeywords()
	for _, i := range tell {
		c.conn.SetOut(v.appendFlagUpdate(c.conn.Out(), i))
	}
}
