package smtpwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"mailsrv/pkg/wire"
)

// ErrText is in the chain of the DotWriter's refusal of a bare CR or LF.
var ErrText = errors.New("message cannot be sent by SMTP")

// DotWriter writes a message as the text of DATA: it doubles the dot at the
// start of a line (RFC 5321 §4.5.2) and, in Close, ends the message.
//
// It never sends a bare CR or LF: it fails before it writes one. The message
// is then half sent and without its end, so the connection must be closed.
type DotWriter struct {
	w io.Writer
	// within: some of the current line was written. cr: it ends in a CR that
	// is held back until its LF comes.
	within, cr bool
	err        error
}

// NewDotWriter returns a DotWriter over w, which should be buffered.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w} }

// Write takes the next bytes of the message; lines may be split anywhere.
func (d *DotWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && d.err == nil {
		p = p[d.line(p):]
	}
	if d.err != nil {
		return 0, d.err
	}
	return n, nil
}

// line writes p up to its first LF, or all, and returns how much it took.
func (d *DotWriter) line(p []byte) int {
	if d.cr {
		if p[0] != '\n' {
			return d.fail(wire.ErrBareCR)
		}
		d.cr, d.within = false, false
		d.put([]byte("\r\n"))
		return 1
	}
	end := bytes.IndexByte(p, '\n')
	text := p
	if end >= 0 {
		text = p[:end]
	}
	cr := bytes.IndexByte(text, '\r')
	switch {
	case cr >= 0 && cr < len(text)-1:
		return d.fail(wire.ErrBareCR)
	case end >= 0 && cr < 0:
		return d.fail(wire.ErrBareLF)
	}
	if !d.within && text[0] == '.' {
		d.put([]byte{'.'})
	}
	if end >= 0 {
		d.within = false
		d.put(p[:end+1])
		return end + 1
	}
	if cr >= 0 {
		d.cr = true
		text = text[:cr]
	}
	d.within = d.within || len(text) > 0
	d.put(text)
	return len(p)
}

func (d *DotWriter) put(b []byte) {
	if d.err == nil && len(b) > 0 {
		_, d.err = d.w.Write(b)
	}
}

func (d *DotWriter) fail(cause error) int {
	d.err = fmt.Errorf("%w: %w", ErrText, cause)
	return 0
}

// textCheck is a Reader that fails before it yields a bare CR or LF.
type textCheck struct {
	r  io.Reader
	cr bool // the last octet was CR
}

// NewTextCheck returns a Reader of r that fails with ErrText at a bare CR or LF:
// for text that goes by BDAT.
func NewTextCheck(r io.Reader) io.Reader { return &textCheck{r: r} }

// Read implements io.Reader.
func (t *textCheck) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if t.cr && rest[0] != '\n' {
			return 0, fmt.Errorf("%w: %w", ErrText, wire.ErrBareCR)
		}
		i := bytes.IndexAny(rest, "\r\n")
		switch {
		case i < 0:
			t.cr, rest = false, nil
		case rest[i] == '\n' && !(t.cr && i == 0):
			return 0, fmt.Errorf("%w: %w", ErrText, wire.ErrBareLF)
		default:
			t.cr, rest = rest[i] == '\r', rest[i+1:]
		}
	}
	if err == io.EOF && t.cr {
		return n, fmt.Errorf("%w: %w", ErrText, wire.ErrBareCR)
	}
	return n, err
}

// Close ends the message with CRLF.CRLF, adding the CRLF of a last line that
// has none. It does not close what it writes to.
func (d *DotWriter) Close() error {
	if d.cr {
		d.fail(wire.ErrBareCR)
	}
	if d.within {
		d.put([]byte("\r\n"))
	}
	d.put([]byte(".\r\n"))
	return d.err
}
