package imapserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// session is one logged-in client, served by one goroutine.
type session struct {
	srv    *Server
	o      *Options
	ctx    context.Context
	conn   *wire.Conn
	reader *imapwire.Reader
	limits imapwire.Limits
	store  store.Session
	log    *slog.Logger
	// box is the selected mailbox; nil: none.
	box *view
	// features were enabled by the client.
	features features
	// badInRow counts towards maxBad.
	badInRow int
	// code goes into the brackets of the OK that answers the command in hand.
	code       []byte
	compressed compression
	// notified is what NOTIFY asked for; nil: it was not said.
	notified *notification
	// progress is that of the command in hand.
	progress progress
	// done: LOGOUT was said.
	done bool
}

// serve reads and answers commands until the client leaves. It returns nil for
// an orderly end.
func (c *session) serve() error {
	for !c.done {
		c.rest()
		cmd, err := c.reader.ReadCommand(c.limits)
		if wrong, ok := errors.AsType[*imapwire.BadCommandError](err); ok {
			c.reply(wrong.Tag, "BAD", wrong.Code, wrong.Text)
			if c.badInRow++; c.badInRow >= maxBad {
				return c.tooManyBad()
			}
			continue
		}
		if err != nil {
			return c.end(fmt.Errorf("reading a command: %w", err))
		}
		if err := c.execute(cmd); err != nil {
			return err
		}
		if err := c.upgrade(); err != nil {
			return fmt.Errorf("compressing: %w", err)
		}
	}
	return c.flush()
}

// keepWritten is the largest write buffer that a resting session keeps, in bytes.
const keepWritten = 8 << 10

// rest writes what is owed before a wait for the client, and frees the buffer
// of a long answer: most sessions rest most of their time.
func (c *session) rest() {
	if c.conn.Buffered() == 0 && cap(c.conn.Out()) > keepWritten {
		_ = c.conn.Flush() // an error comes back from the read
		c.conn.SetOut(nil)
	}
}

// end takes leave of a client for a reason that leaves nothing to answer. It
// returns nil where nobody is at fault.
func (c *session) end(err error) error {
	fatal, _ := errors.AsType[*fatalError](err)
	switch {
	case fatal != nil:
		c.bye(fatal.text)
	case errors.Is(err, io.EOF):
		return c.flush()
	case errors.Is(err, wire.ErrDraining):
		c.bye("[UNAVAILABLE] server is shutting down")
		return nil
	case errors.Is(err, imapwire.ErrDesync):
		c.bye(imapwire.DesyncText(err))
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.bye("idle for too long")
		return nil
	}
	return err
}

func (c *session) tooManyBad() error {
	c.bye("too many bad commands")
	return errors.New("too many bad commands")
}

// execute serves one command and answers it. An error ends the session.
func (c *session) execute(cmd *imapwire.Command) error {
	tag := cmd.Tag
	c.code = c.code[:0]
	command, err := c.lookUp(cmd)
	if err == nil {
		err = command.serve(c, cmd)
	}
	if c.box != nil && command.updates != updateNone && !isFatal(err) {
		if err := c.poll(command.updates == updateAll); err != nil {
			return c.answer(tag, command.name, err)
		}
	}
	if c.notified != nil {
		if c.watchSelected(); command.updates == updateAll {
			c.tellNotifications()
		}
	}
	return c.answer(tag, command.name, err)
}

// answer writes the tagged response for what a handler returned.
func (c *session) answer(tag, name string, err error) error {
	if err == nil {
		c.badInRow = 0
		c.reply(tag, "OK", string(c.code), name+" completed")
		return nil
	}
	if isFatal(err) {
		return c.end(err)
	}
	r := c.responseOf(err)
	c.reply(tag, r.status, r.code, r.text)
	if r.status != "BAD" {
		return nil
	}
	if c.badInRow++; c.badInRow >= maxBad {
		return c.tooManyBad()
	}
	return nil
}

// reply writes a status response; code may be empty.
func (c *session) reply(tag, status, code, text string) {
	out := append(c.conn.Out(), tag...)
	out = append(append(out, ' '), status...)
	if code != "" {
		out = append(append(append(out, " ["...), code...), ']')
	}
	out = append(append(out, ' '), text...)
	c.conn.SetOut(append(out, "\r\n"...))
}

// bye takes leave. What comes of it does not matter any more.
func (c *session) bye(text string) {
	c.conn.WriteString("* BYE " + text + "\r\n")
	c.conn.Linger()
}

func (c *session) flush() error {
	if err := c.conn.Flush(); err != nil {
		return fmt.Errorf("writing to the client: %w", err)
	}
	return nil
}
