package ldapserver

import (
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/wire/ldapwire"
)

// rootDSE sends what the server says of itself (RFC 4512 §5.1), to anybody.
func (c *session) rootDSE(op *operation, req *ldapwire.SearchRequest) ldapwire.Result {
	if f := &req.Filter; f.Kind != ldapwire.Present || !strings.EqualFold(f.Attribute, "objectClass") {
		return ldapwire.Result{} // nobody looks for it otherwise
	}
	err := c.out.append(op, func(dst []byte) []byte {
		return ldapwire.AppendEntry(dst, op.id, "", func(yield func(string, []string) bool) {
			for _, a := range c.rootAttributes() {
				if len(a.Values) == 0 || !asked(req.Attributes, a.Name) {
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
	return c.result(err)
}

func asked(names []string, name string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool {
		return n == "*" || n == "+" || strings.EqualFold(n, name)
	})
}

func (c *session) rootAttributes() []directory.Attribute {
	o := &c.srv.o
	contexts := make([]string, len(o.NamingContexts))
	for i, dn := range o.NamingContexts {
		contexts[i] = dn.String()
	}
	extensions := []string{ldapwire.OIDWhoAmI}
	if o.TLS != nil {
		extensions = append(extensions, ldapwire.OIDStartTLS)
	}
	if c.srv.editor != nil {
		extensions = append(extensions, ldapwire.OIDPasswordModify)
	}
	var mechanisms []string
	if len(o.Peers) > 0 {
		if _, ok := listen.PeerUID(c.conn.Raw()); ok {
			mechanisms = []string{mechanismExternal}
		}
	}
	version := []string{o.Version}
	if o.Version == "" {
		version = nil
	}
	return []directory.Attribute{
		{Name: "objectClass", Values: []string{"top"}},
		{Name: "namingContexts", Values: contexts},
		{Name: "supportedLDAPVersion", Values: []string{"3"}},
		{Name: "supportedExtension", Values: extensions},
		{Name: "supportedSASLMechanisms", Values: mechanisms},
		{Name: "supportedFeatures", Values: []string{"1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"}}, // RFC 3673 "+", RFC 4526 (&)(|)
		{Name: "vendorName", Values: []string{"mailsrv"}},
		{Name: "vendorVersion", Values: version},
	}
}
