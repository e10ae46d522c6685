package mta

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// Downgraded is a BINARYMIME message for those who take none: each part that
// is binary becomes base64, and what holds such parts says 8bit (RFC 3030 §3).
// The original is not copied. A message that is not lines of text then is
// refused: 554 5.6.1.
func Downgraded(body mail.Body) (mail.Body, error) {
	rc, err := body.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the message: %w", err)
	}
	m, err := mime.Scan(rc, mime.Limits{})
	rc.Close()
	if err != nil {
		return nil, err
	}
	d := &downgrade{body: body, end: m.Size}
	if err := d.part(&m.Root); err != nil {
		return nil, err
	}
	d.raw(m.Size)
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

// downgrade is a message as a row of pieces; it implements mail.Body.
type downgrade struct {
	body   mail.Body
	pieces []piece
	at     int64 // how much of the original is in pieces
	end    int64
}

// piece is a part of the original as it is, or in base64; or a text in its place.
type piece struct {
	from, to int64
	base64   bool
	text     []byte
}

// raw adds the original up to an offset.
func (d *downgrade) raw(to int64) {
	if to > d.at {
		d.pieces = append(d.pieces, piece{from: d.at, to: to})
		d.at = to
	}
}

// part adds a part and those within it.
func (d *downgrade) part(p *mime.Part) error {
	binary := strings.EqualFold(p.Encoding, "binary")
	leaf := len(p.Children) == 0 && p.Message == nil
	if binary {
		if err := d.header(p, leaf); err != nil {
			return err
		}
	}
	for i := range p.Children {
		if err := d.part(&p.Children[i]); err != nil {
			return err
		}
	}
	if p.Message != nil {
		if err := d.part(&p.Message.Root); err != nil {
			return err
		}
	}
	if binary && leaf && p.End > p.BodyOffset {
		d.pieces = append(d.pieces, piece{from: p.BodyOffset, to: p.End, base64: true})
		d.at = p.End
		if p.End == d.end {
			d.pieces = append(d.pieces, piece{text: []byte("\r\n")})
		}
	}
	return nil
}

// header adds the header of a part with another encoding in it.
func (d *downgrade) header(p *mime.Part, leaf bool) error {
	d.raw(p.HeaderOffset)
	block := make([]byte, p.BodyOffset-p.HeaderOffset)
	rc, err := d.body.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	if err = skipBytes(rc, p.HeaderOffset); err == nil {
		_, err = io.ReadFull(rc, block)
	}
	if err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	encoding := "8bit"
	if leaf {
		encoding = "base64"
	}
	var out []byte
	for f := range mime.Fields(block) {
		if !f.Is("Content-Transfer-Encoding") {
			out = append(out, f.Raw...)
		}
	}
	out = append(out, "Content-Transfer-Encoding: "+encoding+"\r\n\r\n"...)
	d.pieces = append(d.pieces, piece{text: out})
	d.at = p.BodyOffset
	return nil
}

// base64Size is the length of n octets as base64Reader writes them.
func base64Size(n int64) int64 {
	code := (n + 2) / 3 * 4
	return code + max(0, (code-1)/76)*2
}

// Size implements mail.Body.
func (d *downgrade) Size() (n int64) {
	for _, p := range d.pieces {
		switch {
		case p.text != nil:
			n += int64(len(p.text))
		case p.base64:
			n += base64Size(p.to - p.from)
		default:
			n += p.to - p.from
		}
	}
	return n
}

// Open implements mail.Body.
func (d *downgrade) Open() (io.ReadCloser, error) {
	rc, err := d.body.Open()
	if err != nil {
		return nil, err
	}
	return &pieceReader{original: rc, pieces: d.pieces}, nil
}

// pieceReader reads pieces, which are in the order of the original.
type pieceReader struct {
	original io.ReadCloser
	at       int64
	pieces   []piece
	current  io.Reader
}

// Close implements io.Closer.
func (r *pieceReader) Close() error { return r.original.Close() }

// Read implements io.Reader.
func (r *pieceReader) Read(b []byte) (int, error) {
	for {
		if r.current == nil {
			if len(r.pieces) == 0 {
				return 0, io.EOF
			}
			if err := r.begin(r.pieces[0]); err != nil {
				return 0, err
			}
			r.pieces = r.pieces[1:]
		}
		n, err := r.current.Read(b)
		if errors.Is(err, io.EOF) {
			r.current, err = nil, nil
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

func (r *pieceReader) begin(p piece) error {
	if p.text != nil {
		r.current = bytes.NewReader(p.text)
		return nil
	}
	if _, err := io.CopyN(io.Discard, r.original, p.from-r.at); err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	r.at = p.to
	r.current = io.LimitReader(r.original, p.to-p.from)
	if p.base64 {
		r.current = &base64Reader{r: r.current}
	}
	return nil
}

// base64Reader encodes what r has in lines of 76, the last without a line end.
type base64Reader struct {
	r     io.Reader
	out   []byte
	lines int
	err   error
}

// Read implements io.Reader.
func (b *base64Reader) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		var in [57]byte
		n, err := io.ReadFull(b.r, in[:])
		if b.err = err; errors.Is(err, io.ErrUnexpectedEOF) {
			b.err = io.EOF
		}
		if n > 0 {
			if b.lines > 0 {
				b.out = append(b.out, "\r\n"...)
			}
			b.lines++
			b.out = base64.StdEncoding.AppendEncode(b.out, in[:n])
		}
	}
	n := copy(p, b.out)
	b.out = b.out[:copy(b.out, b.out[n:])]
	return n, nil
}

// longestLine is what a line of a message may have, in octets.
const longestLine = 8192

// check reads the result: lines that end in CRLF, none too long.
func (d *downgrade) check() error {
	rc, err := d.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	r := bufio.NewReaderSize(rc, longestLine)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && bytes.IndexByte(line, '\r') < 0:
			return nil
		case err == nil && len(line) > 1 && bytes.IndexByte(line, '\r') == len(line)-2:
		case err == nil, errors.Is(err, bufio.ErrBufferFull), errors.Is(err, io.EOF):
			return &mail.Status{Code: 554, Enhanced: [3]int{5, 6, 1}, Text: "a BINARYMIME message whose other parts are not lines of text"}
		default:
			return fmt.Errorf("reading the message: %w", err)
		}
	}
}
