package imapserver

import (
	"mailsrv/pkg/wire/imapwire"
)

// updates says what a session may be told of others' changes before the
// command's answer.
type updates int

const (
	updateNone  updates = iota
	updateFlags         // no EXPUNGE: message numbers are in use (RFC 3501 §7.4.1)
	updateAll
)

// command is one line of the table.
type command struct {
	name string
	// selected: a mailbox must be selected.
	selected bool
	updates  updates
	serve    func(*session, *imapwire.Command) error
}

// lookUp finds a command of a client that is logged in. UID commands have two
// words for a name.
func (c *session) lookUp(cmd *imapwire.Command) (command, error) {
	name := cmd.Name
	if name == "UID" {
		cmd.Args.Space()
		name += " " + cmd.Args.Keyword()
	}
	for i := range commands {
		if found := commands[i]; found.name == name {
			if found.selected && c.box == nil {
				return found, &response{status: "BAD", text: "no mailbox is selected"}
			}
			return found, c.needsUID(name)
		}
	}
	switch name {
	case "LOGIN", "AUTHENTICATE", "STARTTLS":
		return command{name: name}, &response{status: "BAD", text: "already logged in"}
	}
	return command{name: name}, &response{status: "BAD", text: "unknown command"}
}

func nop(_ *session, cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	return nil
}

// logout takes leave (RFC 3501 §6.1.3).
func (c *session) logout(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	c.closeMailbox()
	c.done = true
	c.conn.WriteString("* BYE logging out\r\n")
	return nil
}
