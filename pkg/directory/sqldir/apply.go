package sqldir

import (
	"math/big"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
)

// canonicalName is an attribute description with the type's first name.
func (d *Dir) canonicalName(description string) string {
	name, options, ok := strings.Cut(description, ";")
	if t := d.schema.Attribute(name); t != nil {
		name = t.Name()
	}
	if ok {
		name += ";" + strings.ToLower(options)
	}
	return name
}

// canonical is the entry with the first names of its attributes, each once.
func (d *Dir) canonical(e directory.Entry) directory.Entry {
	out := make([]directory.Attribute, 0, len(e.Attributes)+8)
	for _, a := range e.Attributes {
		name := d.canonicalName(a.Name)
		if i := slices.IndexFunc(out, func(b directory.Attribute) bool { return strings.EqualFold(b.Name, name) }); i >= 0 {
			out[i].Values = append(slices.Clone(out[i].Values), a.Values...)
			continue
		}
		out = append(out, directory.Attribute{Name: name, Values: a.Values})
	}
	e.Attributes = out
	return e
}

// apply makes one change of a Modify.
func (d *Dir) apply(e directory.Entry, c directory.Change) (directory.Entry, error) {
	switch c.Kind {
	case directory.ReplaceValues:
		return setValue(e, c.Name, c.Values...), nil
	case directory.AddValues:
		if len(c.Values) == 0 {
			return e, result(directory.ProtocolError, "no values to add to %s", c.Name)
		}
		values := slices.Clone(e.Values(c.Name))
		for _, v := range c.Values {
			if d.hasValue(e, c.Name, v) {
				return e, result(directory.AttributeOrValueExists, "%s has that value", c.Name)
			}
			values = append(values, v)
		}
		return setValue(e, c.Name, values...), nil
	case directory.IncrementValues:
		return increment(e, c)
	case directory.DeleteValues:
	default:
		return e, result(directory.ProtocolError, "unknown kind of modification")
	}
	left := slices.Clone(e.Values(c.Name))
	if len(left) == 0 {
		return e, result(directory.NoSuchAttribute, "no attribute %s", c.Name)
	}
	if len(c.Values) == 0 {
		return setValue(e, c.Name), nil
	}
	t := d.schema.Attribute(c.Name)
	if t != nil && !t.Comparable() {
		return e, result(directory.InappropriateMatching, "values of %s cannot be compared", c.Name)
	}
	for _, v := range c.Values {
		n, normal := len(left), d.schema.Normal(t, v)
		left = slices.DeleteFunc(left, func(old string) bool { return d.schema.Normal(t, old) == normal })
		if len(left) == n {
			return e, result(directory.NoSuchAttribute, "%s has no such value", c.Name)
		}
	}
	return setValue(e, c.Name, left...), nil
}

// increment is RFC 4525.
func increment(e directory.Entry, c directory.Change) (directory.Entry, error) {
	if len(c.Values) != 1 {
		return e, result(directory.ProtocolError, "increment of %s wants one value", c.Name)
	}
	by, ok := integer(c.Values[0])
	if !ok {
		return e, result(directory.InvalidAttributeSyntax, "increment of %s by what is no integer", c.Name)
	}
	values := slices.Clone(e.Values(c.Name))
	if len(values) == 0 {
		return e, result(directory.NoSuchAttribute, "no attribute %s", c.Name)
	}
	for i, v := range values {
		n, ok := integer(v)
		if !ok {
			return e, result(directory.ConstraintViolation, "%s holds no integer", c.Name)
		}
		values[i] = n.Add(n, by).String()
	}
	return setValue(e, c.Name, values...), nil
}

func integer(s string) (*big.Int, bool) {
	if len(s) > 100 {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}

func (d *Dir) hasValue(e directory.Entry, name, v string) bool {
	t := d.schema.Attribute(name)
	normal := d.schema.Normal(t, v)
	return slices.ContainsFunc(e.Values(d.canonicalName(name)), func(old string) bool { return d.schema.Normal(t, old) == normal })
}

// setValue replaces an attribute; no values remove it. It changes no slice
// that e shares.
func setValue(e directory.Entry, name string, values ...string) directory.Entry {
	out := make([]directory.Attribute, 0, len(e.Attributes)+1)
	done := len(values) == 0
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, name) {
			if done {
				continue
			}
			a, done = directory.Attribute{Name: a.Name, Values: slices.Clone(values)}, true
		}
		out = append(out, a)
	}
	if !done {
		out = append(out, directory.Attribute{Name: name, Values: slices.Clone(values)})
	}
	e.Attributes = out
	return e
}

func (d *Dir) ensureValue(e directory.Entry, name, v string) directory.Entry {
	if d.hasValue(e, name, v) {
		return e
	}
	return setValue(e, name, append(slices.Clone(e.Values(name)), v)...)
}
