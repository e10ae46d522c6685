package ldapserver

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// search sends what matches and may be seen, and returns how it ended (RFC
// 4511 §4.5). Entries sent before a limit was met stay sent.
func (c *session) search(ctx context.Context, op *operation, request ldapwire.Op, with controls) (res ldapwire.Result, answers []ldapwire.Control) {
	req := request.(*ldapwire.SearchRequest)
	start, sent := time.Now(), 0
	with.deref = req.DerefAliases
	base, err := parseDN(req.Base)
	switch {
	case err != nil:
	case req.Scope > int(directory.ScopeSubtree):
		err = refusal(directory.ProtocolError, "unknown scope")
	case base.IsRoot() && req.Scope == int(directory.ScopeBase):
		err = c.rootDSE(op, req)
	case c.isSubschema(base):
		err = c.subschema(op, req, with.as)
	case with.as.nobody() && !c.srv.o.Access.Anonymous():
		err = refusal(directory.InsufficientAccessRights, "bind first")
	default:
		sent, answers, err = c.find(ctx, op, req, base, with)
	}
	res = with.as.result(c, err)
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.Debug("search", "id", op.id, "base", printable(req.Base), "scope", req.Scope, "filter", redacted(req.Filter).String(),
			"entries", sent, "code", res.Code, "duration", time.Since(start))
	}
	return res, answers
}

// find runs the search and returns how many entries it sent.
func (c *session) find(ctx context.Context, op *operation, req *ldapwire.SearchRequest, base directory.DN, with controls) (sent int, answers []ldapwire.Control, err error) {
	size, _ := with.as.limits(c.srv, req)
	q := directory.Query{
		Base:       base,
		Scope:      directory.Scope(req.Scope),
		Filter:     filterOf(&req.Filter),
		Attributes: req.Attributes,
		SizeLimit:  size,
		TypesOnly:  req.TypesOnly,
	}
	if !with.as.privileged {
		// What the asker may not see must not count: the engine's bound is
		// only there for memory's sake.
		q.SizeLimit = max(size, privilegedSize)
	}
	if with.assert != nil {
		if found, err := c.exists(ctx, base, *with.assert); err != nil || !found {
			if err == nil {
				err = refusal(directory.AssertionFailed, "")
			}
			return 0, nil, err
		}
	}
	if with.sort != nil {
		answer, err := c.sortable(with)
		if err != nil {
			return 0, []ldapwire.Control{answer}, err
		}
		answers = append(answers, answer)
	}
	if with.paged != nil {
		sent, answer, err := c.page(ctx, op, req, q, with, size)
		return sent, append(answers, answer...), err
	}
	for e, err := range c.results(ctx, q, with, size) {
		if err != nil {
			return sent, answers, err
		}
		if sent == size {
			return sent, answers, refusal(directory.SizeLimitExceeded, "size limit exceeded")
		}
		if err := c.send(op, e, with.as); err != nil {
			return sent, answers, err
		}
		sent++
	}
	return sent, answers, nil
}

// visible are the entries that the asker may know to match: they may see the
// entry, and it matches without what they may not see of it.
func (c *session) visible(ctx context.Context, entries iter.Seq2[directory.Entry, error], q directory.Query, as asker) iter.Seq2[directory.Entry, error] {
	if as.privileged {
		return entries
	}
	return func(yield func(directory.Entry, error) bool) {
		for e, err := range entries {
			switch {
			case err != nil:
				if errors.Is(err, directory.ErrNotFound) && !as.mayRead(c.srv, q.Base, "") {
					return // whether it exists is not the asker's to know
				}
			case !as.mayRead(c.srv, e.DN, ""):
				continue
			case !as.mayFilter(c.srv, e.DN, &q.Filter):
				var ok bool
				if ok, err = c.exists(ctx, e.DN, as.censored(c.srv, e.DN, q.Filter)); err == nil && !ok || errors.Is(err, directory.ErrNotFound) {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// send encodes an entry into the write buffer.
func (c *session) send(op *operation, e directory.Entry, as asker) error {
	return c.out.append(op, func(dst []byte) []byte {
		return ldapwire.AppendEntry(dst, op.id, e.DN.String(), c.readable(e, as))
	})
}

// readable yields the attributes that the asker may see; never a password.
func (c *session) readable(e directory.Entry, as asker) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, a := range e.Attributes {
			if isPassword(a.Name) || !as.mayRead(c.srv, e.DN, c.srv.named(a.Name)) {
				continue
			}
			if !yield(a.Name, a.Values) {
				return
			}
		}
	}
}
