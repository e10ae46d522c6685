package imapserver

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// catenate reads the parts of a message that is put together from texts and
// from messages that are here already (RFC 4469).
func (a *incoming) catenate(spool *blob.Spool) error {
	a.l.Expect('(')
	for {
		var err error
		switch a.l.Keyword() {
		case "TEXT":
			a.l.Space()
			err = a.take(spool, a.l.Peek() == '~')
		case "URL":
			a.l.Space()
			err = a.url(spool)
		default:
			a.l.Fail("expected TEXT or URL")
		}
		if err != nil {
			return err
		}
		if a.l.Peek() != ' ' {
			break
		}
		a.l.Space()
	}
	a.l.Expect(')')
	if err := a.l.Err(); err != nil {
		return bad(err)
	}
	return nil
}

// url reads a URL, which may be a literal, and appends what it names.
func (a *incoming) url(spool *blob.Spool) error {
	var text string
	if a.l.AtEnd() && a.l.Err() == nil && a.literal != nil {
		if a.literal.Size() > maxURL {
			return no("TOOBIG", "URL is too long")
		}
		b := make([]byte, a.literal.Size())
		if _, err := io.ReadFull(a.literal, b); err != nil {
			return fmt.Errorf("reading a URL: %w: %w", errConnection, err)
		}
		if err := a.next(); err != nil {
			return err
		}
		text = string(b)
	} else if text = a.l.AString(); a.l.Err() != nil {
		return bad(a.l.Err())
	}
	u, ok := parseURL(text)
	if !ok {
		return badURL(text)
	}
	err := a.copyFrom(spool, u)
	if errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoMessage) || errors.Is(err, errNoPart) {
		return badURL(text)
	}
	return err
}

func badURL(text string) error {
	quoted, ok := imapwire.AppendQuoted(nil, text)
	if !ok {
		return no("BADURL \"\"", "URL names nothing here")
	}
	return no("BADURL "+string(quoted), "URL names nothing here")
}

var errNoPart = errors.New("no such part")

// copyFrom appends what u names to spool.
func (a *incoming) copyFrom(spool *blob.Spool, u messageURL) error {
	c := a.c
	box, err := c.store.Account.Open(c.ctx, u.mailbox)
	if err != nil {
		return err
	}
	if u.uidValidity != 0 {
		status, err := box.Status(c.ctx)
		if err != nil {
			return err
		}
		if status.UIDValidity != u.uidValidity {
			return store.ErrNoMessage
		}
	}
	var parts *mime.Parts
	for m, err := range box.Messages(c.ctx, store.UIDsOf(u.uid), store.FieldParts) {
		if err != nil {
			return err
		}
		if parts, err = mime.DecodeParts(m.Parts); err != nil {
			return fmt.Errorf("message %d: %w", u.uid, err)
		}
	}
	body, err := box.Body(c.ctx, u.uid)
	if err != nil {
		return err
	}
	defer body.Close()
	from, to, ok := u.section.locate(parts, body.Size())
	if !ok || u.section.Part == imapwire.PartHeaderFields || u.section.Part == imapwire.PartHeaderFieldsNot {
		return errNoPart
	}
	if p := u.section.partial; p != nil {
		from += u.section.clip(to - from)
		to = from + min(to-from, p.Count)
	}
	if err := a.admit(spool, to-from); err != nil {
		return err
	}
	if _, err := io.Copy(spool, io.NewSectionReader(body, from, to-from)); err != nil {
		return fmt.Errorf("copying from message %d: %w", u.uid, err)
	}
	return nil
}

// messageURL names a message of the account, or a part of it (RFC 5092 §6).
type messageURL struct {
	mailbox     string
	uidValidity uint32 // 0: any
	uid         store.UID
	section     fetchSection
}

// parseURL reads "/mailbox;UIDVALIDITY=1/;UID=2/;SECTION=3/;PARTIAL=4.5".
// URLs with a host name another session's messages, and are not served.
func parseURL(s string) (u messageURL, ok bool) {
	path, ok := strings.CutPrefix(s, "/")
	if !ok || strings.HasPrefix(path, "/") {
		return u, false
	}
	pieces := strings.Split(path, "/;")
	mailbox, validity, found := cutFold(pieces[0], ";UIDVALIDITY=")
	if found {
		n, err := strconv.ParseUint(validity, 10, 32)
		if err != nil || n == 0 {
			return u, false
		}
		u.uidValidity = uint32(n)
	}
	name, err := url.PathUnescape(mailbox)
	if err != nil {
		return u, false
	}
	u.mailbox = name
	for _, piece := range pieces[1:] {
		key, value, _ := strings.Cut(piece, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return u, false
		}
		switch strings.ToUpper(key) {
		case "UID":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return u, false
			}
			u.uid = store.UID(n)
		case "SECTION":
			l := imapwire.NewLexer([]byte("["+value+"]"), 2)
			if u.section.Section = l.Section(); l.End() != nil {
				return u, false
			}
		case "PARTIAL":
			l := imapwire.NewLexer([]byte("<"+value+">"), 1)
			p, ok := l.Partial()
			if !ok || l.End() != nil {
				return u, false
			}
			u.section.partial = &p
		default:
			return u, false
		}
	}
	return u, u.uid != 0
}

// cutFold is strings.Cut for a separator in upper case, in any case.
func cutFold(s, sep string) (before, after string, found bool) {
	if i := strings.Index(strings.ToUpper(s), sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
