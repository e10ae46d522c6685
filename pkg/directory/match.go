package directory

import (
	"strconv"
	"strings"
)

// ruleBitAnd is Active Directory's matching rule for bits of a number.
const ruleBitAnd = "1.2.840.113556.1.4.803"

// holds reports whether the filter is true of an entry, as far as that can be said
// without a schema: values are compared without regard to case, and as numbers
// where both are. Unlike a server it knows no Undefined.
func (f *Filter) holds(e Entry) bool {
	switch f.Kind {
	case And:
		for i := range f.Children {
			if !f.Children[i].holds(e) {
				return false
			}
		}
		return true
	case Or:
		for i := range f.Children {
			if f.Children[i].holds(e) {
				return true
			}
		}
		return false
	case Not:
		return len(f.Children) == 1 && !f.Children[0].holds(e)
	case Present:
		return f.Attribute == "" || len(e.Values(f.Attribute)) > 0
	}
	for _, v := range e.Values(f.Attribute) {
		if f.compares(v) {
			return true
		}
	}
	return false
}

// isZero reports whether nothing was said.
func (f *Filter) isZero() bool { return f.Kind == Present && f.Attribute == "" }

// compares reports whether a value is what the filter asserts.
func (f *Filter) compares(v string) bool {
	switch f.Kind {
	case Equality, Approx:
		return strings.EqualFold(v, f.Value)
	case Substrings:
		rest, ok := cutPrefixFold(v, f.Initial)
		for _, part := range f.Any {
			if _, rest, ok = cutFold(rest, part, ok); !ok {
				return false
			}
		}
		return ok && len(rest) >= len(f.Final) && strings.EqualFold(rest[len(rest)-len(f.Final):], f.Final)
	case GreaterOrEqual, LessOrEqual:
		a, errA := strconv.ParseInt(v, 10, 64)
		b, errB := strconv.ParseInt(f.Value, 10, 64)
		if errA == nil && errB == nil {
			return a == b || a > b == (f.Kind == GreaterOrEqual)
		}
		c := strings.Compare(strings.ToLower(v), strings.ToLower(f.Value))
		return c == 0 || c > 0 == (f.Kind == GreaterOrEqual)
	case Extensible:
		a, errA := strconv.ParseInt(v, 10, 64)
		b, errB := strconv.ParseInt(f.Value, 10, 64)
		return f.Rule == ruleBitAnd && errA == nil && errB == nil && a&b == b
	}
	return false
}

func cutFold(s, part string, ok bool) (before, after string, found bool) {
	i := strings.Index(strings.ToLower(s), strings.ToLower(part))
	if !ok || i < 0 || i+len(part) > len(s) {
		return s, "", false
	}
	return s[:i], s[i+len(part):], true
}

// attributes are the names in the filter.
func (f *Filter) attributes() (names []string) {
	if f.Attribute != "" {
		names = append(names, f.Attribute)
	}
	for i := range f.Children {
		names = append(names, f.Children[i].attributes()...)
	}
	return names
}
