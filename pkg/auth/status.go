package auth

import (
	"errors"

	"mailsrv/pkg/mail"
)

// Status gives an error of this package its reply to AUTH (RFC 4954 §6). Unknown
// user and wrong password read alike, and an outage is never either: 454.
func Status(err error) *mail.Status {
	switch {
	case errors.Is(err, ErrBadCredentials):
		return &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "bad credentials", Err: err}
	case errors.Is(err, ErrRefused):
		return &mail.Status{Code: 535, Enhanced: [3]int{5, 7, 13}, Text: "account may not log in here", Err: err}
	case errors.Is(err, ErrMalformed):
		return &mail.Status{Code: 501, Enhanced: [3]int{5, 5, 2}, Text: "malformed response", Err: err}
	case errors.Is(err, ErrMechanism):
		return &mail.Status{Code: 504, Enhanced: [3]int{5, 5, 4}, Text: "no such mechanism", Err: err}
	case errors.Is(err, ErrThrottled):
		return &mail.Status{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "too many failed logins, try again later", Err: err}
	}
	return &mail.Status{Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "login unavailable, try again later", Err: err}
}
