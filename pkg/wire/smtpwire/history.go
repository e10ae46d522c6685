package smtpwire

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailsrv/pkg/mail"
)

// Historian is a Handler that tells another host of ours what it knows of a
// message: the answer to our own XHISTORY trace-id, where Offer.History is set.
type Historian interface {
	// History returns what is known, in whatever form the two ends agreed on;
	// empty if nothing is.
	History(ctx context.Context, trace mail.TraceID) ([]byte, error)
}

// Bounds of a history: what ReadReply takes, and what it may unfold to.
const (
	historyLine  = 400
	historyLines = 100
	maxHistory   = 4 << 20
)

// history serves XHISTORY.
func (s *session) history(cmd Command) {
	h, ok := s.h.(Historian)
	trace, valid := mail.ParseTraceID(cmd.Arg)
	switch {
	case !ok || !s.offer.History:
		s.fail(cmd.Verb, status(500, 5, 1, "command not recognized"))
		return
	case !valid:
		s.fail(cmd.Verb, status(501, 5, 4, "syntax is XHISTORY trace-id"))
		return
	}
	text, err := h.History(s.ctx, trace)
	if err != nil {
		s.fail(cmd.Verb, mail.StatusOf(err))
		return
	}
	lines := historyReply(text)
	if lines == nil {
		s.fail(cmd.Verb, status(452, 3, 0, "too long a history"))
		return
	}
	s.c.SetOut(appendLines(s.c.Out(), 250, lines))
}

// historyReply is a history as the lines of a reply, the first of which says
// nothing; nil if it is too long.
func historyReply(text []byte) []string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(text)
	if err = errors.Join(err, z.Close()); err != nil { // to memory: never
		return nil
	}
	lines := []string{"history"}
	for code := base64.StdEncoding.EncodeToString(b.Bytes()); code != ""; {
		n := min(len(code), historyLine)
		lines = append(lines, code[:n])
		code = code[n:]
	}
	if len(lines) > historyLines {
		return nil
	}
	return lines
}

// ParseHistory reads the reply to XHISTORY.
func ParseHistory(r Reply) ([]byte, error) {
	code, err := base64.StdEncoding.DecodeString(strings.Join(r.Lines[1:], ""))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxHistory+1))
	if err == nil && len(text) > maxHistory {
		err = errors.New("too long a history")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReply, err)
	}
	return text, nil
}
