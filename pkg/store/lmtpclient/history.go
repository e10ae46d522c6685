package lmtpclient

import (
	"context"
	"fmt"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire/smtpwire"
)

// History asks the store what it knows of a message, over a connection of its
// own; empty if it knows nothing, or is no store of ours.
func (c *Client) History(ctx context.Context, trace mail.TraceID) ([]byte, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking store %s: %w", c.o.Addr, err)
	}
	defer conn.quit()
	if !conn.ext.Has(smtpwire.ExtHistory) {
		return nil, nil
	}
	conn.wire.WriteString("XHISTORY " + string(trace) + "\r\n")
	r, err := conn.reply("XHISTORY")
	if err == nil && !r.OK() {
		err = r.Status()
	}
	if err != nil {
		return nil, fmt.Errorf("asking store %s: %w", c.o.Addr, err)
	}
	return smtpwire.ParseHistory(r)
}
