package ldapclient

import (
	"fmt"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// filterKinds says what a Tree's kinds are on the wire.
var filterKinds = [...]ldapwire.FilterKind{
	directory.Present:        ldapwire.Present,
	directory.And:            ldapwire.And,
	directory.Or:             ldapwire.Or,
	directory.Not:            ldapwire.Not,
	directory.Equality:       ldapwire.Equality,
	directory.Substrings:     ldapwire.Substrings,
	directory.GreaterOrEqual: ldapwire.GreaterOrEqual,
	directory.LessOrEqual:    ldapwire.LessOrEqual,
	directory.Approx:         ldapwire.Approx,
	directory.Extensible:     ldapwire.Extensible,
}

func filterOf(f *directory.Filter) ldapwire.Filter {
	out := ldapwire.Filter{
		Kind:         filterKinds[f.Kind],
		Attribute:    f.Attribute,
		Value:        f.Value,
		Initial:      f.Initial,
		Any:          f.Any,
		Final:        f.Final,
		Rule:         f.Rule,
		DNAttributes: f.DNAttributes,
	}
	if out.Kind == ldapwire.Present && out.Attribute == "" {
		out.Attribute = "objectClass" // the zero Filter
	}
	if len(f.Children) > 0 {
		out.Children = make([]ldapwire.Filter, len(f.Children))
		for i := range f.Children {
			out.Children[i] = filterOf(&f.Children[i])
		}
	}
	return out
}

// requestOf is q without limits of time.
func requestOf(q directory.Query) *ldapwire.SearchRequest {
	return &ldapwire.SearchRequest{
		Base:       q.Base.String(),
		Scope:      int(q.Scope),
		SizeLimit:  q.SizeLimit,
		TypesOnly:  q.TypesOnly,
		Filter:     filterOf(&q.Filter),
		Attributes: q.Attributes,
	}
}

func entryOf(m *ldapwire.SearchEntry) (directory.Entry, error) {
	dn, err := directory.ParseDN(m.DN)
	if err != nil {
		return directory.Entry{}, fmt.Errorf("reading the DN %q: %w", m.DN, err)
	}
	e := directory.Entry{DN: dn, Attributes: make([]directory.Attribute, len(m.Attributes))}
	for i, a := range m.Attributes {
		e.Attributes[i] = directory.Attribute(a)
	}
	return e, nil
}
