package ldapserver

import (
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// undefinedRule is a matching rule that no directory has.
const undefinedRule = "2.25.0"

// filterKinds says what the kinds of the wire are to a Tree.
var filterKinds = [...]directory.FilterKind{
	ldapwire.And:            directory.And,
	ldapwire.Or:             directory.Or,
	ldapwire.Not:            directory.Not,
	ldapwire.Equality:       directory.Equality,
	ldapwire.Substrings:     directory.Substrings,
	ldapwire.GreaterOrEqual: directory.GreaterOrEqual,
	ldapwire.LessOrEqual:    directory.LessOrEqual,
	ldapwire.Present:        directory.Present,
	ldapwire.Approx:         directory.Approx,
	ldapwire.Extensible:     directory.Extensible,
}

// filterOf is f for a Tree. Assertions about passwords, or about all attributes
// at once, become an unknown matching rule, which is Undefined (RFC 4511
// §4.5.1.7): they prove nothing, and leave the rest of the filter as it is.
func filterOf(f *ldapwire.Filter) directory.Filter {
	if isPassword(f.Attribute) || f.Kind == ldapwire.Extensible && f.Attribute == "" {
		return directory.Filter{Kind: directory.Extensible, Rule: undefinedRule}
	}
	out := directory.Filter{
		Kind:         filterKinds[f.Kind],
		Attribute:    f.Attribute,
		Value:        f.Value,
		Initial:      f.Initial,
		Any:          f.Any,
		Final:        f.Final,
		Rule:         f.Rule,
		DNAttributes: f.DNAttributes,
	}
	if len(f.Children) > 0 {
		out.Children = make([]directory.Filter, len(f.Children))
		for i := range f.Children {
			out.Children[i] = filterOf(&f.Children[i])
		}
	}
	return out
}

// redacted is f for the log: without what it says of passwords.
func redacted(f ldapwire.Filter) ldapwire.Filter {
	if isPassword(f.Attribute) || f.Attribute == "" && f.Kind == ldapwire.Extensible {
		return ldapwire.Filter{Kind: ldapwire.Equality, Attribute: f.Attribute, Value: "<redacted>"}
	}
	children := make([]ldapwire.Filter, len(f.Children))
	for i, child := range f.Children {
		children[i] = redacted(child)
	}
	f.Children = children
	return f
}

// baseName is an attribute description without its options (RFC 4512 §2.5).
func baseName(description string) string {
	name, _, _ := strings.Cut(description, ";")
	return name
}

// isPassword reports whether an attribute holds secrets, by either name.
func isPassword(description string) bool {
	name := baseName(description)
	return strings.EqualFold(name, "userPassword") || name == "2.5.4.35"
}
