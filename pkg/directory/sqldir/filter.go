package sqldir

import (
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
)

// truth is the three-valued result of a filter (RFC 4511 §4.5.1.7).
type truth int

const (
	no truth = iota
	unknown
	yes
)

// test is a filter with its names looked up and its values normalised, once for
// all entries.
type test struct {
	kind     directory.FilterKind
	children []test
	types    []*schema.AttributeType // those that count: the type and its subtypes; of Extensible nil: all
	options  []string
	value    string   // as it was given
	normal   []string // of each type
	initial  []string // likewise, for parts
	final    []string
	any      [][]string
	rule     *schema.Rule // of Extensible
	inDN     bool
	members  []string // of memberOf=group: the paths of the group's members
	// undefined: an attribute or a rule that we do not know, or a value that has not
	// the attribute's syntax. It is neither true nor false.
	undefined bool
}

// compile prepares f.
func (d *Dir) compile(f directory.Filter) test {
	t := test{kind: f.Kind, value: f.Value, inDN: f.DNAttributes}
	switch f.Kind {
	case directory.And, directory.Or, directory.Not:
		for _, c := range f.Children {
			t.children = append(t.children, d.compile(c))
		}
		t.undefined = f.Kind == directory.Not && len(t.children) != 1
		return t
	}
	if f.Attribute != "" {
		a := d.schema.Attribute(f.Attribute)
		if a == nil || secret(a.Name()) {
			t.undefined = true
			return t
		}
		_, t.options = splitOptions(f.Attribute)
		t.types = a.Subtypes()
	} else if f.Kind == directory.Present {
		return t // the zero Filter
	}
	switch f.Kind {
	case directory.Present:
	case directory.Extensible:
		d.compileExtensible(&t, f.Rule)
	default:
		d.compileValues(&t, f)
	}
	return t
}

func (d *Dir) compileValues(t *test, f directory.Filter) {
	for _, a := range t.types {
		if !a.Comparable() {
			t.undefined = true
			return
		}
		t.normal = append(t.normal, d.schema.Normal(a, f.Value))
		if f.Kind != directory.Substrings {
			continue
		}
		t.initial = append(t.initial, d.schema.NormalPart(a, f.Initial))
		t.final = append(t.final, d.schema.NormalPart(a, f.Final))
		var parts []string
		for _, part := range f.Any {
			parts = append(parts, d.schema.NormalPart(a, part))
		}
		t.any = append(t.any, parts)
	}
}

// compileExtensible takes the rule that is named, or the attribute's own.
func (d *Dir) compileExtensible(t *test, rule string) {
	if rule != "" {
		if t.rule = d.schema.Rule(rule); t.rule == nil {
			t.undefined = true
			return
		}
		t.normal = []string{t.rule.Normal(d.schema, t.value)}
		return
	}
	for _, a := range t.types {
		t.normal = append(t.normal, d.schema.Normal(a, t.value))
	}
	t.undefined = len(t.types) == 0 || !t.types[0].Comparable()
}

// splitOptions parts a description into name and options (RFC 4512 §2.5), these
// in lower case.
func splitOptions(description string) (name string, options []string) {
	name, rest, ok := strings.Cut(description, ";")
	if !ok {
		return name, nil
	}
	return name, strings.Split(strings.ToLower(rest), ";")
}

// live reports whether the test is about an attribute that is not stored.
func (t *test) live() bool {
	for _, a := range t.types {
		if a.Operational() && slices.Contains(liveAttributes(), a.Key()) {
			return true
		}
	}
	for i := range t.children {
		if t.children[i].live() {
			return true
		}
	}
	return false
}

// names reports whether the test is about an attribute of that key.
func (t *test) names(key string) bool {
	return slices.ContainsFunc(t.types, func(a *schema.AttributeType) bool { return a.Key() == key }) ||
		slices.ContainsFunc(t.children, func(c test) bool { return c.names(key) })
}

func (d *Dir) matches(s *stored, t *test) truth {
	if t.undefined {
		return unknown
	}
	switch t.kind {
	case directory.And:
		all := yes
		for i := range t.children {
			all = min(all, d.matches(s, &t.children[i]))
		}
		return all
	case directory.Or:
		one := no
		for i := range t.children {
			one = max(one, d.matches(s, &t.children[i]))
		}
		return one
	case directory.Not:
		return yes - d.matches(s, &t.children[0])
	case directory.Extensible:
		return d.extensible(s, t)
	case directory.Present:
		if t.types == nil {
			return yes
		}
	}
	for i, a := range s.entry.Attributes {
		n := slices.Index(t.types, s.types[i])
		if n < 0 || s.types[i] == nil || !hasOptions(a.Name, t.options) {
			continue
		}
		if t.kind == directory.Present {
			return yes
		}
		for _, v := range a.Values {
			if t.holds(n, d.schema.Normal(s.types[i], v)) {
				return yes
			}
		}
	}
	return no
}

// hasOptions reports whether the description has all the options.
func hasOptions(description string, options []string) bool {
	if len(options) == 0 {
		return true
	}
	_, have := splitOptions(description)
	return !slices.ContainsFunc(options, func(o string) bool { return !slices.Contains(have, o) })
}

// holds compares one normalised value of the n-th type.
func (t *test) holds(n int, v string) bool {
	switch t.kind {
	case directory.Equality:
		return v == t.normal[n]
	case directory.Approx:
		return v == t.normal[n] || soundsLike(v, t.normal[n])
	case directory.GreaterOrEqual:
		return v >= t.normal[n]
	case directory.LessOrEqual:
		return v <= t.normal[n]
	case directory.Substrings:
		return t.substrings(n, v)
	}
	return false
}

func (t *test) substrings(n int, v string) bool {
	v, ok := strings.CutPrefix(v, t.initial[n])
	if !ok {
		return false
	}
	for _, part := range t.any[n] {
		if _, v, ok = strings.Cut(v, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(v, t.final[n])
}

// extensible is §4.5.1.7.7: by a rule of its own, in any attribute, in the DN too.
func (d *Dir) extensible(s *stored, t *test) truth {
	equal := func(a *schema.AttributeType, v string) bool {
		if a == nil || secret(a.Name()) {
			return false
		}
		n := 0
		if t.types != nil {
			if n = slices.Index(t.types, a); n < 0 {
				return false
			}
		}
		if t.rule != nil {
			return t.rule.Normal(d.schema, v) == t.normal[0]
		}
		return d.schema.Normal(a, v) == t.normal[n]
	}
	for i, a := range s.entry.Attributes {
		for _, v := range a.Values {
			if hasOptions(a.Name, t.options) && equal(s.types[i], v) {
				return yes
			}
		}
	}
	if t.inDN {
		for _, rdn := range s.entry.DN.RDNs {
			for _, av := range rdn {
				if equal(d.schema.Attribute(av.Name), av.Value) {
					return yes
				}
			}
		}
	}
	return no
}
