package smtpwire

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"time"

	"mailsrv/pkg/mail"
)

// Handler is the policy of a server: it judges what Serve has read and put in
// order. It serves one connection, from one goroutine. The client hears its
// errors as mail.StatusOf makes them; one of code 421 closes the connection.
//
// Contexts of its calls outlive the drain of the server, not the connection.
type Handler interface {
	// Hello judges HELO, EHLO or LHLO and says what is offered to that client.
	// It comes again after STARTTLS, and whenever the client likes.
	Hello(ctx context.Context, h Hello) (Offer, error)
	// Secured tells that the connection is encrypted from here on, at its
	// start or after STARTTLS. What the client said and proved before is void
	// (RFC 3207 §4.2).
	Secured(state tls.ConnectionState)
	// Auth begins a SASL exchange; mechanism is in upper case.
	Auth(ctx context.Context, mechanism string) (Exchange, error)
	// Mail begins a transaction, unless it fails.
	Mail(ctx context.Context, m Mail) error
	// Rcpt judges one recipient. A refusal leaves the transaction as it was.
	Rcpt(ctx context.Context, r mail.Recipient) error
	// Data takes the message, which it must read up to io.EOF, and ends the
	// transaction. SMTP wants one reply, LMTP one for each accepted recipient
	// in order (RFC 2033 §4.2); positive ones have code 250. An error of r must
	// not be answered with one: the message is not whole.
	Data(ctx context.Context, r io.Reader) []*mail.Status
	// Reset ends a transaction that Data has not ended.
	Reset()
}

// Starter is a Handler that starts sending what waits for a host (ETRN,
// RFC 1985), where Offer.ETRN is set.
type Starter interface {
	// Start makes the mail for a domain, of ours to keep for it, due now, and
	// for its subdomains if wide. It returns how many recipients wait.
	Start(ctx context.Context, domain string, wide bool) (int, error)
}

// Taker is a Handler that takes over the connection of who has logged in.
type Taker interface {
	// Takes is asked after a login was accepted and before that is answered. If
	// it is true, Serve returns nil with the login unanswered and the connection
	// as it is.
	Takes() bool
}

// Exchange is the server's side of a SASL exchange (auth.Exchange is one).
type Exchange interface {
	// Next takes the client's response, nil if there was no initial one, and
	// returns the next challenge, or done. A *mail.Status of code 535 counts
	// as a failed login.
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
}

// Hello is how a client introduced itself.
type Hello struct {
	// Name is printable ASCII without blanks, parentheses, quotes and the like,
	// at most 255 bytes, and not verified.
	Name string
	// ESMTP: it said EHLO or LHLO, not HELO.
	ESMTP bool
}

// Options of a session. A zero limit means none, a zero time for ever.
type Options struct {
	// LMTP, or else SMTP.
	LMTP bool
	// Hostname greets the client.
	Hostname string
	// TLS is for STARTTLS; nil: not offered.
	TLS *tls.Config
	// MaxSize bounds a message, in bytes; it is announced.
	MaxSize int64
	// MaxRecipients bounds one transaction.
	MaxRecipients int
	Limits        Limits
	// Log gets a line at Info for each refused command, and the dialogue, without
	// secrets, at Debug.
	Log *slog.Logger
}

// Limits bound what a client may cost. A zero limit means none, a zero time
// for ever.
type Limits struct {
	// Command is for each command line and login response (RFC 5321 §4.5.3.2.7).
	Command time.Duration
	// Data is for each wait within a message, and the head start before its
	// least rate of 500 bytes a second is asked for.
	Data time.Duration
	// Handshake is for TLS.
	Handshake time.Duration
	// Prelude is how long a client may stay before its first sender or login
	// is accepted.
	Prelude time.Duration
	// SoftErrors is how many refused commands are answered at once; each
	// further one waits ErrorDelay first. At HardErrors the connection ends.
	// An accepted message sets the count back.
	SoftErrors, HardErrors int
	ErrorDelay             time.Duration
	// Junk is how many commands that carry no mail may come in a row.
	Junk int
	// Logins is how many failed logins end the connection.
	Logins int
}

// PublicLimits are for clients nobody knows.
func PublicLimits() Limits {
	return Limits{
		Command: 5 * time.Minute, Data: 3 * time.Minute, Handshake: 10 * time.Second, Prelude: 10 * time.Minute,
		SoftErrors: 10, HardErrors: 20, ErrorDelay: time.Second, Junk: 100, Logins: 3,
	}
}

// TrustedLimits are for clients within our own network, who may ask for many
// recipients that do not exist.
func TrustedLimits() Limits {
	l := PublicLimits()
	l.Prelude, l.SoftErrors, l.HardErrors, l.Junk = 0, 0, 0, 0
	return l
}

// Reported returns err as a Status that the Handler, or what is behind it, has
// logged already. A nil err is nil.
func Reported(err error) *mail.Status {
	if err == nil {
		return nil
	}
	st := *mail.StatusOf(err)
	st.Err = reported{st.Err}
	return &st
}

// reported holds the private cause, which may be nil.
type reported struct{ error }

// Error implements error.
func (r reported) Error() string {
	if r.error == nil {
		return "reported before"
	}
	return r.error.Error()
}

// Unwrap returns the private cause.
func (r reported) Unwrap() error { return r.error }
