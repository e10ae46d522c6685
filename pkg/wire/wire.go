// Package wire reads lines and literals from a connection under bounds, and
// writes replies into one buffer that is flushed when the reader would block.
//
// It knows bytes, deadlines and budgets; the words of each protocol are in its
// subpackages imapwire, smtpwire and ldapwire. None of them holds policy.
package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Errors of a Conn. After ErrTooLong the rest of the line is still unread:
// call DiscardLine or close.
var (
	ErrTooLong = errors.New("line too long")
	ErrBareCR  = errors.New("bare CR received")
	ErrBareLF  = errors.New("bare LF received")
	// ErrDraining is returned by a read between commands once the server stops.
	ErrDraining = errors.New("server is shutting down")
	// ErrWoken is returned by AwaitCommand after a Wake.
	ErrWoken = errors.New("woken")
)

// flushAt is how many bytes wait in the write buffer at the most (house.md
// section 3: flushed when the reader would block or at 32 KiB).
const flushAt = 32 << 10

// Conn is a buffered connection of a line protocol: one goroutine reads, one
// writes (they may be the same). Interrupt and Close may be called from any.
type Conn struct {
	raw net.Conn
	r   *bufio.Reader
	out []byte

	// idle bounds the wait for the first byte of a command, and each further
	// wait for bytes within one; zero is for ever.
	idle         time.Duration
	writeTimeout time.Duration
	until        time.Time // no read waits beyond it, unless it is zero

	mu       sync.Mutex
	waiting  bool // between commands: Interrupt and Wake may cut the read short
	woken    bool // Wake was called and AwaitCommand has not said so yet
	draining bool
	writeErr error
	// interrupted says the deadline in force was set by Interrupt.
	interrupted bool
}

// NewConn wraps raw. readSize is the read buffer in bytes (at least 512) and
// so the longest line ReadLine can return. readAhead holds bytes that were
// read from raw before; they come first.
func NewConn(raw net.Conn, readSize int, readAhead []byte) *Conn {
	c := &Conn{raw: raw, writeTimeout: 2 * time.Minute}
	c.setReader(readSize, readAhead)
	return c
}

func (c *Conn) setReader(size int, readAhead []byte) {
	var src io.Reader = deadlineReader{c}
	if len(readAhead) > 0 {
		src = &prefixReader{head: readAhead, tail: src}
	}
	c.r = bufio.NewReaderSize(src, size)
}

type prefixReader struct {
	head []byte
	tail io.Reader
}

func (p *prefixReader) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.tail.Read(b)
}

// deadlineReader flushes what we owe the client before it blocks, and bounds
// every wait with the idle time: a slow sender that makes progress is never
// cut by one absolute deadline.
type deadlineReader struct{ c *Conn }

func (d deadlineReader) Read(b []byte) (int, error) {
	c := d.c
	if err := c.Flush(); err != nil {
		return 0, err
	}
	for {
		if err := c.arm(); err != nil {
			return 0, err
		}
		n, err := c.raw.Read(b)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c.mu.Lock()
		interrupted := c.draining
		waiting := c.waiting
		woken := c.takeWoken()
		c.mu.Unlock()
		switch {
		case interrupted && waiting:
			return 0, ErrDraining
		case woken:
			return 0, ErrWoken
		case interrupted && c.rearm():
			continue // Interrupt hit a transaction in flight: it may go on
		}
		return 0, err
	}
}

// arm sets the deadline of the next read.
func (c *Conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && c.waiting {
		return ErrDraining
	}
	if c.takeWoken() {
		return ErrWoken
	}
	deadline := c.until
	if c.idle > 0 {
		if d := time.Now().Add(c.idle); deadline.IsZero() || d.Before(deadline) {
			deadline = d
		}
	}
	return c.raw.SetReadDeadline(deadline)
}

// rearm reports, once, that a read was cut by Interrupt and not by its own
// deadline.
func (c *Conn) rearm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		c.interrupted = false
		return true
	}
	return false
}

// takeWoken reports, once, that a wait between commands is to end because of
// Wake. The caller holds mu.
func (c *Conn) takeWoken() bool {
	if !c.waiting || !c.woken {
		return false
	}
	c.woken = false
	return true
}

// Wake makes AwaitCommand, the one under way or else the next that has to wait,
// return ErrWoken once: the reader's own goroutine then writes what it was
// woken for and waits again. It may be called from any goroutine, and does not block.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	if c.waiting {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// SetTimeouts sets how long each wait for the client's bytes, and each write,
// may take; zero means for ever.
func (c *Conn) SetTimeouts(read, write time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.writeTimeout = read, write
}

// SetReadDeadline bounds all reads from now on by t, beside the idle time: a
// client that drips its bytes meets it however many there are. The zero time
// takes the bound away. A read that fails so matches os.ErrDeadlineExceeded.
func (c *Conn) SetReadDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
}

// Interrupt ends the wait for the next command with ErrDraining, now and from
// now on; a command that is being read or served goes on. Doors tie it to
// their context: defer context.AfterFunc(ctx, conn.Interrupt)().
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.interrupted = true
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
}

// InterruptOn calls Interrupt when ctx ends. The returned function undoes it.
func (c *Conn) InterruptOn(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, c.Interrupt)
}

// AwaitCommand marks that the client is between commands and waits for the
// first byte of the next one. It flushes before it waits. ErrDraining, ErrWoken.
func (c *Conn) AwaitCommand() error {
	if c.r.Buffered() > 0 {
		c.mu.Lock()
		draining := c.draining
		c.mu.Unlock()
		if draining {
			return ErrDraining
		}
		return nil
	}
	c.setWaiting(true)
	defer c.setWaiting(false)
	_, err := c.r.Peek(1)
	return err
}

func (c *Conn) setWaiting(on bool) {
	c.mu.Lock()
	c.waiting = on
	c.mu.Unlock()
}

// ReadLine returns the next line without its CRLF, at most limit bytes. The
// slice is valid until the next read. A line that ends in a lone LF, or holds
// a CR elsewhere than before its LF, is returned together with ErrBareLF or
// ErrBareCR; the connection is then at the next line, and the caller decides.
func (c *Conn) ReadLine(limit int) ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, ErrTooLong
	}
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	line = line[:len(line)-1]
	if len(line) == 0 || line[len(line)-1] != '\r' {
		err = ErrBareLF
	} else {
		line = line[:len(line)-1]
	}
	for _, b := range line {
		if b == '\r' {
			err = ErrBareCR
			break
		}
	}
	if len(line) > limit {
		return nil, errTooLongRead
	}
	return line, err
}

// errTooLongRead is ErrTooLong where the line end was already consumed.
var errTooLongRead = tooLongRead{}

type tooLongRead struct{}

func (tooLongRead) Error() string        { return ErrTooLong.Error() }
func (tooLongRead) Is(target error) bool { return target == ErrTooLong }

// DiscardLine reads and drops up to the end of the line that ReadLine refused
// with err, at most limit bytes; ErrTooLong if it does not end there.
func (c *Conn) DiscardLine(err error, limit int) error {
	if _, done := err.(tooLongRead); done {
		return nil
	}
	for n := 0; n < limit; {
		part, err := c.r.ReadSlice('\n')
		n += len(part)
		if err == nil {
			return nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	return ErrTooLong
}

// Read reads a literal's bytes; it implements io.Reader under the same
// deadlines.
func (c *Conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Discard drops exactly n bytes, however many there are.
func (c *Conn) Discard(n int64) error {
	_, err := io.CopyN(io.Discard, c.r, n)
	return err
}

// Reader gives the buffered reader, for protocols that are not made of lines.
func (c *Conn) Reader() *bufio.Reader { return c.r }

// Buffered is how many bytes the client sent that nobody has read yet.
func (c *Conn) Buffered() int { return c.r.Buffered() }

// Out is the write buffer: append to it and give it back to SetOut. Doors
// write with the append functions of their wire package:
//
//	c.SetOut(append(c.Out(), "* OK\r\n"...))
func (c *Conn) Out() []byte { return c.out }

// SetOut takes the write buffer back, and flushes it when it holds 32 KiB or
// more. The error, if any, comes back at the next Flush.
func (c *Conn) SetOut(b []byte) {
	c.out = b
	if len(b) >= flushAt {
		_ = c.Flush()
	}
}

// WriteString appends s to the write buffer.
func (c *Conn) WriteString(s string) { c.SetOut(append(c.out, s...)) }

// Write appends p to the write buffer; it implements io.Writer.
func (c *Conn) Write(p []byte) (int, error) {
	c.SetOut(append(c.out, p...))
	return len(p), c.writeErr
}

// Flush sends what was written. After an error it drops everything and
// returns that error for ever.
func (c *Conn) Flush() error {
	if len(c.out) == 0 || c.writeErr != nil {
		c.out = c.out[:0]
		return c.writeErr
	}
	c.mu.Lock()
	timeout := c.writeTimeout
	c.mu.Unlock()
	if timeout > 0 {
		_ = c.raw.SetWriteDeadline(time.Now().Add(timeout))
	}
	_, c.writeErr = c.raw.Write(c.out)
	if cap(c.out) > 4*flushAt {
		c.out = nil // a large reply's buffer is not kept for an idle client
	}
	c.out = c.out[:0]
	return c.writeErr
}

// Err is the error of the first write that failed, nil if none did. A long
// reply looks at it to stop early.
func (c *Conn) Err() error { return c.writeErr }

// Raw is the connection under the buffers.
func (c *Conn) Raw() net.Conn { return c.raw }

// Detach hands the connection on: it returns raw and the bytes already read
// from it. Flush first. The Conn must not be used afterwards.
func (c *Conn) Detach() (raw net.Conn, readAhead []byte) {
	n := c.r.Buffered()
	if n > 0 {
		b, _ := c.r.Peek(n)
		readAhead = append([]byte(nil), b...)
	}
	_ = c.raw.SetDeadline(time.Time{})
	return c.raw, readAhead
}

// Upgrade goes on over up, which wraps Raw (TLS, compression). It refuses if
// bytes are waiting that came before the upgrade (RFC 3207 §4.2: they must not
// survive it); the caller then closes.
func (c *Conn) Upgrade(up net.Conn) error {
	if c.r.Buffered() > 0 {
		return errors.New("plaintext after the upgrade command")
	}
	size := c.r.Size()
	c.mu.Lock()
	c.raw = up
	c.mu.Unlock()
	c.setReader(size, nil)
	return nil
}

// Bounds of Linger.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// Linger ends our side after what was written, and takes in for a moment what
// the client still sends: closing on unread bytes would reset the connection
// and with it the last words on their way. The caller closes afterwards.
func (c *Conn) Linger() {
	if c.Flush() != nil {
		return
	}
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c, lingerBytes)
}

// Close closes the connection without flushing.
func (c *Conn) Close() error {
	c.mu.Lock()
	raw := c.raw
	c.mu.Unlock()
	return raw.Close()
}
