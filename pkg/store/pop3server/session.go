package pop3server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/pop3wire"
)

// session is one logged-in client, served by one goroutine.
type session struct {
	srv  *Server
	ctx  context.Context
	conn *wire.Conn
	drop *maildrop
	utf8 bool // the client takes UTF-8 in header fields (RFC 6856)
	log  *slog.Logger
	// badInRow counts towards maxBad.
	badInRow           int
	retrieved, removed int
	quit               bool
}

// refusedError is a command answered -ERR; Text is safe to show.
type refusedError struct{ code, text string }

// Error implements error.
func (e *refusedError) Error() string { return e.text }

func refuse(format string, args ...any) error {
	return &refusedError{text: fmt.Sprintf(format, args...)}
}

// keepWritten is the largest write buffer that a resting session keeps, in bytes.
const keepWritten = 16 << 10

// serve reads and answers commands until the client leaves. It returns nil for
// an orderly end.
func (c *session) serve() error {
	for !c.quit {
		if c.conn.Buffered() == 0 && cap(c.conn.Out()) > keepWritten {
			_ = c.conn.Flush() // an error comes back from the read
			c.conn.SetOut(nil)
		}
		cmd, err := pop3wire.ReadCommand(c.conn)
		if err == nil {
			err = c.command(cmd)
		}
		refused, bad := (*refusedError)(nil), (*pop3wire.BadCommandError)(nil)
		switch {
		case err == nil:
			c.badInRow = 0
		case errors.As(err, &refused):
			c.err(refused.code, refused.text)
		case errors.As(err, &bad):
			c.err("", bad.Text)
			if c.badInRow++; c.badInRow >= maxBad {
				c.conn.Linger()
				return errors.New("too many bad commands")
			}
		default:
			return c.end(err)
		}
	}
	if err := c.conn.Flush(); err != nil {
		return fmt.Errorf("writing to the client: %w", err)
	}
	return nil
}

// end takes leave of a client that did not say QUIT: nothing is removed. It
// returns nil where nobody is at fault.
func (c *session) end(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, wire.ErrDraining):
		c.err(pop3wire.CodeTemporary, "server is shutting down")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.err("", "idle for too long")
	case errors.Is(err, pop3wire.ErrDesync):
		c.err("", pop3wire.ErrDesync.Error())
	default:
		return err
	}
	c.conn.Linger()
	return nil
}

func (c *session) ok(text string) { c.conn.SetOut(pop3wire.AppendOK(c.conn.Out(), text)) }

func (c *session) err(code, text string) {
	c.conn.SetOut(pop3wire.AppendErr(c.conn.Out(), code, pop3wire.SafeText(text)))
}

// command serves one command: nil once it is answered. A *refusedError or
// *pop3wire.BadCommandError is answered by serve; all others end the session.
func (c *session) command(cmd pop3wire.Command) error {
	switch cmd.Name {
	case "STAT":
		return c.bare(cmd, c.stat)
	case "LIST":
		return c.listing(cmd, func(dst []byte, m *message) []byte { return strconv.AppendInt(dst, m.size, 10) })
	case "UIDL":
		return c.listing(cmd, func(dst []byte, m *message) []byte { return append(dst, c.drop.uniqueID(m)...) })
	case "RETR":
		return c.retr(cmd)
	case "TOP":
		return c.top(cmd)
	case "DELE":
		return c.dele(cmd)
	case "RSET":
		return c.bare(cmd, c.rset)
	case "NOOP":
		return c.bare(cmd, func() error { c.ok("nothing done"); return nil })
	case "CAPA":
		return c.bare(cmd, c.capa)
	case "LANG":
		return pop3wire.ServeLang(c.conn, cmd)
	case "QUIT":
		return c.bare(cmd, c.update)
	}
	return &pop3wire.BadCommandError{Text: "unknown command, or not after a login"}
}

// bare serves a command that has no arguments.
func (c *session) bare(cmd pop3wire.Command, serve func() error) error {
	if cmd.Given {
		return &pop3wire.BadCommandError{Text: cmd.Name + " takes no arguments"}
	}
	return serve()
}

func (c *session) stat() error {
	n, size := c.drop.total()
	c.ok(strconv.Itoa(n) + " " + strconv.FormatInt(size, 10))
	return nil
}

func (c *session) capa() error {
	c.ok("capabilities follow")
	for _, line := range c.srv.Capabilities() {
		c.conn.WriteString(line + "\r\n")
	}
	c.conn.WriteString(".\r\n")
	return nil
}

// listing serves LIST and UIDL: of one message, or of all.
func (c *session) listing(cmd pop3wire.Command, value func(dst []byte, m *message) []byte) error {
	if cmd.Given {
		n, m, err := c.message(cmd.Arg)
		if err != nil {
			return err
		}
		out := append(strconv.AppendInt(append(c.conn.Out(), "+OK "...), int64(n), 10), ' ')
		c.conn.SetOut(append(value(out, m), "\r\n"...))
		return nil
	}
	n, size := c.drop.total()
	c.ok(fmt.Sprintf("%d messages (%d octets)", n, size))
	for i := range c.drop.messages {
		if m := &c.drop.messages[i]; !m.deleted {
			out := append(strconv.AppendInt(c.conn.Out(), int64(i+1), 10), ' ')
			c.conn.SetOut(append(value(out, m), "\r\n"...))
		}
	}
	c.conn.WriteString(".\r\n")
	return nil
}

// message finds the message of a number that the client gave.
func (c *session) message(number string) (int, *message, error) {
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, nil, &pop3wire.BadCommandError{Text: "expected a message number"}
	}
	if n < 1 || n > uint64(len(c.drop.messages)) || c.drop.messages[n-1].deleted {
		return 0, nil, refuse("no such message")
	}
	return int(n), &c.drop.messages[n-1], nil
}

func (c *session) dele(cmd pop3wire.Command) error {
	n, m, err := c.message(cmd.Arg)
	if err != nil {
		return err
	}
	m.deleted = true
	c.ok(fmt.Sprintf("message %d goes with QUIT", n))
	return nil
}

func (c *session) rset() error {
	c.drop.reset()
	return c.stat()
}

// update serves QUIT: the UPDATE state (RFC 1939 §6). +OK means that what was
// marked is gone for good.
func (c *session) update() error {
	c.quit = true
	var err error
	if c.removed, err = c.drop.remove(c.ctx); err != nil {
		c.log.Error("update failed", "err", err)
		return &refusedError{pop3wire.CodeTemporary, "messages were not removed"}
	}
	if err := c.drop.markRead(c.ctx); err != nil {
		c.log.Warn("update incomplete", "err", err) // a comfort of other clients, promised to nobody
	}
	c.ok("bye")
	return nil
}
