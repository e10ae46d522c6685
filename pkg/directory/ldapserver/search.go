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
func (c *session) search(ctx context.Context, op *operation, request ldapwire.Op) ldapwire.Result {
	req := request.(*ldapwire.SearchRequest)
	start, sent := time.Now(), 0
	res := func() ldapwire.Result {
		base, err := parseDN(req.Base)
		switch {
		case err != nil:
			return c.result(err)
		case req.Scope > int(directory.ScopeSubtree):
			return result(directory.ProtocolError, "unknown scope")
		case base.IsRoot() && req.Scope == int(directory.ScopeBase):
			return c.rootDSE(op, req)
		case c.who.IsRoot():
			return result(directory.InsufficientAccessRights, "bind first")
		}
		sent, err = c.find(ctx, op, req, base)
		return c.result(err)
	}()
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.Debug("search", "id", op.id, "base", printable(req.Base), "scope", req.Scope, "filter", redacted(req.Filter).String(),
			"entries", sent, "code", res.Code, "duration", time.Since(start))
	}
	return res
}

// limits are the smaller of the asker's and the request's.
func (c *session) limits(req *ldapwire.SearchRequest) (size int, limit time.Duration) {
	size, limit = c.srv.o.SizeLimit, c.srv.o.TimeLimit
	if c.privileged {
		size, limit = max(size, privilegedSize), max(limit, privilegedTime)
	}
	if req.SizeLimit > 0 {
		size = min(size, req.SizeLimit)
	}
	if req.TimeLimit > 0 {
		limit = min(limit, time.Duration(req.TimeLimit)*time.Second)
	}
	return size, limit
}

// find runs the search and returns how many entries it sent.
func (c *session) find(ctx context.Context, op *operation, req *ldapwire.SearchRequest, base directory.DN) (sent int, err error) {
	size, _ := c.limits(req)
	q := directory.Query{
		Base:       base,
		Scope:      directory.Scope(req.Scope),
		Filter:     filterOf(&req.Filter),
		Attributes: req.Attributes,
		SizeLimit:  size,
		TypesOnly:  req.TypesOnly,
	}
	if !c.privileged {
		// What the asker may not see must not count: the engine's bound is
		// only there for memory's sake.
		q.SizeLimit = max(size, privilegedSize)
	}
	for e, err := range c.srv.o.Tree.Search(ctx, q) {
		if err != nil {
			if !c.privileged && errors.Is(err, directory.ErrNotFound) && !c.mayRead(base, "") {
				err = nil // whether it exists is not the asker's to know
			}
			return sent, err
		}
		if !c.privileged && !c.visible(e.DN, &q.Filter) {
			continue
		}
		if sent == size {
			return sent, refusal(directory.SizeLimitExceeded, "size limit exceeded")
		}
		if err := c.send(op, e); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// visible reports whether the asker may know that the entry matches: it may
// see the entry and each attribute that the filter names. (An assertion about
// an attribute that may not be read is Undefined, and proves nothing.)
func (c *session) visible(dn directory.DN, f *directory.Filter) bool {
	return c.mayRead(dn, "") && c.mayFilter(dn, f)
}

func (c *session) mayFilter(dn directory.DN, f *directory.Filter) bool {
	if f.Attribute != "" && !c.mayRead(dn, baseName(f.Attribute)) {
		return false
	}
	for i := range f.Children {
		if !c.mayFilter(dn, &f.Children[i]) {
			return false
		}
	}
	return true
}

// mayRead reports whether the asker may see the attribute, no password, in the
// entry dn; "" stands for the entry itself.
func (c *session) mayRead(dn directory.DN, attribute string) bool {
	return c.privileged || c.srv.o.Access.MayRead(c.who, dn, attribute)
}

// send encodes an entry into the write buffer.
func (c *session) send(op *operation, e directory.Entry) error {
	return c.out.append(op, func(dst []byte) []byte {
		return ldapwire.AppendEntry(dst, op.id, e.DN.String(), c.readable(e))
	})
}

// readable yields the attributes that the asker may see; never a password.
func (c *session) readable(e directory.Entry) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for _, a := range e.Attributes {
			if isPassword(a.Name) || !c.mayRead(e.DN, baseName(a.Name)) {
				continue
			}
			if !yield(a.Name, a.Values) {
				return
			}
		}
	}
}
