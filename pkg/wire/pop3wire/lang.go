package pop3wire

import (
	"strings"

	"mailsrv/pkg/wire"
)

// ServeLang answers LANG (RFC 6856 §3), which means the same before and after
// a login. What we say is English whatever the client prefers.
func ServeLang(conn *wire.Conn, cmd Command) error {
	if !cmd.Given {
		conn.WriteString("+OK languages follow\r\ni-default English, default\r\nen English\r\n.\r\n")
		return nil
	}
	switch tag := strings.ToLower(strings.TrimSpace(cmd.Arg)); {
	case tag == "*", tag == "i-default":
		conn.WriteString("+OK i-default Language is English\r\n")
	case tag == "en", strings.HasPrefix(tag, "en-"):
		conn.WriteString("+OK en Language is English\r\n")
	default:
		conn.WriteString("-ERR no such language\r\n")
	}
	return nil
}
