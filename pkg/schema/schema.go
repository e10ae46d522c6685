// Package schema is the rules of a directory's entries (RFC 4512): names of
// entries, attribute types with their syntaxes and matching rules, object
// classes, and the check of an entry against them.
//
// What is built in lies beside it in OpenLDAP's format: core, cosine,
// inetOrgPerson, nis and mailsrv's own; further files join them. The package
// knows no protocol, stores nothing, and does not know what an attribute means
// to mail.
package schema

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed *.schema
var builtin embed.FS

// Schema is what entries may hold. It is never changed once Load has returned
// it, and may be used from many goroutines.
type Schema struct {
	attributes map[string]*AttributeType // by every name in lower case, and by OID
	classes    map[string]*ObjectClass   // likewise
	syntaxes   map[string]*Syntax        // by OID
	rules      map[string]*Rule          // by name in lower case, and by OID

	attributeTypes []*AttributeType // in the order of their files
	objectClasses  []*ObjectClass
}

// Load returns the built-in schema with what the files add, in their order.
// Its errors name the file and the line.
func Load(files ...File) (*Schema, error) {
	s := &Schema{attributes: map[string]*AttributeType{}, classes: map[string]*ObjectClass{},
		syntaxes: map[string]*Syntax{}, rules: map[string]*Rule{}}
	for _, x := range syntaxes() {
		s.syntaxes[x.OID] = &x
	}
	for _, r := range rules() {
		s.rules[strings.ToLower(r.Name)], s.rules[r.OID] = &r, &r
	}
	own, err := builtinFiles()
	if err != nil {
		return nil, err
	}
	macros := map[string]string{}
	for _, f := range append(own, files...) {
		if err := s.read(f, macros); err != nil {
			return nil, fmt.Errorf("reading schema: %w", err)
		}
	}
	if err := s.resolve(); err != nil {
		return nil, fmt.Errorf("reading schema: %w", err)
	}
	return s, nil
}

func builtinFiles() ([]File, error) {
	var files []File
	for _, name := range []string{"system", "core", "cosine", "inetorgperson", "nis", "mailsrv"} {
		text, err := builtin.ReadFile(name + ".schema")
		if err != nil {
			return nil, fmt.Errorf("reading built-in schema: %w", err)
		}
		files = append(files, File{Name: name + ".schema", Text: string(text)})
	}
	return files, nil
}

// Attribute returns the type that an attribute description means: a name or an
// OID, with options behind semicolons or not. Nil: it is not defined.
func (s *Schema) Attribute(description string) *AttributeType {
	name, _, _ := strings.Cut(description, ";")
	return s.attributes[strings.ToLower(name)]
}

// Class returns the object class of that name or OID; nil: it is not defined.
func (s *Schema) Class(name string) *ObjectClass { return s.classes[strings.ToLower(name)] }

// Rule returns the matching rule of that name or OID; nil: we do not have it.
func (s *Schema) Rule(name string) *Rule { return s.rules[strings.ToLower(name)] }

// AttributeTypes are the definitions, as the attribute attributeTypes of the
// subschema has them (RFC 4512 §4.2.2).
func (s *Schema) AttributeTypes() []string { return texts(s.attributeTypes) }

// ObjectClasses are the definitions for objectClasses (§4.2.1).
func (s *Schema) ObjectClasses() []string { return texts(s.objectClasses) }

// MatchingRules are the definitions for matchingRules (§4.2.3).
func (s *Schema) MatchingRules() []string {
	var out []string
	for _, r := range rules() {
		out = append(out, r.String())
	}
	return out
}

// Syntaxes are the definitions for ldapSyntaxes (§4.2.5).
func (s *Schema) Syntaxes() []string {
	var out []string
	for _, x := range syntaxes() {
		out = append(out, x.String())
	}
	return out
}

func texts[T fmt.Stringer](definitions []T) []string {
	out := make([]string, len(definitions))
	for i, d := range definitions {
		out[i] = d.String()
	}
	return out
}

// resolve joins the definitions to those that they name.
func (s *Schema) resolve() error {
	for _, a := range s.attributeTypes {
		if err := s.resolveAttribute(a, 0); err != nil {
			return err
		}
	}
	for _, a := range s.attributeTypes {
		for up := a; up != nil; up = up.sup {
			up.subtypes = append(up.subtypes, a)
		}
	}
	for _, c := range s.objectClasses {
		if err := s.resolveClass(c, 0); err != nil {
			return err
		}
	}
	return nil
}

// maxChain bounds how long a chain of superior definitions may be: it may not
// be a ring.
const maxChain = 32

func (s *Schema) resolveAttribute(a *AttributeType, depth int) error {
	if a.resolved {
		return nil
	}
	if depth > maxChain {
		return fmt.Errorf("%w: attribute type %s is above itself", ErrSyntax, a.Name())
	}
	if a.Sup != "" {
		if a.sup = s.Attribute(a.Sup); a.sup == nil {
			return fmt.Errorf("%w: attribute type %s is below %s, which is not defined", ErrSyntax, a.Name(), a.Sup)
		}
		if err := s.resolveAttribute(a.sup, depth+1); err != nil {
			return err
		}
		a.equality, a.ordering, a.substrings, a.syntax = a.sup.equality, a.sup.ordering, a.sup.substrings, a.sup.syntax
	}
	for _, x := range []struct {
		name string
		to   **Rule
	}{{a.Equality, &a.equality}, {a.Ordering, &a.ordering}, {a.Substr, &a.substrings}} {
		if x.name == "" {
			continue
		}
		*x.to = s.Rule(x.name) // one that we do not have counts as none
	}
	if a.Syntax != "" {
		// A syntax that we do not know takes any octets.
		if a.syntax = s.syntaxes[a.Syntax]; a.syntax == nil {
			a.syntax = s.syntaxes[octetString]
		}
	}
	if a.syntax == nil {
		return fmt.Errorf("%w: attribute type %s has no syntax", ErrSyntax, a.Name())
	}
	a.resolved = true
	return nil
}

func (s *Schema) resolveClass(c *ObjectClass, depth int) error {
	if c.resolved {
		return nil
	}
	if depth > maxChain {
		return fmt.Errorf("%w: object class %s is above itself", ErrSyntax, c.Name())
	}
	for _, name := range c.Sup {
		sup := s.Class(name)
		if sup == nil {
			return fmt.Errorf("%w: object class %s is below %s, which is not defined", ErrSyntax, c.Name(), name)
		}
		if err := s.resolveClass(sup, depth+1); err != nil {
			return err
		}
		c.sups = append(c.sups, sup)
		c.must, c.may = append(c.must, sup.must...), append(c.may, sup.may...)
	}
	for _, x := range []struct {
		names []string
		to    *[]*AttributeType
	}{{c.Must, &c.must}, {c.May, &c.may}} {
		for _, name := range x.names {
			a := s.Attribute(name)
			if a == nil {
				return fmt.Errorf("%w: object class %s has the attribute %s, which is not defined", ErrSyntax, c.Name(), name)
			}
			if !slices.Contains(*x.to, a) {
				*x.to = append(*x.to, a)
			}
		}
	}
	c.resolved = true
	return nil
}
