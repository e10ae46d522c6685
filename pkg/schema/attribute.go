package schema

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AttributeType is the definition of an attribute (RFC 4512 §4.1.2). Its fields
// hold what the definition says itself; what it has from the type above it, its
// methods know.
type AttributeType struct {
	OID   string
	Names []string
	Desc  string
	// Sup is the type above; empty: none.
	Sup string
	// Equality, Ordering and Substr name matching rules.
	Equality, Ordering, Substr string
	// Syntax is an OID. MaxLength is what the definition suggests, in
	// characters; 0: nothing. It is told, not enforced.
	Syntax    string
	MaxLength int
	// Single: an entry holds one value at the most.
	Single, Collective, NoUserModification, Obsolete bool
	// Usage is empty for user attributes; else directoryOperation,
	// distributedOperation or dSAOperation.
	Usage string

	sup                            *AttributeType
	subtypes                       []*AttributeType // with itself
	equality, ordering, substrings *Rule
	syntax                         *Syntax
	key                            string
	resolved                       bool
}

// Name is the first name, or the OID of a type without one.
func (a *AttributeType) Name() string {
	if len(a.Names) > 0 {
		return a.Names[0]
	}
	return a.OID
}

// Key is Name in lower case: one string for all names of the type.
func (a *AttributeType) Key() string { return a.key }

// Operational reports whether the attribute is the server's affair: it is
// returned when asked for only, and any entry may have it.
func (a *AttributeType) Operational() bool { return a.Usage != "" }

// Subtypes are the type itself and all below it (RFC 4512 §2.5.1).
func (a *AttributeType) Subtypes() []*AttributeType { return a.subtypes }

// IsDN reports whether values name entries: DNs, or DNs with a unique identifier.
func (a *AttributeType) IsDN() bool { return a.syntax.OID == dnSyntax || a.syntax.OID == nameAndUID }

// Comparable reports whether values can be told to be equal: the type has an
// equality rule.
func (a *AttributeType) Comparable() bool { return a.equality != nil }

// Searchable reports whether the type has a rule for parts of values.
func (a *AttributeType) Searchable() bool { return a.substrings != nil && a.syntax.text }

// Valid reports whether v has the attribute's syntax.
func (a *AttributeType) Valid(v string) bool { return v != "" && a.syntax.valid(v) }

// Normal is the form under which values that match for equality are the same,
// and in which they sort as the ordering rule says. Of a type without equality
// it is v itself.
func (s *Schema) Normal(a *AttributeType, v string) string {
	if a == nil || a.equality == nil {
		return v
	}
	return a.equality.Normal(s, v)
}

// NormalPart is the form under which a part of a value is looked for within the
// Normal of values.
func (s *Schema) NormalPart(a *AttributeType, part string) string {
	if a == nil || a.equality == nil {
		return part
	}
	return a.equality.part(part)
}

// String writes the definition as RFC 4512 §4.1.2 has it.
func (a *AttributeType) String() string {
	w := define(a.OID)
	w.names(a.Names)
	w.text("DESC", a.Desc)
	w.flag("OBSOLETE", a.Obsolete)
	w.word("SUP", a.Sup)
	w.word("EQUALITY", a.Equality)
	w.word("ORDERING", a.Ordering)
	w.word("SUBSTR", a.Substr)
	syntax := a.Syntax
	if a.MaxLength > 0 {
		syntax += "{" + strconv.Itoa(a.MaxLength) + "}"
	}
	w.word("SYNTAX", syntax)
	w.flag("SINGLE-VALUE", a.Single)
	w.flag("COLLECTIVE", a.Collective)
	w.flag("NO-USER-MODIFICATION", a.NoUserModification)
	w.word("USAGE", a.Usage)
	return w.end()
}

// attributeType makes a type of its definition.
func attributeType(d definition, oid func(string) (string, error)) (*AttributeType, error) {
	a := &AttributeType{Names: d.fields["NAME"], Obsolete: d.has("OBSOLETE"), Single: d.has("SINGLE-VALUE"),
		Collective: d.has("COLLECTIVE"), NoUserModification: d.has("NO-USER-MODIFICATION")}
	var syntax string
	for _, x := range []struct {
		key string
		to  *string
	}{{"DESC", &a.Desc}, {"SUP", &a.Sup}, {"EQUALITY", &a.Equality}, {"ORDERING", &a.Ordering}, {"SUBSTR", &a.Substr}, {"SYNTAX", &syntax}, {"USAGE", &a.Usage}} {
		var err error
		if *x.to, err = d.one(x.key); err != nil {
			return nil, err
		}
	}
	if i := slices.IndexFunc(d.order, func(key string) bool { return !attributeWord(key) }); i >= 0 {
		return nil, fmt.Errorf("%w: unknown word %s", ErrSyntax, d.order[i])
	}
	if !slices.Contains([]string{"", "userApplications", "directoryOperation", "distributedOperation", "dSAOperation"}, a.Usage) {
		return nil, fmt.Errorf("%w: unknown usage %s", ErrSyntax, a.Usage)
	}
	if a.Usage == "userApplications" {
		a.Usage = ""
	}
	if syntax, length, ok := strings.Cut(syntax, "{"); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(length, "}"))
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%w: length %s", ErrSyntax, length)
		}
		a.Syntax, a.MaxLength = syntax, n
	} else {
		a.Syntax = syntax
	}
	var err error
	if a.Syntax != "" {
		if a.Syntax, err = oid(strings.Trim(a.Syntax, "'")); err != nil {
			return nil, err
		}
	}
	if a.OID, err = oid(d.oid); err != nil {
		return nil, err
	}
	a.key = strings.ToLower(a.Name())
	return a, nil
}

func attributeWord(key string) bool {
	switch key {
	case "NAME", "DESC", "OBSOLETE", "SUP", "EQUALITY", "ORDERING", "SUBSTR", "SYNTAX", "SINGLE-VALUE", "COLLECTIVE", "NO-USER-MODIFICATION", "USAGE":
		return true
	}
	return strings.HasPrefix(key, "X-")
}
