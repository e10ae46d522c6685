package wire

import (
	"compress/flate"
	"io"
	"net"
	"sync"
	"time"
)

// deflated is a connection whose bytes are compressed both ways.
type deflated struct {
	net.Conn
	// in gives what was inflated. A pipe stands between it and the inflater, as
	// that one cannot go on after a read that a deadline cut short.
	in   net.Conn
	out  *flate.Writer
	once sync.Once
	fill net.Conn
}

// Deflate returns a connection that compresses what is written to raw and
// inflates what is read from it (RFC 1951; RFC 4978 for IMAP). Each Write is
// flushed, so that the peer never waits for the rest of a block. Inflated bytes
// are read ahead by at most 32 KiB: what bounds a plain connection bounds this
// one. The compressor costs about 800 kB. Close closes raw and ends the
// goroutine that inflates.
func Deflate(raw net.Conn) net.Conn {
	d := &deflated{Conn: raw}
	d.in, d.fill = net.Pipe()
	// No error for a level that there is.
	d.out, _ = flate.NewWriter(raw, flate.BestSpeed)
	_ = raw.SetReadDeadline(time.Time{}) // from now on the pipe has them
	return d
}

// inflate runs until either side ends.
func (d *deflated) inflate() {
	r := flate.NewReader(d.Conn)
	_, _ = io.Copy(d.fill, r) // why it ended is told to the reader as io.EOF
	_ = r.Close()
	_ = d.fill.Close()
}

// Read implements net.Conn.
func (d *deflated) Read(p []byte) (int, error) {
	d.once.Do(func() { go d.inflate() })
	return d.in.Read(p)
}

// Write implements net.Conn.
func (d *deflated) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	if err == nil {
		err = d.out.Flush()
	}
	return n, err
}

// SetReadDeadline implements net.Conn.
func (d *deflated) SetReadDeadline(t time.Time) error { return d.in.SetReadDeadline(t) }

// SetDeadline implements net.Conn.
func (d *deflated) SetDeadline(t time.Time) error {
	if err := d.in.SetReadDeadline(t); err != nil {
		return err
	}
	return d.Conn.SetWriteDeadline(t)
}

// CloseWrite ends our side, where raw can.
func (d *deflated) CloseWrite() error {
	half, ok := d.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}

// Close implements net.Conn.
func (d *deflated) Close() error {
	_ = d.in.Close()
	return d.Conn.Close()
}
