package imapserver

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// idle is IDLE (RFC 2177). The session's own goroutine waits for the client's
// DONE; the mailbox and the keep-alive wake it to write.
func (c *session) idle(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	begun := time.Now()
	beat := time.AfterFunc(c.o.KeepAlive, c.conn.Wake)
	defer beat.Stop()
	if c.box != nil {
		defer c.box.box.Watch(c.conn.Wake)()
	}
	c.conn.WriteString("+ idling\r\n")
	heard := begun
	for {
		if c.box != nil {
			before := len(c.conn.Out())
			if err := c.poll(true); err != nil {
				return err
			}
			if len(c.conn.Out()) != before {
				heard = time.Now()
			}
		}
		c.tellNotifications()
		c.rest()
		err := c.conn.AwaitCommand()
		if err == nil {
			break
		}
		if !errors.Is(err, wire.ErrWoken) {
			return fmt.Errorf("idling: %w: %w", errConnection, err)
		}
		if time.Since(begun) >= c.o.IdleTimeout {
			return &fatalError{text: "idle for too long"}
		}
		if time.Since(heard) >= c.o.KeepAlive {
			c.conn.WriteString("* OK still here\r\n")
			heard = time.Now()
		}
		beat.Reset(c.o.KeepAlive - time.Since(heard))
	}
	line, err := c.reader.ReadContinuation(len("DONE"))
	if err != nil && !errors.Is(err, imapwire.ErrDesync) {
		return fmt.Errorf("idling: %w: %w", errConnection, err)
	}
	if !strings.EqualFold(string(line), "DONE") {
		return &fatalError{text: "expected DONE"} // a command here would be answered out of turn
	}
	return nil
}
