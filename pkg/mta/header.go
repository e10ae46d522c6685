package mta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
)

// approvedField holds the password of a list.
const approvedField = "Approved"

// maxHeader bounds the header block of a message, in bytes.
const maxHeader = 1 << 20

// Header is what the MTA reads of a message.
type Header struct {
	// Block is the header with the empty line that ends it, if there is one.
	Block []byte
	// From holds the mailboxes of all From fields; Froms counts the fields.
	From  []mime.Address
	Froms int
	// Spaced says that white space stands between "From" and its colon.
	Spaced bool
	// Received counts the hops so far.
	Received int
	// MessageID is as written, or empty.
	MessageID string
	HasDate   bool
	// Approved is the password of a list, if the message brings one.
	Approved string
}

// readHeader reads the header of body; its error is a *mail.Status, or of the
// reading.
func readHeader(body mail.Body) (*Header, error) {
	block, err := readBlock(body)
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(block, 0) >= 0 {
		return nil, mail.Refuse(6, 0, "NUL in the message header")
	}
	h := &Header{Block: block}
	for f := range mime.Fields(block) {
		switch {
		case f.Is("From"):
			h.Froms++
			h.Spaced = h.Spaced || f.Raw[len(f.Name)] != ':'
			for _, a := range mime.ParseAddressList(f.Value()) {
				if a.Kind == mime.Mailbox {
					h.From = append(h.From, a)
				}
			}
		case f.Is("Received"):
			h.Received++
		case f.Is("Message-ID"):
			h.MessageID = f.Value()
		case f.Is(approvedField):
			h.Approved = f.Value()
		case f.Is("Date"):
			h.HasDate = true
		}
	}
	return h, nil
}

// readBlock reads up to and with the first empty line.
func readBlock(body mail.Body) ([]byte, error) {
	rc, err := body.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	var block []byte
	for {
		if len(block) > maxHeader {
			return nil, &mail.Status{Code: 552, Enhanced: [3]int{5, 6, 0}, Text: fmt.Sprintf("message header is larger than %d bytes", maxHeader)}
		}
		start := len(block)
		block = append(block, make([]byte, 8<<10)...)
		n, err := io.ReadFull(rc, block[start:])
		block = block[:start+n]
		if bytes.HasPrefix(block, []byte("\r\n")) {
			return block[:2], nil
		}
		from := max(start-3, 0)
		if i := bytes.Index(block[from:], []byte("\r\n\r\n")); i >= 0 {
			return block[:from+i+4], nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return block, nil
		case err != nil:
			return nil, fmt.Errorf("reading the message: %w", err)
		}
	}
}

// endless reports whether the message ends with its header, without the empty
// line that ends one and that some readers, verifiers of signatures among them,
// cannot do without.
func (h *Header) endless() bool {
	return len(h.Block) > len("\r\n") && !bytes.HasSuffix(h.Block, []byte("\r\n\r\n"))
}

// without is the header block without the fields that drop names.
func (h *Header) without(drop func(mime.Field) bool) []byte {
	out := make([]byte, 0, len(h.Block))
	for f := range mime.Fields(h.Block) {
		if !drop(f) {
			out = append(out, f.Raw...)
		}
	}
	if bytes.HasSuffix(h.Block, []byte("\r\n\r\n")) {
		out = append(out, "\r\n"...)
	}
	return out
}

// form refuses a header that two programs could read in two ways: several From
// fields, or one whose addresses are of several domains, let a message show
// one author and be judged by another (RFC 5322 §3.6, RFC 7489 §6.6.1).
type form struct{}

// Check implements Check.
func (form) Check(_ context.Context, at Stage, e *Evidence) error {
	if at != AtMessage {
		return nil
	}
	h := e.Header
	switch {
	case bytes.HasPrefix(h.Block, []byte(" ")), bytes.HasPrefix(h.Block, []byte("\t")):
		// It would become part of the field that we put before it.
		return mail.Refuse(6, 0, "the message begins with a continuation line")
	case h.Froms == 0 && e.Stranger:
		return mail.Refuse(6, 0, "no From field")
	case h.Froms > 1:
		return mail.Refuse(6, 0, "more than one From field")
	case h.Spaced:
		return mail.Refuse(6, 0, "white space before the colon of the From field")
	}
	for _, a := range h.From {
		if !equalHost(a.Domain, h.From[0].Domain) {
			return mail.Refuse(6, 0, "a From field with addresses of several domains")
		}
	}
	return nil
}
