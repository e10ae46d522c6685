package mmp

import (
	"context"

	"mailsrv/pkg/auth"
)

const (
	// MaxResponse bounds one line of a SASL exchange, in octets (RFC 4954 §4
	// names 12288 for the longest known mechanism).
	MaxResponse = 12288
	// maxRounds bounds the challenges of one exchange.
	maxRounds = 10
)

// Exchange carries a SASL exchange to its end, from the client's initial
// response (nil: it sent none). ask sends a challenge and returns the
// response; its error ends the exchange and comes back unchanged.
func Exchange(ctx context.Context, x auth.Exchange, response []byte, ask func(challenge []byte) ([]byte, error)) error {
	for range maxRounds {
		challenge, done, err := x.Next(ctx, response)
		if err != nil {
			return err
		}
		if done && len(challenge) == 0 {
			return nil
		}
		if response, err = ask(challenge); err != nil {
			return err
		}
		if done { // the challenge told of success, which the client confirmed
			return nil
		}
	}
	return auth.ErrMalformed
}
