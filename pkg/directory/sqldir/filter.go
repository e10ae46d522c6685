package sqldir

import (
	"strings"

	"mailsrv/pkg/directory"
)

// truth is the three-valued result of a filter (RFC 4511 §4.5.1.7).
type truth int

const (
	no truth = iota
	unknown
	yes
)

// normalOf is the form under which values of the attribute are compared.
func normalOf(attr, v string) string {
	switch strings.ToLower(attr) {
	case "uniquemember", "member", "owner", "memberof", "manager", "seealso":
		if dn, err := directory.ParseDN(v); err == nil {
			return dn.Normal()
		}
	case "userpassword", "authpassword":
		return v
	}
	return directory.Fold(v)
}

func of(b bool) truth {
	if b {
		return yes
	}
	return no
}

func matches(e directory.Entry, f directory.Filter) truth {
	switch f.Kind {
	case directory.And:
		t := yes
		for _, c := range f.Children {
			t = min(t, matches(e, c))
		}
		return t
	case directory.Or:
		t := no
		for _, c := range f.Children {
			t = max(t, matches(e, c))
		}
		return t
	case directory.Not:
		return yes - matches(e, f.Children[0])
	case directory.Present:
		return of(f.Attribute == "" || strings.EqualFold(f.Attribute, "objectClass") || len(e.Values(f.Attribute)) > 0)
	case directory.Extensible:
		return extensible(e, f)
	}
	for _, v := range e.Values(f.Attribute) {
		if assertion(f, normalOf(f.Attribute, v)) {
			return yes
		}
	}
	return no
}

// assertion compares one normalised value.
func assertion(f directory.Filter, v string) bool {
	switch f.Kind {
	case directory.Equality, directory.Approx:
		return v == normalOf(f.Attribute, f.Value)
	case directory.GreaterOrEqual:
		return v >= normalOf(f.Attribute, f.Value)
	case directory.LessOrEqual:
		return v <= normalOf(f.Attribute, f.Value)
	case directory.Substrings:
		return substrings(f, v)
	}
	return false
}

func substrings(f directory.Filter, v string) bool {
	v, ok := strings.CutPrefix(v, strings.ToLower(f.Initial))
	if !ok {
		return false
	}
	for _, part := range f.Any {
		if _, v, ok = strings.Cut(v, strings.ToLower(part)); !ok {
			return false
		}
	}
	return strings.HasSuffix(v, strings.ToLower(f.Final))
}

// extensible knows the case-ignoring and exact equality rules; another rule is
// Undefined.
func extensible(e directory.Entry, f directory.Filter) truth {
	exact := false
	switch strings.ToLower(f.Rule) {
	case "", "caseignorematch", "2.5.13.2", "caseignoreia5match", "1.3.6.1.4.1.1466.109.114.2":
	case "caseexactmatch", "2.5.13.5", "caseexactia5match", "1.3.6.1.4.1.1466.109.114.1":
		exact = true
	default:
		return unknown
	}
	equal := func(attr, v string) bool {
		if exact {
			return v == f.Value
		}
		return normalOf(attr, v) == normalOf(attr, f.Value)
	}
	for _, a := range e.Attributes {
		if f.Attribute != "" && !strings.EqualFold(a.Name, f.Attribute) {
			continue
		}
		for _, v := range a.Values {
			if equal(a.Name, v) {
				return yes
			}
		}
	}
	if f.DNAttributes {
		for _, rdn := range e.DN.RDNs {
			for _, av := range rdn {
				if (f.Attribute == "" || strings.EqualFold(av.Name, f.Attribute)) && equal(av.Name, av.Value) {
					return yes
				}
			}
		}
	}
	return no
}

// pair is an entry of the index.
type pair struct{ attr, value string }

// candidates returns pairs of which every match of f has at least one; ok is
// false if only a scan finds them all.
func candidates(f directory.Filter) (pairs []pair, ok bool) {
	switch f.Kind {
	case directory.Equality:
		return []pair{{strings.ToLower(f.Attribute), normalOf(f.Attribute, f.Value)}}, !secret(f.Attribute)
	case directory.Or:
		for _, c := range f.Children {
			more, ok := candidates(c)
			if !ok {
				return nil, false
			}
			pairs = append(pairs, more...)
		}
		return pairs, true
	case directory.And:
		for _, c := range f.Children {
			more, found := candidates(c)
			// An object class is an index too, but nearly every entry has it.
			if found && (!ok || pairs[0].attr == "objectclass") && len(more) > 0 {
				pairs, ok = more, true
			}
		}
		return pairs, ok
	}
	return nil, false
}
