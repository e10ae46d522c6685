package ldapserver

import (
	"context"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// asker is for whom an operation runs: who is bound, or whom they stand for by
// the proxied authorization control.
type asker struct {
	directory.Subject
	privileged bool
}

func (a asker) nobody() bool { return a.DN.IsRoot() }

// asker is who has that DN, with the domains they administer.
func (s *Server) asker(ctx context.Context, dn directory.DN) (asker, error) {
	a := asker{Subject: directory.Subject{DN: dn}, privileged: s.o.Access.Privileged(dn)}
	if a.privileged || dn.IsRoot() {
		return a, nil
	}
	var err error
	a.Domains, err = s.domainsOf(ctx, dn)
	return a, err
}

// mayRead reports whether the asker may see the attribute, no password, in the
// entry dn; "" stands for the entry itself.
func (a asker) mayRead(s *Server, dn directory.DN, attribute string) bool {
	return a.privileged || s.o.Access.MayRead(a.Subject, dn, attribute)
}

// mayFilter reports whether the asker may see each attribute that the filter
// names.
func (a asker) mayFilter(s *Server, dn directory.DN, f *directory.Filter) bool {
	if f.Attribute != "" && !a.mayRead(s, dn, s.named(f.Attribute)) {
		return false
	}
	for i := range f.Children {
		if !a.mayFilter(s, dn, &f.Children[i]) {
			return false
		}
	}
	return true
}

// censored is the filter with what the asker may not see of the entry as
// Undefined: it proves nothing, and leaves the rest as it is (RFC 4511 §4.5.1.7).
func (a asker) censored(s *Server, dn directory.DN, f directory.Filter) directory.Filter {
	if f.Attribute != "" && !a.mayRead(s, dn, s.named(f.Attribute)) {
		return directory.Filter{Kind: directory.Extensible, Rule: undefinedRule}
	}
	if len(f.Children) > 0 {
		children := make([]directory.Filter, len(f.Children))
		for i, c := range f.Children {
			children[i] = a.censored(s, dn, c)
		}
		f.Children = children
	}
	return f
}

// mayWrite is nil if the asker may change that attribute of the entry ("": the
// entry itself), and it can be changed.
func (a asker) mayWrite(s *Server, dn directory.DN, attribute string) error {
	switch {
	case a.nobody():
		return refusal(directory.InsufficientAccessRights, "bind first")
	case !s.o.Access.MayWrite(a.Subject, dn, s.named(attribute)):
		return refusal(directory.InsufficientAccessRights, "")
	case s.editor == nil:
		return refusal(directory.UnwillingToPerform, "this directory is read-only")
	}
	return nil
}

// named is the one name that rules know an attribute by: without options, and
// whatever other name or OID the client took.
func (s *Server) named(description string) string {
	name := baseName(description)
	if s.o.Schema != nil {
		if t := s.o.Schema.Attribute(name); t != nil {
			return t.Name()
		}
	}
	return name
}

// limits are the smaller of the asker's and the request's.
func (a asker) limits(s *Server, req *ldapwire.SearchRequest) (size int, limit time.Duration) {
	size, limit = s.o.SizeLimit, s.o.TimeLimit
	if a.privileged {
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
