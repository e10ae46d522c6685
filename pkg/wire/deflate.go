package wire

import (
	"compress/flate"
	"net"
)

// deflated is a connection whose bytes are compressed both ways.
type deflated struct {
	net.Conn
	in  *inflater
	out *flate.Writer
}

// Deflate returns a connection that compresses what is written to raw and
// inflates what is read from it (RFC 1951; RFC 4978 for IMAP). Each Write is
// flushed, so that the peer never waits for the rest of a block, and nothing that
// the peer flushed is kept back. No more is inflated than was asked for: what
// bounds a plain connection bounds this one. It costs about 840 kB, most of it
// the compressor's. Close closes raw.
func Deflate(raw net.Conn) net.Conn {
	// No error for a level that there is.
	out, _ := flate.NewWriter(raw, flate.BestSpeed)
	return &deflated{Conn: raw, in: newInflater(raw), out: out}
}

// Read implements net.Conn.
func (d *deflated) Read(p []byte) (int, error) { return d.in.Read(p) }

// Write implements net.Conn.
func (d *deflated) Write(p []byte) (int, error) {
	n, err := d.out.Write(p)
	if err == nil {
		err = d.out.Flush()
	}
	return n, err
}

// CloseWrite ends our side, where raw can.
func (d *deflated) CloseWrite() error {
	half, ok := d.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}
