package imapserver

import (
	"bytes"
	"errors"
	"fmt"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
)

// meetsBody puts the conditions that need the message itself to who.
func (c *session) meetsBody(conditions []condition, _ cost, who *candidate) (bool, error) {
	who.body = bytes.NewReader(who.m.Text)
	if who.m.Text == nil {
		body, err := c.box.box.Body(c.ctx, c.box.uids[who.i])
		if errors.Is(err, store.ErrNoMessage) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer body.Close()
		who.body = body
	}
	var err error
	if who.parts, err = mime.DecodeParts(who.m.Parts); err != nil {
		c.log.Error("table of parts cannot be read", "mailbox", c.box.box.Name(), "uid", c.box.uids[who.i], "err", err)
		return false, nil
	}
	return meetsAll(conditions, costBody, who)
}

// bodyHas looks for needle in the texts of the message and in the headers of
// messages within it, decoded; with header also in its own header.
func (who *candidate) bodyHas(needle []byte, header bool) (bool, error) {
	if len(needle) == 0 {
		return true, nil
	}
	found := false
	var window []byte // the end of the text so far and the piece in hand
	err := who.text.Message(who.body, who.parts, header, func(piece []byte, begins bool) bool {
		if begins {
			window = window[:0]
		}
		window = append(window, piece...)
		found = bytes.Contains(window, needle)
		if tail := len(needle) - 1; len(window) > tail {
			window = window[:copy(window, window[len(window)-tail:])]
		}
		return !found
	})
	if err != nil {
		err = fmt.Errorf("reading message %d: %w", who.m.UID, err)
	}
	return found, err
}

// inField looks for needle, folded, in the decoded fields of a header that
// have that name.
func inField(t *store.SearchText, header []byte, name string, needle []byte) bool {
	for f := range mime.Fields(header) {
		if f.Is(name) && (len(needle) == 0 || bytes.Contains(t.Field(f, false), needle)) {
			return true
		}
	}
	return false
}
