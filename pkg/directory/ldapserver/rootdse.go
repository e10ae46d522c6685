package ldapserver

import (
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// rootDSE sends what the server says of itself (RFC 4512 §5.1), to anybody.
func (c *session) rootDSE(op *operation, req *ldapwire.SearchRequest) error {
	// All of it is told to who names nothing: that is who wants to know what this is.
	return c.sendOwn(op, req, "", c.rootAttributes(), func(name string) bool {
		return asked(req.Attributes, name, true) || asked(req.Attributes, name, false)
	})
}

// sendOwn sends an entry that is not of the Tree, if the filter is about its
// presence: nobody looks for it otherwise.
func (c *session) sendOwn(op *operation, req *ldapwire.SearchRequest, dn string, attributes []directory.Attribute, wanted func(string) bool) error {
	if f := &req.Filter; f.Kind != ldapwire.Present && f.Kind != ldapwire.Equality || !strings.EqualFold(f.Attribute, "objectClass") {
		return nil
	}
	if f := &req.Filter; f.Kind == ldapwire.Equality && !slices.ContainsFunc(attributes[0].Values, func(v string) bool { return strings.EqualFold(v, f.Value) }) {
		return nil
	}
	return c.out.append(op, func(dst []byte) []byte {
		return ldapwire.AppendEntry(dst, op.id, dn, func(yield func(string, []string) bool) {
			for _, a := range attributes {
				if len(a.Values) == 0 || !wanted(a.Name) {
					continue
				}
				if req.TypesOnly {
					a.Values = nil
				}
				if !yield(a.Name, a.Values) {
					return
				}
			}
		})
	})
}

// asked reports whether an attribute is among those asked for (RFC 4511 §4.5.1.8, RFC 3673).
func asked(names []string, name string, operational bool) bool {
	return len(names) == 0 && !operational || slices.ContainsFunc(names, func(n string) bool {
		return n == "*" && !operational || n == "+" && operational || strings.EqualFold(n, name)
	})
}

func (c *session) rootAttributes() []directory.Attribute {
	o := &c.srv.o
	contexts := make([]string, len(o.NamingContexts))
	for i, dn := range o.NamingContexts {
		contexts[i] = dn.String()
	}
	extensions := []string{ldapwire.OIDWhoAmI, ldapwire.OIDCancel}
	if o.TLS != nil {
		extensions = append(extensions, ldapwire.OIDStartTLS)
	}
	features := []string{"1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"} // RFC 3673 "+", RFC 4526 (&)(|)
	if c.srv.editor != nil {
		extensions = append(extensions, ldapwire.OIDPasswordModify)
		features = append(features, "1.3.6.1.1.14") // RFC 4525
	}
	attributes := []directory.Attribute{
		{Name: "objectClass", Values: []string{"top"}},
		{Name: "namingContexts", Values: contexts},
		{Name: "supportedLDAPVersion", Values: []string{"3"}},
		{Name: "supportedControl", Values: supportedControls()},
		{Name: "supportedExtension", Values: extensions},
		{Name: "supportedFeatures", Values: features},
		{Name: "supportedSASLMechanisms", Values: c.mechanisms()},
		{Name: "vendorName", Values: []string{"mailsrv"}},
	}
	if o.Version != "" {
		attributes = append(attributes, directory.Attribute{Name: "vendorVersion", Values: []string{o.Version}})
	}
	if o.Schema != nil {
		attributes = append(attributes, directory.Attribute{Name: "subschemaSubentry", Values: []string{subschemaDN}})
	}
	return attributes
}
