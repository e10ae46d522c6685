package imapserver

import (
	"fmt"
	"strings"

	"mailsrv/pkg/wire/imapwire"
)

// capabilities is the one list of what this server can do. A word belongs here
// only if all that its RFC demands of a server works.
func capabilities(o Options) string {
	return "IMAP4rev1" +
		" LITERAL+" + // RFC 7888
		" SASL-IR" + // RFC 4959; the front's doing
		" ID" + // RFC 2971
		" ENABLE" + // RFC 5161
		" IDLE" + // RFC 2177
		" NAMESPACE" + // RFC 2342
		" CHILDREN" + // RFC 3348
		" UIDPLUS" + // RFC 4315
		" UNSELECT" + // RFC 3691
		" MOVE" + // RFC 6851
		" ESEARCH" + // RFC 4731
		" LIST-EXTENDED" + // RFC 5258
		" LIST-STATUS" + // RFC 5819
		" SPECIAL-USE CREATE-SPECIAL-USE" + // RFC 6154
		" STATUS=SIZE" + // RFC 8438
		fmt.Sprintf(" APPENDLIMIT=%d", o.MaxMessage) // RFC 7889
}

func (c *session) capability(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	c.conn.WriteString("* CAPABILITY " + c.srv.capability + "\r\n")
	return nil
}

// enable answers ENABLE: none of our extensions waits to be enabled (RFC 5161
// §3.1: others are ignored).
func (c *session) enable(cmd *imapwire.Command) error {
	for ok := true; ok; ok = cmd.Args.Peek() == ' ' {
		cmd.Args.Space()
		cmd.Args.Atom()
	}
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	c.conn.WriteString("* ENABLED\r\n")
	return nil
}

// Capabilities lists what a session can do, for the fronts to announce.
func (s *Server) Capabilities() []string { return strings.Fields(s.capability) }
