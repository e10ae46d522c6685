package ldapclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// resultError is a *directory.ResultError of the same code; nil for success.
func resultError(res ldapwire.Result) error {
	if res.Code == int(directory.Success) {
		return nil
	}
	matched, _ := directory.ParseDN(res.MatchedDN) // only told, never acted upon
	return &directory.ResultError{Code: directory.ResultCode(res.Code), Matched: matched, Text: plain(res.Text)}
}

// plain is a server's diagnostic text, fit for one line.
func plain(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
}

// do runs an operation on a connection of the pool within the timeout. If the
// connection proves to be dead, and again is set, it is run once more on a
// fresh one. Errors are *directory.ResultError or ErrUnavailable.
func (c *Client) do(ctx context.Context, p *pool, again bool, run func(*conn) error) error {
	deadline := c.deadline(ctx)
	for fresh := false; ; fresh = true {
		k, err := p.get(ctx, deadline, fresh)
		if err != nil {
			return err
		}
		done := k.watch(ctx, deadline)
		err = run(k)
		done()
		broken, reused := k.err != nil, k.reused
		p.put(k)
		if err == nil || !broken {
			return err
		}
		if !again || fresh || !reused || ctx.Err() != nil || !time.Now().Before(deadline) {
			return outage(ctx, err)
		}
	}
}

// deadline is when an operation that begins now must be over.
func (c *Client) deadline(ctx context.Context) time.Time {
	deadline := time.Now().Add(c.o.Timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	return deadline
}

var (
	errClosed     = errors.New("client closed")
	errStopped    = errors.New("search stopped")
	errUnexpected = errors.New("server sent an answer of another kind")
)

// outage is what breaks a connection as ErrUnavailable. A result in err's
// chain, as that of a notice of disconnection, is no answer and does not stay
// there; the end of the caller's context does.
func outage(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, cause)
	}
	return fmt.Errorf("%w: %v", directory.ErrUnavailable, err) //nolint:errorlint // see above
}
