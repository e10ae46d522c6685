package imapserver

import (
	"bytes"
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

// spoolMemory is how much of the first message of an APPEND is kept in memory,
// in bytes, half of it of the second and so on, and leastMemory of the rest.
const (
	spoolMemory = 64 << 10
	leastMemory = 4 << 10
)

const (
	maxFlags    = 100 // of one message
	maxMessages = 250 // of one APPEND (RFC 3502)
	maxURL      = 8 << 10
)

// appendMessages is APPEND (RFC 3501 §6.3.11) with APPENDUID (RFC 4315), of
// one or several messages (RFC 3502). What can be refused is refused before
// the client has sent the message.
func (c *session) appendMessages(cmd *imapwire.Command) error {
	cmd.Args.Space()
	name := cmd.Args.Mailbox()
	box, err := c.appendTo(cmd, name)
	if err != nil {
		return err
	}
	a, err := c.newIncoming(cmd, box)
	if err != nil {
		return err
	}
	defer a.close()
	var messages []store.Incoming
	for len(messages) == 0 || !a.l.AtEnd() || a.literal != nil {
		if len(messages) == maxMessages {
			return no("LIMIT", "too many messages in one command")
		}
		in, err := a.message()
		if err != nil {
			return err
		}
		messages = append(messages, in)
	}
	if err := a.end(); err != nil {
		return err
	}
	status, blind := box.Status(c.ctx)
	if blind != nil && !errors.Is(blind, store.ErrNoRight) && !errors.Is(blind, store.ErrNoMailbox) {
		return blind
	}
	uids, err := box.AppendAll(c.ctx, messages, c.store.Quota)
	if err != nil {
		return appendError(box.Name(), err)
	}
	if blind == nil { // RFC 4315 §3: who may only put something in learns no UIDs
		c.code = appendUID(c.code, status.UIDValidity, uids)
	}
	return nil
}

// appendTo opens the mailbox that an APPEND or REPLACE names.
func (c *session) appendTo(cmd *imapwire.Command, name string) (store.Mailbox, error) {
	if err := cmd.Args.Err(); err != nil {
		return nil, bad(err)
	}
	box, err := c.store.Account.Open(c.ctx, name)
	if errors.Is(err, store.ErrNoMailbox) {
		return nil, no("TRYCREATE", "no such mailbox")
	}
	if err != nil {
		return nil, err
	}
	rights, err := store.RightsOn(c.ctx, box)
	if err == nil && !rights.Has(store.RightInsert) {
		err = store.ErrNoRight
	}
	return box, err
}

func appendError(name string, err error) error {
	if errors.Is(err, store.ErrNoMailbox) {
		return no("TRYCREATE", "no such mailbox")
	}
	return fmt.Errorf("appending to %q: %w", name, err)
}

func appendUID(dst []byte, validity uint32, uids []store.UID) []byte {
	dst = strconv.AppendUint(append(dst, "APPENDUID "...), uint64(validity), 10)
	return imapwire.AppendNumSet(append(dst, ' '), uids)
}

// incoming reads the messages of an APPEND or REPLACE.
type incoming struct {
	c *session
	// l is at what was read of the command; literal comes after it, unless it
	// is nil.
	l       *imapwire.Lexer
	literal *imapwire.Message
	spools  []*blob.Spool
	size    int64
	root    quotaRoot // of the mailbox they go to
}

func (c *session) newIncoming(cmd *imapwire.Command, box store.Mailbox) (*incoming, error) {
	root, err := c.rootOf(box)
	return &incoming{c: c, l: cmd.Args, literal: cmd.Message, root: root}, err
}

func (a *incoming) close() {
	for _, s := range a.spools {
		s.Close()
	}
}

// end demands that nothing of the command is left, be it a literal.
func (a *incoming) end() error {
	if a.literal != nil {
		a.l.Fail("unexpected literal at the end of the command")
	}
	if err := a.l.End(); err != nil {
		return bad(err)
	}
	return nil
}

// message reads one message with what stands before it.
func (a *incoming) message() (in store.Incoming, err error) {
	var names []string
	a.l.Space()
	if a.l.Peek() == '(' {
		names = a.l.FlagList()
		a.l.Space()
	}
	in.InternalDate = time.Now()
	if a.l.Peek() == '"' {
		in.InternalDate = a.l.DateTime()
		a.l.Space()
	}
	if a.l.Err() == nil {
		if in.Flags, err = readFlags(names); err != nil {
			return in, err
		}
	}
	spool := blob.NewSpool(a.c.o.SpoolDir, max(spoolMemory>>len(a.spools), leastMemory))
	a.spools = append(a.spools, spool)
	in.Body = spool
	if err := a.data(spool); err != nil {
		return in, err
	}
	if a.size += spool.Size(); spool.Size() == 0 {
		return in, no("CANNOT", "an empty message cannot be stored")
	}
	return in, nil
}

// data reads append-data: a literal, of text or binary, UTF8 or CATENATE.
func (a *incoming) data(spool *blob.Spool) error {
	if a.literal != nil && a.literal.Size() == 0 && a.l.Peek() != 'C' && a.l.Peek() != 'c' {
		return no("CANNOT", "an empty message cannot be stored")
	}
	switch a.l.Peek() {
	case 0:
		return a.take(spool, false)
	case '~':
		return a.take(spool, true)
	}
	switch a.l.Keyword() {
	case "UTF8": // RFC 6855 §4
		if !a.c.has(utf8Accept) {
			a.l.Fail("UTF8=ACCEPT was not enabled")
		}
		a.l.Space()
		a.l.Expect('(')
		if err := a.take(spool, true); err != nil {
			return err
		}
		a.l.Expect(')')
	case "CATENATE":
		a.l.Space()
		return a.catenate(spool)
	default:
		a.l.Fail("expected a message as a literal")
	}
	if err := a.l.Err(); err != nil {
		return bad(err)
	}
	return nil
}

// take brings the literal that comes next into the spool, to its last octet,
// and reads on behind it. A literal8 ("~{") may hold NUL, which our answers to
// BODY[] could not: such a message is refused (RFC 3516 §4.4).
func (a *incoming) take(spool *blob.Spool, binary bool) error {
	if binary {
		a.l.Expect('~')
	}
	if !a.l.AtEnd() || a.literal == nil {
		a.l.Fail("expected a message as a literal")
	}
	if err := a.l.Err(); err != nil {
		return bad(err)
	}
	if err := a.admit(spool, a.literal.Size()); err != nil {
		return err
	}
	from := &connReader{r: a.literal}
	if _, err := io.Copy(spool, from); err != nil {
		if from.err != nil {
			return fmt.Errorf("reading a message: %w: %w", errConnection, from.err)
		}
		return fmt.Errorf("spooling a message: %w", err)
	}
	if err := a.next(); err != nil {
		return err
	}
	if binary && from.nul {
		return no("UNKNOWN-CTE", "a message with NUL octets cannot be stored")
	}
	return nil
}

// next goes on to what follows a literal that was read.
func (a *incoming) next() error {
	l, more, err := a.literal.Next()
	if err != nil {
		if _, ok := errors.AsType[*imapwire.BadCommandError](err); ok {
			return err
		}
		return fmt.Errorf("reading after a message: %w: %w", errConnection, err)
	}
	if a.l = l; !more {
		a.literal = nil
	}
	return nil
}

// admit refuses n further octets of a message by its size alone.
func (a *incoming) admit(spool *blob.Spool, n int64) error {
	c, size := a.c, spool.Size()+n
	if size > c.o.MaxMessage {
		return no("TOOBIG", "message is larger than "+strconv.FormatInt(c.o.MaxMessage, 10)+" octets")
	}
	quota := a.root.quota
	if quota == store.NoQuota() {
		return nil
	}
	used, err := a.root.account.Usage(c.ctx)
	if err != nil {
		return err
	}
	if quota.Bytes >= 0 && used.Bytes+a.size+size > quota.Bytes || quota.Messages >= 0 && used.Messages+int64(len(a.spools)) > quota.Messages {
		return store.ErrOverQuota
	}
	return nil
}

// connReader remembers whether a copy failed on its reading side, and whether
// there was a NUL in it.
type connReader struct {
	r   io.Reader
	err error
	nul bool
}

func (c *connReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	c.nul = c.nul || bytes.IndexByte(p[:n], 0) >= 0
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
