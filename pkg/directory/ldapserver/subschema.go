package ldapserver

import (
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// subschemaDN is where the schema is published (RFC 4512 §4.2).
const subschemaDN = "cn=Subschema"

func (c *session) isSubschema(dn directory.DN) bool {
	return c.srv.o.Schema != nil && len(dn.RDNs) == 1 && strings.EqualFold(dn.String(), subschemaDN)
}

// subschema sends the schema, to who may read anything.
func (c *session) subschema(op *operation, req *ldapwire.SearchRequest, as asker) error {
	if as.nobody() && !c.srv.o.Access.Anonymous() {
		return refusal(directory.InsufficientAccessRights, "bind first")
	}
	if req.Scope == int(directory.ScopeOne) {
		return nil
	}
	s := c.srv.o.Schema
	attributes := []directory.Attribute{
		{Name: "objectClass", Values: []string{"top", "subschema", "extensibleObject"}},
		{Name: "cn", Values: []string{"Subschema"}},
		{Name: "attributeTypes", Values: s.AttributeTypes()},
		{Name: "objectClasses", Values: s.ObjectClasses()},
		{Name: "matchingRules", Values: s.MatchingRules()},
		{Name: "ldapSyntaxes", Values: s.Syntaxes()},
	}
	return c.sendOwn(op, req, subschemaDN, attributes, func(name string) bool {
		return asked(req.Attributes, name, name != "objectClass" && name != "cn")
	})
}
