// Package mail is the ground that every role stands on: addresses, envelopes,
// message bodies, the one verb of the house (Deliverer: take this message) and
// the one error type that parts what a client may hear from what we keep
// (Status).
//
// It knows no protocol session, no storage and no policy. Addresses follow
// RFC 5321 §4.1.2 and RFC 6531; statuses follow RFC 5321 §4.2 and RFC 3463.
package mail

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"io"
	"strings"
	"time"
)

// Deliverer takes a message for each recipient of an envelope. The queue, the
// store, the LMTP client and the SMTP client are all Deliverers. It may be
// called from many goroutines.
type Deliverer interface {
	// Deliver returns one error per env.To, in order. nil: the message is
	// durable there and no longer ours. A *Status says itself whether it is
	// permanent; any other error is transient (RFC 5321 §4.2.1, RFC 2033 §4.2).
	// It neither keeps nor closes body after it returns.
	Deliver(ctx context.Context, env Envelope, body Body) []error
}

// Body is a message that can be read more than once: header and body with
// CRLF line ends, not dot-stuffed. Each Open is independent and may run at the
// same time as others; the caller closes what it opened.
type Body interface {
	// Open returns the message from its first byte.
	Open() (io.ReadCloser, error)
	// Size is the length in bytes that Open yields.
	Size() int64
}

// Envelope is what SMTP says about a message beside the message itself
// (RFC 5321 §2.3.1).
type Envelope struct {
	// From is the reverse-path; the zero Address is the null reverse-path.
	From Address
	// To holds the forward-paths, at least one.
	To []Recipient
	// Trace follows the message through all roles. It also makes deliveries
	// idempotent: a store takes one Trace once per account and mailbox.
	Trace TraceID
	// SMTPUTF8 says the sender asked for RFC 6531 handling.
	SMTPUTF8 bool
	// EightBit says the body was declared BODY=8BITMIME (RFC 6152).
	EightBit bool
	// Binary says the body was declared BODY=BINARYMIME (RFC 3030): it may hold
	// any octets, and goes by BDAT alone.
	Binary bool
	// RequireTLS says that it must not leave us but over verified TLS to a host
	// that keeps to the same (RFC 8689).
	RequireTLS bool
	// Proof says what vouches for From: nobody hears a report about a message
	// that somebody may have sent in another's name.
	Proof Proof
	// Ret is FULL, HDRS or empty, and EnvID the xtext-decoded ENVID (RFC 3461 §4.3, §4.4).
	Ret, EnvID string
}

// Proof is what is known about a reverse-path. The numbers are on disk.
type Proof int

// The proofs, the stronger the higher.
const (
	Unproven     Proof = iota
	DomainProven       // its domain vouches for the client (SPF), or we trust the client to know
	LoggedIn           // it belongs to the user who submitted the message
)

// Moderation is how far a message to a moderated group has come. The numbers
// are on disk.
type Moderation int

// The stages of moderation.
const (
	Unmoderated Moderation = iota
	Awaiting               // a moderator's word; the queue holds it
	Approved
)

// Recipient is one forward-path and how to treat it.
type Recipient struct {
	Address Address
	// Mailbox names the mailbox of a final delivery, UTF-8 with "/" between
	// levels; empty is INBOX.
	Mailbox string
	// Action names what takes the message in the place of a mailbox, in a final
	// delivery: automatic replies, a program; empty: nothing does.
	Action string
	// Moderation counts where Address is a moderated group.
	Moderation Moderation
	// Flags are set on a final delivery, as IMAP writes them: `\Seen`, `$Forwarded`.
	Flags []string
	// SentCopy marks the sender's own copy of a submission: a store that
	// already holds the same Message-ID in that mailbox keeps the one it has.
	SentCopy bool
	// Notify is the upper-case NOTIFY list of RFC 3461 §4.1 ("NEVER",
	// "SUCCESS,FAILURE", ...); empty is the default.
	Notify string
	// ORCPT is the original recipient as received, "rfc822;user@example" (RFC 3461 §4.2).
	ORCPT string
}

// TraceID names one accepted message from the door to the last next hop:
// 26 characters of lower-case base 32, safe in a header, a log line, a file
// name and an ESMTP parameter.
type TraceID string

var traceEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewTraceID returns a TraceID that nobody can guess: 90 bits from crypto/rand
// behind the time in steps of 4 ms. Those made one after the other
// so lie side by side in a database.
func NewTraceID() TraceID {
	var b [17]byte
	_, _ = rand.Read(b[:])              // never fails since Go 1.24
	steps := time.Now().UnixMilli() / 4 // 40 bits until the year 2109
	for i := range 5 {
		b[i] = byte(steps >> (32 - 8*i))
	}
	return TraceID(traceEncoding.EncodeToString(b[:])[:26])
}

// ParseTraceID returns s as a TraceID if a peer may have made it with
// NewTraceID, and reports whether it did.
func ParseTraceID(s string) (TraceID, bool) {
	if len(s) != 26 {
		return "", false
	}
	for _, c := range []byte(s) {
		if !strings.ContainsRune("0123456789abcdefghjkmnpqrstvwxyz", rune(c)) {
			return "", false
		}
	}
	return TraceID(s), true
}

// Bytes is a Body held in memory.
type Bytes []byte

// Open implements Body.
func (b Bytes) Open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }

// Size implements Body.
func (b Bytes) Size() int64 { return int64(len(b)) }
