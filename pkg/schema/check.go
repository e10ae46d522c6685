package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Attribute is an attribute of an entry: its description and its values.
type Attribute struct {
	Name   string
	Values []string
}

// Violation is what an entry does against the schema. Code is the LDAP result
// (RFC 4511 appendix A), Text is safe for a client.
type Violation struct {
	Code int
	Text string
}

// Error implements error.
func (v *Violation) Error() string { return v.Text }

// The results of RFC 4511 that a check can end in.
const (
	undefinedAttributeType = 17
	constraintViolation    = 19
	valueExists            = 20
	invalidSyntax          = 21
	objectClassViolation   = 65
)

func violation(code int, format string, args ...any) error {
	return &Violation{Code: code, Text: fmt.Sprintf(format, args...)}
}

// CheckAttribute checks an attribute by itself: that it is defined, and that
// its values have its syntax, differ, and are no more than it may have. Its
// errors are *Violation.
func (s *Schema) CheckAttribute(a Attribute) error {
	t := s.Attribute(a.Name)
	if t == nil || !IsDescription(a.Name) {
		return violation(undefinedAttributeType, "%s: attribute type undefined", clip(a.Name))
	}
	for i, v := range a.Values {
		if !t.Valid(v) {
			return violation(invalidSyntax, "%s: value #%d invalid per syntax", a.Name, i)
		}
	}
	if len(a.Values) < 2 {
		return nil
	}
	if t.Single {
		return violation(constraintViolation, "%s holds one value", a.Name)
	}
	seen := make(map[string]bool, len(a.Values))
	for i, v := range a.Values {
		n := s.Normal(t, v)
		if seen[n] {
			return violation(valueExists, "%s: value #%d provided more than once", a.Name, i)
		}
		seen[n] = true
	}
	return nil
}

// Classes returns the object classes of an entry with all those above them
// (RFC 4512 §3.3: they are added implicitly), by their first names, and the
// structural one. The classes given stay first. Its errors are *Violation.
func (s *Schema) Classes(given []string) (all []string, structural *ObjectClass, err error) {
	var classes []*ObjectClass
	for _, name := range given {
		c := s.Class(name)
		if c == nil {
			return nil, nil, violation(objectClassViolation, "unrecognized object class %s", clip(name))
		}
		classes, all = append(classes, c), append(all, name)
	}
	for i := 0; i < len(classes); i++ { // grows
		c := classes[i]
		if c.Kind == Structural && (structural == nil || c.Under(structural)) {
			structural = c
		}
		for _, sup := range c.sups {
			if !slices.Contains(classes, sup) {
				classes, all = append(classes, sup), append(all, sup.Name())
			}
		}
	}
	if structural == nil {
		return nil, nil, violation(objectClassViolation, "no structural object class provided")
	}
	for _, c := range classes {
		if c.Kind == Structural && !structural.Under(c) {
			return nil, nil, violation(objectClassViolation, "invalid structural object class chain (%s/%s)", structural.Name(), c.Name())
		}
	}
	return all, structural, nil
}

// Check checks the attributes of an entry whose classes are those that Classes
// has returned: each by itself, and that the classes want and allow them. Its
// errors are *Violation.
func (s *Schema) Check(attributes []Attribute, classes []string) error {
	allowed := make(map[*AttributeType]bool, 64)
	anything := false
	present := make(map[*AttributeType]bool, len(attributes))
	for _, a := range attributes {
		if err := s.CheckAttribute(a); err != nil {
			return err
		}
		present[s.Attribute(a.Name)] = true
	}
	for _, name := range classes {
		c := s.Class(name)
		anything = anything || strings.EqualFold(c.Name(), "extensibleObject")
		for _, t := range c.must {
			allowed[t] = true
			if !present[t] {
				return violation(objectClassViolation, "object class %s requires attribute %s", c.Name(), t.Name())
			}
		}
		for _, t := range c.may {
			allowed[t] = true
		}
	}
	for _, a := range attributes {
		if t := s.Attribute(a.Name); !anything && !allowed[t] && !t.Operational() {
			return violation(objectClassViolation, "attribute %s not allowed", a.Name)
		}
	}
	return nil
}

// clip is a client's text, short enough to be told back.
func clip(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return fmt.Sprintf("%.80q", s)
}
