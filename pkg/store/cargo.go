package store

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Record is one piece of cargo, which is how an account travels between stores:
// the length of a header, the header in JSON, and the octets of a body if the
// header announces them. One of the pointers or lists is set, or End.
type Record struct {
	Mailbox  *CarriedMailbox  `json:"mailbox,omitempty"`
	Message  *CarriedMessage  `json:"message,omitempty"`
	Rest     *CarriedRest     `json:"rest,omitempty"`
	Expunged []CarriedExpunge `json:"expunged,omitempty"`
	Traces   []CarriedTrace   `json:"traces,omitempty"`
	// Annotation is of the mailbox, or of the server before any (RFC 5464).
	Annotation *Annotation `json:"annotation,omitempty"`
	// End is the last record: what ends without it was cut.
	End bool `json:"end,omitempty"`
	// Size is how many octets of a body follow.
	Size int64 `json:"size,omitempty"`
}

// CarriedMailbox is a mailbox without its messages.
type CarriedMailbox struct {
	Name        string `json:"name"`
	UIDValidity uint32 `json:"uidvalidity"`
	UIDNext     UID    `json:"uidnext"`
	Recent      UID    `json:"recent"`
	ModSeq      ModSeq `json:"modseq"`
	Gone        ModSeq `json:"gone"`
	Forgotten   ModSeq `json:"forgotten"`
	NoSelect    bool   `json:"noselect,omitempty"`
	Use         string `json:"use,omitempty"`
	// ACL holds identifiers and their rights (RFC 4314 §2.1).
	ACL [][2]string `json:"acl,omitempty"`
}

// CarriedMessage is a message; its body follows. Times are seconds since 1970.
type CarriedMessage struct {
	UID      UID      `json:"uid"`
	ModSeq   ModSeq   `json:"modseq"`
	System   uint8    `json:"flags"`
	Keywords string   `json:"keywords,omitempty"` // separated by spaces
	Internal int64    `json:"internal"`
	Zone     int      `json:"zone"` // minutes east of Greenwich
	Saved    int64    `json:"saved"`
	SentCopy bool     `json:"sentcopy,omitempty"`
	Prefix   []byte   `json:"prefix,omitempty"` // fields before the body
	Digest   []byte   `json:"digest"`           // SHA-256 of the body
	Removed  *Removal `json:"removed,omitempty"`
}

// Removal says of a message that it was removed and can still be had again.
type Removal struct {
	Mailbox     string `json:"mailbox"`
	UIDValidity uint32 `json:"uidvalidity"`
	At          int64  `json:"at"`
}

// CarriedRest begins what belongs to no mailbox.
type CarriedRest struct {
	Subscriptions []string `json:"subscriptions"`
}

// CarriedExpunge is a message that is gone.
type CarriedExpunge struct {
	ModSeq ModSeq `json:"modseq"`
	UID    UID    `json:"uid"`
}

// CarriedTrace is a delivery that must not come twice.
type CarriedTrace struct {
	Trace string `json:"trace"`
	At    int64  `json:"at"`
}

// maxRecord bounds a record's header, in octets.
const maxRecord = 1 << 20

// ErrCargo: what should be cargo is not, or was cut.
var ErrCargo = errors.New("malformed cargo")

// WriteRecord writes a record's header. The caller then writes r.Size octets.
func WriteRecord(w io.Writer, r Record) error {
	header, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("forming cargo: %w", err)
	}
	if len(header) > maxRecord {
		return fmt.Errorf("forming cargo: a header of %d octets", len(header))
	}
	if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(header))), header...)); err != nil {
		return fmt.Errorf("writing cargo: %w", err)
	}
	return nil
}

// ReadRecord reads a record's header; the caller then reads r.Size octets, which
// is never negative. ErrCargo, also for an end before End.
func ReadRecord(r *bufio.Reader) (rec Record, err error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return rec, fmt.Errorf("%w: reading: %w", ErrCargo, err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxRecord {
		return rec, fmt.Errorf("%w: a header of %d octets", ErrCargo, n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return rec, fmt.Errorf("%w: reading: %w", ErrCargo, err)
	}
	if err := json.Unmarshal(header, &rec); err != nil {
		return rec, fmt.Errorf("%w: %w", ErrCargo, err)
	}
	if rec.Size < 0 || rec.Size > 0 && rec.Message == nil {
		return rec, fmt.Errorf("%w: a body of %d octets", ErrCargo, rec.Size)
	}
	return rec, nil
}
