package smtpwire

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// errAborted ends a message of which not all chunks came: the client said
// something else. Nothing of it was taken.
var errAborted = errors.New("message given up between two chunks")

var errChunkTwice = status(503, 5, 1, "a message in chunks is in progress")

// parseChunk reads the argument of BDAT: "size" or "size LAST" (RFC 3030 §2).
func parseChunk(arg string) (size int64, last bool, ok bool) {
	number, rest, more := strings.Cut(arg, " ")
	if more && !strings.EqualFold(strings.TrimSpace(rest), "LAST") || number == "" || len(number) > 20 || strings.Trim(number, "0123456789") != "" {
		return 0, false, false
	}
	size, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		size = math.MaxInt64
	}
	return size, more, true
}

// chunk serves BDAT and what belongs to the same message. An error is the
// connection's.
func (s *session) chunk(cmd Command) error {
	size, last, ok := parseChunk(cmd.Arg)
	switch {
	case !s.offer.Chunking: // the octets that follow would be taken for commands
		s.hangUp(status(502, 5, 1, "CHUNKING is not offered"))
		return nil
	case !ok:
		s.hangUp(status(501, 5, 4, "syntax is BDAT size [LAST]"))
		return nil
	}
	r := &chunkReader{s: s, left: size, last: last, text: !(s.mail != nil && s.mail.Binary), header: true, start: time.Now()}
	switch {
	case s.mail == nil:
		return s.swallow(cmd, r, status(503, 5, 1, "MAIL comes first"))
	case s.rcpts == 0:
		return s.swallow(cmd, r, status(554, 5, 1, "no valid recipients"))
	}
	want := 1
	if s.o.LMTP {
		want = s.rcpts
	}
	replies := s.h.Data(s.ctx, r)
	s.mail, s.rcpts = nil, 0
	return s.endChunks(r, replies, want)
}

// endChunks answers once the handler has read, or read no more of, a message.
func (s *session) endChunks(r *chunkReader, replies []*mail.Status, want int) error {
	if r.lost != nil {
		return fmt.Errorf("reading a message: %w", r.lost)
	}
	if next := r.next; next != nil { // the message was given up
		return s.dispatch(*next)
	}
	if s.closed {
		return nil
	}
	if err := r.drain(); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	switch {
	case r.refused != nil:
		s.logRefusal("BDAT", r.refused)
		s.errors++
		for range want {
			s.reply(r.refused)
		}
		s.closed = s.closed || r.close
	case !r.last && (len(replies) == 0 || replies[0] == nil || replies[0].Code < 400): // the handler took what is not whole
		s.answerData(nil, want)
	default:
		s.answerData(replies, want)
	}
	return nil
}

// swallow refuses a chunk that nobody waits for.
func (s *session) swallow(cmd Command, r *chunkReader, st *mail.Status) error {
	r.refused = st
	if err := r.drain(); err != nil {
		return fmt.Errorf("reading a chunk: %w", err)
	}
	s.fail(cmd.Verb, st)
	s.closed = s.closed || r.close
	return nil
}

// chunkReader reads a message that comes by BDAT: between two chunks it answers
// the one and reads the command of the other. It ends with io.EOF after the
// whole of the chunk marked LAST, and after nothing else.
type chunkReader struct {
	s    *session
	left int64 // octets of the chunk
	last bool
	size int64
	// start is when the first chunk began.
	start time.Time

	// text: it is no BODY=BINARYMIME, so that lines are bounded and end in CRLF.
	// A header is text always.
	text, header bool
	line         int // octets of the current line
	cr           bool

	refused *mail.Status
	close   bool
	next    *Command // that ended the message early
	lost    error    // of the connection
	done    bool
}

// Read implements io.Reader.
func (r *chunkReader) Read(p []byte) (int, error) {
	switch {
	case r.lost != nil:
		return 0, r.lost
	case r.refused != nil:
		return 0, r.refused
	case r.next != nil || r.s.closed:
		return 0, errAborted
	case r.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	for r.left == 0 {
		if r.last {
			return r.end(p)
		}
		if err := r.command(); err != nil {
			return 0, err
		}
	}
	if r.size+r.left > r.s.o.MaxSize && r.s.o.MaxSize > 0 {
		r.refused = errTooLarge
		return 0, r.refused
	}
	n, err := r.read(p)
	if err != nil {
		return 0, err
	}
	r.size += int64(n)
	if r.refused = r.judge(p[:n]); r.refused != nil {
		return 0, r.refused
	}
	return n, nil
}

// end is reached after the last octet: text gets the line end that it lacks.
func (r *chunkReader) end(p []byte) (int, error) {
	switch {
	case r.cr:
		r.refused = errBareEOL
		return 0, r.refused
	case r.text && r.line > 0 && len(p) >= 2:
		r.line, r.done = 0, true
		return copy(p, "\r\n"), nil
	}
	r.done = true
	return 0, io.EOF
}

// read takes the next octets of the chunk. The end of the connection within one
// is an error, so that nothing cut off is ever taken for whole.
func (r *chunkReader) read(p []byte) (int, error) {
	if r.s.c.Buffered() == 0 {
		r.pace()
	}
	n, err := r.s.c.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if n == 0 && err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		r.lost = err
		return 0, err
	}
	return n, nil
}

// pace sets by when octets must come, as dataReader does.
func (r *chunkReader) pace() {
	var limit time.Time
	if wait := r.s.o.Limits.Data; wait > 0 {
		limit = r.start.Add(wait + time.Duration(r.size)*(time.Second/minRate))
		if latest := time.Now().Add(wait); limit.After(latest) {
			limit = latest
		}
	}
	r.s.c.SetReadDeadline(limit)
}

// judge looks at octets of the message.
func (r *chunkReader) judge(p []byte) *mail.Status {
	for _, b := range p {
		if !r.text && !r.header {
			return nil
		}
		r.line++
		switch {
		case b == '\n' && !r.cr, r.cr && b != '\n':
			return errBareEOL
		case b == 0 && r.header:
			return errNUL
		case b == '\n':
			r.header = r.header && r.line > 2
			r.line = 0
		case r.line > maxText:
			return errLongLine
		}
		r.cr = b == '\r'
	}
	return nil
}

// command answers a chunk and reads commands up to the next one.
func (r *chunkReader) command() error {
	s := r.s
	s.reply(status(250, 0, 0, "chunk taken"))
	for {
		s.setDeadline()
		line, err := s.c.ReadLine(maxAuth)
		switch {
		case errors.Is(err, wire.ErrBareCR), errors.Is(err, wire.ErrBareLF):
			s.hangUp(errBareEOL)
			return errAborted
		case errors.Is(err, wire.ErrTooLong):
			s.hangUp(status(500, 5, 2, "line too long"))
			return errAborted
		case err != nil:
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			r.lost = err
			return err
		}
		cmd, st := ParseCommand(line)
		if st != nil {
			s.fail("?", st)
		} else if s.debug(cmd); !r.between(cmd) {
			return nil
		}
		if r.next != nil || s.closed {
			return errAborted
		}
	}
}

// between serves a command between two chunks, and reports whether another has
// to be read.
func (r *chunkReader) between(cmd Command) bool {
	s := r.s
	switch cmd.Verb {
	case "BDAT":
		size, last, ok := parseChunk(cmd.Arg)
		if !ok {
			s.hangUp(status(501, 5, 4, "syntax is BDAT size [LAST]"))
			return true
		}
		r.left, r.last = size, last
		return false
	case "MAIL", "RCPT", "DATA":
		s.fail(cmd.Verb, errChunkTwice)
	case "RSET", "QUIT", "HELO", "EHLO", "LHLO", "STARTTLS", "AUTH":
		r.next = &cmd
	default:
		s.other(cmd)
	}
	return true
}

// drain reads what is left of a chunk that is not wanted; where that is too
// much the connection ends instead.
func (r *chunkReader) drain() error {
	if r.left == 0 {
		return nil
	}
	if r.left > drainBytes {
		r.close = true
		return nil
	}
	r.s.c.SetReadDeadline(time.Now().Add(drainTime))
	err := r.s.c.Discard(r.left)
	r.left = 0
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
