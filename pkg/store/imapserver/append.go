package imapserver

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// spoolMemory is how much of a message that is being appended is kept in
// memory, in bytes.
const spoolMemory = 64 << 10

// maxFlags bounds the flags of one command.
const maxFlags = 100

// appendMessage is APPEND (RFC 3501 §6.3.11) with APPENDUID (RFC 4315). What
// can be refused is refused before the client has sent the message.
func (c *session) appendMessage(cmd *imapwire.Command) error {
	l := cmd.Args
	l.Space()
	name := l.Mailbox()
	l.Space()
	var names []string
	if l.Peek() == '(' {
		names = l.FlagList()
		l.Space()
	}
	date := time.Now()
	if l.Peek() == '"' {
		date = l.DateTime()
		l.Space()
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	message := cmd.Message
	if message == nil {
		return bad(errors.New("expected a message as a literal"))
	}
	flags, err := readFlags(names)
	if err != nil {
		return err
	}
	box, err := c.store.Account.Open(c.ctx, name)
	if errors.Is(err, store.ErrNoMailbox) {
		return no("TRYCREATE", "no such mailbox")
	}
	if err != nil {
		return err
	}
	if err := c.admit(message.Size()); err != nil {
		return err
	}
	return c.storeMessage(box, message, flags, date)
}

// admit refuses a message by its size alone.
func (c *session) admit(size int64) error {
	switch {
	case size == 0:
		return no("CANNOT", "an empty message cannot be stored")
	case size > c.o.MaxMessage:
		return no("TOOBIG", "message is larger than "+strconv.FormatInt(c.o.MaxMessage, 10)+" octets")
	}
	quota := c.store.Quota
	if quota == store.NoQuota() {
		return nil
	}
	used, err := c.store.Account.Usage(c.ctx)
	if err != nil {
		return err
	}
	if quota.Bytes >= 0 && used.Bytes+size > quota.Bytes || quota.Messages >= 0 && used.Messages+1 > quota.Messages {
		return store.ErrOverQuota
	}
	return nil
}

// storeMessage takes the literal in, to its last octet, and stores it.
func (c *session) storeMessage(box store.Mailbox, message *imapwire.Message, flags store.Flags, date time.Time) error {
	spool := blob.NewSpool(c.o.SpoolDir, spoolMemory)
	defer spool.Close()
	from := &connReader{r: message}
	if _, err := io.Copy(spool, from); err != nil {
		if from.err != nil {
			return fmt.Errorf("reading a message: %w: %w", errConnection, from.err)
		}
		return fmt.Errorf("spooling a message: %w", err)
	}
	if err := message.Finish(); err != nil {
		if _, ok := errors.AsType[*imapwire.BadCommandError](err); ok {
			return err
		}
		return fmt.Errorf("reading after a message: %w: %w", errConnection, err)
	}
	status, err := box.Status(c.ctx)
	if err != nil {
		return err
	}
	uid, err := box.Append(c.ctx, spool, flags, date, c.store.Quota)
	if errors.Is(err, store.ErrNoMailbox) {
		return no("TRYCREATE", "no such mailbox")
	}
	if err != nil {
		return fmt.Errorf("appending to %q: %w", box.Name(), err)
	}
	c.code = append(c.code, "APPENDUID "...)
	c.code = strconv.AppendUint(c.code, uint64(status.UIDValidity), 10)
	c.code = append(c.code, ' ')
	c.code = strconv.AppendUint(c.code, uint64(uid), 10)
	return nil
}

// connReader remembers whether a copy failed on its reading side.
type connReader struct {
	r   io.Reader
	err error
}

func (c *connReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// readFlags turns the names of a command into flags. \Recent, which clients
// copy from other servers, cannot be stored and is passed over.
func readFlags(names []string) (store.Flags, error) {
	if len(names) > maxFlags {
		return store.Flags{}, no("LIMIT", "too many flags")
	}
	var flags store.Flags
	for _, name := range names {
		if strings.EqualFold(name, `\Recent`) {
			continue
		}
		var err error
		if flags, err = flags.ParseFlag(name); err != nil {
			return store.Flags{}, bad(err)
		}
	}
	return flags, nil
}
