package ldapclient

import (
	"context"
	"iter"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

const (
	// batchEntries and batchBytes bound what is collected before it is yielded.
	// What fits comes whole, and its connection is free before the first entry
	// is yielded: a caller who searches again for each entry needs no second one.
	batchEntries = 1000
	batchBytes   = 4 << 20
	// pageSize is asked of servers that page (RFC 2696), as Active Directory
	// must; others ignore it.
	pageSize = 500
)

// Search implements directory.Tree. A result of more than a thousand entries
// is streamed: the connection is held until the last is taken.
func (c *Client) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		s := search{client: c, req: requestOf(q), page: ldapwire.Paged{Size: pageSize}}
		s.paged = q.SizeLimit == 0 && q.Scope != directory.ScopeBase
		err := s.first(ctx)
		for {
			if s.done {
				s.release()
			}
			for _, e := range s.batch {
				if !yield(e, nil) {
					s.stop()
					return
				}
			}
			if err != nil || s.done {
				break
			}
			err = s.more(ctx)
		}
		s.stop()
		if err != nil {
			yield(directory.Entry{}, err)
		}
	}
}

// search is one search under way.
type search struct {
	client *Client
	req    *ldapwire.SearchRequest
	paged  bool
	page   ldapwire.Paged // the next page to ask for

	k    *conn // nil: not ours any more
	id   int
	done bool // the last message came

	batch []directory.Entry
}

// first sends the request and takes the first batch, on a fresh connection if
// an old one proves to be dead.
func (s *search) first(ctx context.Context) error {
	for fresh := false; ; fresh = true {
		deadline := s.client.deadline(ctx)
		k, err := s.client.service.get(ctx, deadline, fresh)
		if err != nil {
			return err
		}
		s.k, s.batch = k, nil
		err = s.ask(ctx, deadline)
		if k.err == nil || fresh || !k.reused || len(s.batch) > 0 || ctx.Err() != nil || !time.Now().Before(deadline) {
			return err
		}
		s.stop()
	}
}

// ask sends the request for the next page and takes a batch.
func (s *search) ask(ctx context.Context, deadline time.Time) error {
	defer s.k.watch(ctx, deadline)()
	s.req.TimeLimit = int((time.Until(deadline) + time.Second - 1) / time.Second)
	var controls []ldapwire.Control
	if s.paged {
		controls = []ldapwire.Control{s.page.Control(false)}
	}
	var err error
	if s.id, err = s.k.send(s.req, controls...); err != nil {
		return outage(ctx, err)
	}
	return s.collect(ctx)
}

// more takes the next batch: of the page under way, or the first of the next.
func (s *search) more(ctx context.Context) error {
	s.batch = s.batch[:0]
	deadline := s.client.deadline(ctx)
	if s.id == 0 {
		return s.ask(ctx, deadline)
	}
	defer s.k.watch(ctx, deadline)()
	return s.collect(ctx)
}

// collect takes entries until the batch is full or the page ends. It sets done
// when there is no more to come, and id to 0 when there is another page.
func (s *search) collect(ctx context.Context) error {
	for size := s.k.received; len(s.batch) < batchEntries && s.k.received-size < batchBytes; {
		m, err := s.k.receive(s.id)
		if err != nil {
			return outage(ctx, err)
		}
		switch op := m.Op.(type) {
		case *ldapwire.SearchEntry:
			if e, err := entryOf(op); err == nil {
				s.batch = append(s.batch, e)
			} else {
				s.client.o.Log.Warn("entry passed over", "err", err)
			}
		case *ldapwire.SearchReference, *ldapwire.IntermediateResponse: // referrals are not followed
		case *ldapwire.Done:
			if op.Kind != ldapwire.TagSearchDone {
				return outage(ctx, s.k.fail(errUnexpected))
			}
			return s.pageEnds(op, m.Controls)
		default:
			return outage(ctx, s.k.fail(errUnexpected))
		}
	}
	return nil
}

// pageEnds takes the result of a page and the cookie of the next.
func (s *search) pageEnds(op *ldapwire.Done, controls []ldapwire.Control) error {
	s.done = true
	if err := resultError(op.Result); err != nil {
		return err
	}
	for _, control := range controls {
		if control.OID != ldapwire.OIDPagedResults || !s.paged {
			continue
		}
		p, err := ldapwire.DecodePaged(control.Value)
		if err == nil && p.Cookie != "" {
			s.page.Cookie = p.Cookie
			s.done, s.id = false, 0
		}
	}
	return nil
}

// release gives the connection back.
func (s *search) release() {
	if s.k != nil {
		s.client.service.put(s.k)
		s.k = nil
	}
}

// stop is release of a connection on which entries may still come: closing it
// is the surest abandon.
func (s *search) stop() {
	if s.k != nil && !s.done {
		_ = s.k.fail(errStopped)
	}
	s.release()
}
