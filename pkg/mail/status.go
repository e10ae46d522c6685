package mail

import (
	"errors"
	"fmt"
)

// ErrOutage is in the chain of a transient error that is about something of
// our own, which does not answer now: the directory, a store, the DNS. It says
// nothing of the message or its recipient, and is over the moment that one is
// back.
var ErrOutage = errors.New("out of service")

// Status is an SMTP reply: a 3-digit code (RFC 5321 §4.2), an enhanced code
// (RFC 3463) and a text that is safe to show a stranger. Err is the private
// cause, for the log alone.
type Status struct {
	Code     int
	Enhanced [3]int
	Text     string
	Err      error
}

// Error implements error; it holds the private cause and is for logs only.
func (s *Status) Error() string {
	if s.Err != nil {
		return fmt.Sprintf("%s: %v", s.Reply(), s.Err)
	}
	return s.Reply()
}

// Reply is what a client may hear: "550 5.1.1 no such user here".
func (s *Status) Reply() string {
	return fmt.Sprintf("%d %d.%d.%d %s", s.Code, s.Enhanced[0], s.Enhanced[1], s.Enhanced[2], s.Text)
}

// Unwrap returns the private cause.
func (s *Status) Unwrap() error { return s.Err }

// Permanent reports whether trying again is useless (a 5yz code).
func (s *Status) Permanent() bool { return s.Code >= 500 }

// StatusOf returns err as a Status. A nil err is nil; an error that says
// nothing of itself is transient: 451 4.3.0 (house rule: unknown means
// transient).
func StatusOf(err error) *Status {
	if err == nil {
		return nil
	}
	if s, ok := errors.AsType[*Status](err); ok {
		return s
	}
	return &Status{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "temporary failure, try again later", Err: err}
}

// IsPermanent reports whether err is, or wraps, a permanent Status.
func IsPermanent(err error) bool {
	s, ok := errors.AsType[*Status](err)
	return ok && s.Permanent()
}

// Refuse returns a permanent Status: code 550 and the given enhanced code.
func Refuse(subject, detail int, text string) *Status {
	return &Status{Code: 550, Enhanced: [3]int{5, subject, detail}, Text: text}
}

// TryLater returns a transient Status: code 451 and the given enhanced code,
// with the private cause err, which may be nil.
func TryLater(subject, detail int, text string, err error) *Status {
	return &Status{Code: 451, Enhanced: [3]int{4, subject, detail}, Text: text, Err: err}
}

// All returns n times the same error: the answer of a Deliverer that failed
// before it could tell its recipients apart.
func All(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
