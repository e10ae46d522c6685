package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is the kind of an object class (RFC 4512 §2.4).
type Kind int

// The kinds. Structural is what a definition means that names none.
const (
	Structural Kind = iota
	Abstract
	Auxiliary
)

// ObjectClass is the definition of a class (RFC 4512 §4.1.1).
type ObjectClass struct {
	OID      string
	Names    []string
	Desc     string
	Obsolete bool
	// Sup names the classes above.
	Sup  []string
	Kind Kind
	// Must and May name the attributes that this class adds to those of Sup.
	Must, May []string

	sups      []*ObjectClass
	must, may []*AttributeType // with those from above
	resolved  bool
}

// Name is the first name, or the OID of a class without one.
func (c *ObjectClass) Name() string {
	if len(c.Names) > 0 {
		return c.Names[0]
	}
	return c.OID
}

// Under reports whether c is other or lies below it.
func (c *ObjectClass) Under(other *ObjectClass) bool {
	return c == other || slices.ContainsFunc(c.sups, func(sup *ObjectClass) bool { return sup.Under(other) })
}

// String writes the definition as RFC 4512 §4.1.1 has it.
func (c *ObjectClass) String() string {
	w := define(c.OID)
	w.names(c.Names)
	w.text("DESC", c.Desc)
	w.flag("OBSOLETE", c.Obsolete)
	w.list("SUP", c.Sup)
	w.WriteString([...]string{Structural: " STRUCTURAL", Abstract: " ABSTRACT", Auxiliary: " AUXILIARY"}[c.Kind])
	w.list("MUST", c.Must)
	w.list("MAY", c.May)
	return w.end()
}

// objectClass makes a class of its definition.
func objectClass(d definition, oid func(string) (string, error)) (*ObjectClass, error) {
	c := &ObjectClass{Names: d.fields["NAME"], Obsolete: d.has("OBSOLETE"), Sup: d.fields["SUP"], Must: d.fields["MUST"], May: d.fields["MAY"]}
	kinds := 0
	for kind, word := range map[Kind]string{Structural: "STRUCTURAL", Abstract: "ABSTRACT", Auxiliary: "AUXILIARY"} {
		if d.has(word) {
			c.Kind = kind
			kinds++
		}
	}
	if kinds > 1 {
		return nil, fmt.Errorf("%w: a class of two kinds", ErrSyntax)
	}
	if i := slices.IndexFunc(d.order, func(key string) bool { return !classWord(key) }); i >= 0 {
		return nil, fmt.Errorf("%w: unknown word %s", ErrSyntax, d.order[i])
	}
	var err error
	if c.Desc, err = d.one("DESC"); err != nil {
		return nil, err
	}
	c.OID, err = oid(d.oid)
	return c, err
}

func classWord(key string) bool {
	switch key {
	case "NAME", "DESC", "OBSOLETE", "SUP", "ABSTRACT", "STRUCTURAL", "AUXILIARY", "MUST", "MAY":
		return true
	}
	return strings.HasPrefix(key, "X-")
}
