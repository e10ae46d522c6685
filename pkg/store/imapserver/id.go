package imapserver

import "mailsrv/pkg/wire/imapwire"

// maxIDFields bounds the client's fields (RFC 2971 §3.3: 30 pairs).
const maxIDFields = 30

// id is ID (RFC 2971).
func (c *session) id(cmd *imapwire.Command) error {
	l := cmd.Args
	var client []any
	l.Space()
	if l.Peek() == '(' {
		l.List(func() {
			name := l.String()
			l.Space()
			value, _ := l.NString()
			if client = append(client, name, value); len(client) > 2*maxIDFields {
				l.Fail("too many ID fields")
			}
		})
	} else if l.Keyword() != "NIL" {
		l.Fail("expected a list or NIL")
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	c.log.Debug("client named itself", "id", client)
	out := append(c.conn.Out(), "* ID "...)
	if len(c.o.ID) == 0 {
		out = append(out, "NIL"...)
	} else {
		before := byte('(')
		for _, s := range c.o.ID {
			out = imapwire.AppendString(append(out, before), s)
			before = ' '
		}
		out = append(out, ')')
	}
	c.conn.SetOut(append(out, "\r\n"...))
	return nil
}
