package ldapserver

import (
	"context"
	"crypto/rand"
	"iter"
	"slices"
	"sync"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// maxCursors bounds the paged searches that a connection may leave open; the
// oldest goes first.
const maxCursors = 4

// cursor is a paged search between two pages (RFC 2696).
type cursor struct {
	cookie string
	// question is what was asked: a cookie is good for the same question only.
	question string
	ctx      *pageContext
	next     func() (directory.Entry, error, bool)
	stop     func()
	sent     int
	held     *directory.Entry // came with the last page, belongs to the next
}

// cursors are the open ones, the oldest first.
type cursors struct {
	mu   sync.Mutex
	open []*cursor
}

func (l *cursors) take(cookie, question string) *cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.open, func(k *cursor) bool { return k.cookie == cookie && k.question == question })
	if i < 0 {
		return nil
	}
	k := l.open[i]
	l.open = slices.Delete(l.open, i, i+1)
	return k
}

func (l *cursors) put(k *cursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open = append(l.open, k); len(l.open) > maxCursors {
		l.open[0].stop()
		l.open = l.open[1:]
	}
}

func (l *cursors) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.open {
		k.stop()
	}
	l.open = nil
}

// pageContext is the context of a search that lives from page to page: each
// page brings its own end.
type pageContext struct {
	context.Context
}

// page sends one page of a search. The size limit holds for all pages together.
func (c *session) page(ctx context.Context, op *operation, req *ldapwire.SearchRequest, q directory.Query, with controls, size int) (sent int, answers []ldapwire.Control, err error) {
	question := string(ldapwire.AppendMessage(nil, ldapwire.Message{Op: req})) + with.as.DN.String()
	var k *cursor
	switch {
	case with.paged.Cookie == "" && with.paged.Size == 0: // an estimate alone: we make none
		return 0, []ldapwire.Control{ldapwire.Paged{}.Control(false)}, nil
	case with.paged.Cookie == "":
		k = &cursor{question: question, ctx: &pageContext{ctx}}
		k.next, k.stop = iter.Pull2(c.results(k.ctx, q, with, size))
	default:
		if k = c.cursors.take(with.paged.Cookie, question); k == nil {
			return 0, nil, refusal(directory.UnwillingToPerform, "unknown or used cookie")
		}
		k.ctx.Context = ctx
	}
	more := false
	sent, more, err = c.sendPage(op, k, with, size)
	if err != nil || !more || with.paged.Size == 0 { // §3: size 0 with a cookie gives the search up
		k.stop()
		return sent, []ldapwire.Control{ldapwire.Paged{}.Control(false)}, err
	}
	k.ctx.Context = context.Background() // nothing runs until the next page
	k.cookie = rand.Text()
	c.cursors.put(k)
	return sent, []ldapwire.Control{ldapwire.Paged{Cookie: k.cookie}.Control(false)}, nil
}

// sendPage sends up to the page's size, and reports whether there is more.
func (c *session) sendPage(op *operation, k *cursor, with controls, size int) (sent int, more bool, err error) {
	for {
		e, err, ok := directory.Entry{}, error(nil), true
		if k.held != nil {
			e, k.held = *k.held, nil
		} else {
			e, err, ok = k.next()
		}
		switch {
		case !ok:
			return sent, false, nil
		case err != nil:
			return sent, false, err
		case k.sent == size:
			return sent, false, refusal(directory.SizeLimitExceeded, "size limit exceeded")
		case sent >= with.paged.Size:
			k.held = &e
			return sent, true, nil
		}
		if err := c.send(op, e, with.as); err != nil {
			return sent, false, err
		}
		sent++
		k.sent++
	}
}
