package directory

import "fmt"

// Presets are the names of the mappings that Preset knows.
func Presets() []string { return []string{"openldap", "389ds", "ad"} }

// Preset is the mapping for a directory of that kind as its makers and their
// handbooks have it; its domains are left to the caller. It may be changed.
func Preset(name string) (*Mapping, error) {
	switch name {
	case "openldap":
		return openLDAP(), nil
	case "389ds":
		return dirsrv(), nil
	case "ad":
		return activeDirectory(), nil
	}
	return nil, fmt.Errorf("%w: preset %q; there are openldap, 389ds and ad", ErrMapping, name)
}

func named(names ...string) (out []Source) {
	for _, n := range names {
		out = append(out, Source{Attribute: n})
	}
	return out
}

// common are the attributes that have the same name everywhere.
func common() map[string][]Source {
	return map[string][]Source{"cn": named("cn"), "mail": named("mail"), "preferredLanguage": named("preferredLanguage")}
}

func not(f Filter) Filter { return Filter{Kind: Not, Children: []Filter{f}} }

// openLDAP is inetOrgPerson and groupOfNames (RFC 2798, RFC 4519), without a schema
// for mail; where courier's or qmail's is there, its attributes count.
func openLDAP() *Mapping {
	m := &Mapping{
		Users:  AllOf(Equal("objectClass", "person"), Filter{Attribute: "uid"}),
		Groups: AllOf(AnyOf(Equal("objectClass", "groupOfNames"), Equal("objectClass", "groupOfUniqueNames")), Filter{Attribute: "mail"}),
		Login:  []string{"uid"}, Members: "member", Attributes: common(),
		Inactive: AnyOf(Equal("accountStatus", "disabled"), Equal("accountStatus", "noaccess"), Equal("pwdAccountLockedTime", "000001010000Z")),
	}
	m.Attributes["mailAlternateAddress"] = named("mailAlternateAddress", "mailLocalAddress")
	m.Attributes["mailHost"] = named("mailHost")
	m.Attributes["mailRoutingAddress"] = named("mailRoutingAddress")
	m.Attributes["mailQuota"] = named("mailQuota")
	m.Attributes["uniqueMember"] = named("uniqueMember")
	m.Attributes["owner"] = named("owner")
	return m
}

// dirsrv is 389 Directory Server, whose schema has Netscape's attributes of mail.
func dirsrv() *Mapping {
	m := openLDAP()
	m.Members = "uniqueMember"
	m.Groups = AllOf(AnyOf(Equal("objectClass", "groupOfUniqueNames"), Equal("objectClass", "groupOfNames")),
		AnyOf(Equal("objectClass", "mailGroup"), Filter{Attribute: "mail"}))
	m.Inactive = AnyOf(Equal("nsAccountLock", "TRUE"), Equal("inetUserStatus", "inactive"))
	m.Attributes["uniqueMember"] = named("member")
	m.Attributes["mgrpRFC822MailMember"] = named("mgrpRFC822MailMember")
	return m
}

// activeDirectory is Active Directory, and Samba as one. Its primary address is in
// mail; proxyAddresses has all, with their kind before them. Bit 2 of
// userAccountControl is "disabled".
func activeDirectory() *Mapping {
	m := &Mapping{
		Users:  AllOf(Equal("objectClass", "user"), not(Equal("objectClass", "computer"))),
		Groups: AllOf(Equal("objectClass", "group"), AnyOf(Filter{Attribute: "mail"}, Filter{Attribute: "proxyAddresses"})),
		Login:  []string{"sAMAccountName"}, LoginAddress: []string{"userPrincipalName"}, Members: "member", Attributes: common(),
		Inactive: Filter{Kind: Extensible, Attribute: "userAccountControl", Rule: ruleBitAnd, Value: "2"},
	}
	m.Attributes["cn"] = named("displayName", "cn")
	m.Attributes["mailAlternateAddress"] = []Source{{Attribute: "proxyAddresses", Prefix: "smtp:"}}
	m.Attributes["mailQuota"] = []Source{{Attribute: "mDBOverHardQuotaLimit", Unit: "K"}}
	m.Attributes["owner"] = named("managedBy")
	return m
}
