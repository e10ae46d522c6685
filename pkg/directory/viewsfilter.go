package directory

import (
	"context"
	"strconv"
	"strings"
)

// mentions reports whether the filter is about a view.
func mentions(f *Filter) bool {
	switch {
	case f.Attribute == "":
	case isView(f.Attribute), strings.EqualFold(f.Attribute, "objectCategory"):
		return true
	case strings.EqualFold(f.Attribute, "objectClass"):
		return f.Kind == Equality && classView(f.Value).Kind != Present
	}
	for i := range f.Children {
		if mentions(&f.Children[i]) {
			return true
		}
	}
	return false
}

func isUser() Filter  { return Equal("objectClass", "inetMailUser") }
func isGroup() Filter { return Equal("objectClass", "groupOfUniqueNames") }

// classView is the filter for entries that have a class as a view; the zero
// Filter: it is none.
func classView(class string) Filter {
	switch strings.ToLower(class) {
	case "posixaccount", "shadowaccount", "user":
		return isUser()
	case "posixgroup", "group", "groupofnames":
		return isGroup()
	}
	return Filter{}
}

// rewrite is the filter with what the views mean in the place of their names, or
// the entries' own attributes of these names.
func (v *Views) rewrite(ctx context.Context, f Filter) (Filter, error) {
	if len(f.Children) > 0 {
		children := make([]Filter, len(f.Children))
		for i, c := range f.Children {
			var err error
			if children[i], err = v.rewrite(ctx, c); err != nil {
				return f, err
			}
		}
		f.Children = children
		return f, nil
	}
	if !mentions(&f) {
		return f, nil
	}
	view, err := v.meaning(ctx, f)
	if err != nil || view.isZero() {
		return f, err
	}
	if v.o.Known != nil && !v.o.Known(f.Attribute) {
		return view, nil // the engine would hold it for Undefined, and its negation too
	}
	return AnyOf(f, view), nil
}

// meaning is what an assertion about a view says of our entries; the zero Filter:
// nothing.
func (v *Views) meaning(ctx context.Context, f Filter) (Filter, error) {
	name := strings.ToLower(f.Attribute)
	switch name {
	case "objectclass", "objectcategory":
		if f.Kind == Equality && strings.EqualFold(f.Value, "person") {
			return isUser(), nil
		}
		return classView(f.Value), nil
	case "uidnumber":
		return v.numbered(f, isUser()), nil
	case "gidnumber":
		if f.Kind == Equality && f.Value == strconv.Itoa(v.o.Group) {
			return isUser(), nil
		}
		return v.numbered(f, isGroup()), nil
	case "homedirectory", "loginshell", "gecos":
		if f.Kind == Present {
			return isUser(), nil
		}
	case "samaccountname":
		group := AllOf(isGroup(), as(f, "cn"))
		return AnyOf(AllOf(isUser(), as(f, "uid")), group), nil
	case "userprincipalname":
		return AllOf(isUser(), as(f, "mail")), nil
	case "displayname":
		return AllOf(AnyOf(isUser(), isGroup()), as(f, "cn")), nil
	case "proxyaddresses":
		return addressed(f), nil
	case "member":
		return as(f, "uniqueMember"), nil
	case "memberuid":
		return v.membership(ctx, f)
	}
	return Filter{}, nil
}

// as is the same assertion about another attribute.
func as(f Filter, name string) Filter {
	f.Attribute = name
	return f
}

// numbered is an assertion about a number as one about ours.
func (v *Views) numbered(f Filter, of Filter) Filter {
	if f.Kind != Present {
		n, err := strconv.Atoi(f.Value)
		if err != nil || n <= v.o.First {
			return Filter{}
		}
		f.Value = strconv.Itoa(n - v.o.First)
	}
	return AllOf(of, as(f, NumberAttribute))
}

// addressed is an assertion about proxyAddresses as one about addresses.
func addressed(f Filter) Filter {
	var ok bool
	switch f.Kind {
	case Equality:
		if f.Value, ok = cutPrefixFold(f.Value, "smtp:"); !ok {
			return Filter{}
		}
	case Substrings:
		if rest, cut := cutPrefixFold(f.Initial, "smtp:"); cut {
			f.Initial = rest
		} else if f.Initial != "" {
			return Filter{}
		}
		if f.Initial == "" && f.Final == "" && len(f.Any) == 0 {
			f = Filter{} // each has "smtp:"
		}
	case Present:
	default:
		return Filter{}
	}
	var or []Filter
	for _, name := range addressAttributes() {
		or = append(or, as(f, name))
	}
	return AnyOf(or...)
}

// maxNamesakes bounds how many users of one login name are looked for.
const maxNamesakes = 100

// membership is an assertion about login names of members as one about their DNs.
func (v *Views) membership(ctx context.Context, f Filter) (Filter, error) {
	if f.Kind == Present {
		return AllOf(isGroup(), Filter{Attribute: "uniqueMember"}), nil
	}
	if f.Kind != Equality {
		return Filter{}, nil
	}
	var or []Filter
	q := Query{Scope: ScopeSubtree, Filter: AllOf(isUser(), Equal("uid", f.Value)), Attributes: []string{"1.1"}, SizeLimit: maxNamesakes}
	for e, err := range v.Engine.Search(ctx, q) {
		if err != nil {
			return f, err
		}
		or = append(or, Equal("uniqueMember", e.DN.String()))
	}
	if len(or) == 0 {
		return Filter{}, nil
	}
	return AnyOf(or...), nil
}
