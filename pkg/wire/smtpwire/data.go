package smtpwire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"syscall"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// What is drained of a message that is too large before the connection is
// closed: a client that meant well hears the refusal, and no other costs more.
const (
	drainBytes = 1 << 20
	drainTime  = 10 * time.Second
)

// minRate is the slowest a message may come, in bytes a second, after the
// time that one wait may last.
const minRate = 500

// What a dataReader refuses a message for.
var (
	errBareEOL  = status(550, 5, 2, "bare <CR>/<LF> received")
	errTooLarge = status(552, 3, 4, "message too large")
	errLongLine = status(554, 6, 0, "text line longer than 8192 octets")
	errNUL      = status(550, 6, 0, "NUL in the message header")
)

// dataReader reads the text of one DATA command, dots unstuffed. It ends with
// io.EOF after CRLF.CRLF and after nothing else. Text that is refused is read
// to its real end first; Read then returns the *mail.Status of the refusal.
type dataReader struct {
	c    *wire.Conn
	r    *bufio.Reader
	max  int64 // bytes; 0: no limit
	wait time.Duration

	start  time.Time
	now    func() time.Time
	rest   []byte // of the line in r's buffer, not yet handed out
	size   int64  // bytes of the message so far
	drain  int64  // size at which draining gives up; 0: not draining
	header bool   // before the first empty line
	eol    bool   // the last line ended in CRLF
	within bool   // in the middle of a line longer than r's buffer
	cr     bool   // what was read of that line ends in CR

	refused *mail.Status
	// close: whatever the reply, the connection is out of step or hostile.
	close bool
	err   error // sticky: io.EOF, refused, or of the connection
}

func newDataReader(c *wire.Conn, max int64, wait time.Duration) *dataReader {
	d := &dataReader{c: c, r: c.Reader(), max: max, wait: wait, now: time.Now, header: true, eol: true}
	d.start = d.now()
	c.SetReadDeadline(time.Time{})
	return d
}

// Read implements io.Reader.
func (d *dataReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(d.rest) == 0 {
			if d.err != nil || n > 0 && d.r.Buffered() == 0 {
				break
			}
			d.next()
			continue
		}
		k := copy(p[n:], d.rest)
		d.rest = d.rest[k:]
		n += k
	}
	if n == 0 && len(p) > 0 {
		return 0, d.err
	}
	return n, nil
}

// discard reads what is left of the message. An error is the connection's;
// of a refusal, refused and close tell.
func (d *dataReader) discard() error {
	for d.err == nil {
		d.next()
	}
	d.rest = nil
	if d.err == io.EOF || d.refused != nil && d.err == error(d.refused) {
		return nil
	}
	return d.err
}

// next takes the next line, or part of a line longer than the buffer, from the
// wire into rest.
func (d *dataReader) next() {
	if d.r.Buffered() == 0 {
		d.pace()
	}
	line, err := d.r.ReadSlice('\n')
	d.size += int64(len(line))
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		d.within, d.cr = true, line[len(line)-1] == '\r'
		d.refuse(errLongLine)
	case err != nil:
		d.fail(err)
		return
	case d.within:
		d.eol = bytes.HasSuffix(line, []byte("\r\n")) || len(line) == 1 && d.cr
		d.within, d.cr = false, false
	default:
		d.line(line)
	}
	d.bound()
}

// line judges a whole line and makes it the rest to hand out.
func (d *dataReader) line(line []byte) {
	text := line[:len(line)-1]
	if d.eol && len(line) == 3 && line[0] == '.' && line[1] == '\r' {
		d.err = io.EOF
		if d.refused != nil {
			d.err = d.refused
		}
		return
	}
	cr := bytes.IndexByte(text, '\r')
	d.eol = len(text) > 0 && text[len(text)-1] == '\r'
	if cr < 0 || cr != len(text)-1 {
		d.refuse(errBareEOL)
		d.close = true
	}
	if len(line) > maxText {
		d.refuse(errLongLine)
	}
	if d.header {
		d.header = len(line) > 2
		if bytes.IndexByte(line, 0) >= 0 {
			d.refuse(errNUL)
		}
	}
	if d.refused != nil {
		return
	}
	if line[0] == '.' { // RFC 5321 §4.5.2
		line = line[1:]
		d.size--
	}
	d.rest = line
}

// refuse keeps the first refusal; from then on the text is only drained.
func (d *dataReader) refuse(st *mail.Status) {
	if d.refused == nil {
		d.refused = st
	}
}

// bound ends what is too large: first the message, then the draining of it.
func (d *dataReader) bound() {
	switch {
	case d.err != nil || d.max <= 0 || d.size <= d.max:
	case d.drain == 0:
		d.refuse(errTooLarge)
		d.rest = nil
		d.drain = d.size + drainBytes
		d.c.SetReadDeadline(d.now().Add(drainTime))
	case d.size > d.drain:
		d.close, d.err = true, d.refused
	}
}

// pace sets by when the next line must be there: one wait, and what minRate
// grants for all that came so far.
func (d *dataReader) pace() {
	if d.drain > 0 || d.wait <= 0 {
		return
	}
	earned := time.Duration(d.size) * (time.Second / minRate)
	limit := d.start.Add(d.wait + earned)
	if latest := d.now().Add(d.wait); limit.After(latest) {
		limit = latest
	}
	d.c.SetReadDeadline(limit)
}

// fail ends the text by an error of the connection. While draining it is the
// refusal that counts.
func (d *dataReader) fail(err error) {
	d.close = true
	if d.refused != nil && d.drain > 0 {
		d.err = d.refused
		return
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	d.err = err
}

// TakingStatus is the reply where a message could not be taken in: err is of
// Data's reader, or of the place it was written to.
func TakingStatus(err error) *mail.Status {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "no space left, try again later", Err: err}
	}
	return mail.StatusOf(err)
}
