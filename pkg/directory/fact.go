package directory

import "strings"

// Fact is one attribute of an entry that decided about mail, for whoever has
// to explain the decision. The zero Fact: nothing is set, the default decided.
type Fact struct {
	DN        DN
	Attribute string
	Value     string
}

// String returns "attribute: value in dn"; empty for the zero Fact.
func (f Fact) String() string {
	if f.Attribute == "" {
		return ""
	}
	return f.Attribute + ": " + f.Value + " (" + f.DN.String() + ")"
}

// Aspect is what one asks an entry about.
type Aspect int

// The aspects of domains, users and groups.
const (
	AboutStatus   Aspect = iota
	AboutName            // a domain's canonical name
	AboutAlias           // its other names
	AboutHosts           // the hosts responsible for it
	AboutCatchAll        // where its unknown addresses lead
	AboutSmartHost
	AboutMailHost
	AboutRouting
	AboutDelivery
	AboutForward
	AboutProgram
	AboutReply
	AboutAbsence
	AboutSize
	AboutDeferral
	AboutMembers
	AboutExternal
	AboutURL
	AboutErrorsTo
	AboutModerator
	AboutReject
	AboutPolicy
	AboutAllowedDomain
	AboutDisallowedDomain
	AboutAllowed
	AboutDisallowed
	AboutHeader
	AboutOwner
	AboutAccess
)

// attributesOf lists what an aspect is read from, the first that is set first.
func attributesOf(a Aspect) []string {
	switch a {
	case AboutName:
		return []string{"sunPreferredDomain", "o"}
	case AboutAlias:
		return []string{"associatedDomain"}
	case AboutHosts:
		return []string{"mailRoutingHosts"}
	case AboutCatchAll:
		return []string{"mailDomainCatchallAddress"}
	case AboutSmartHost:
		return []string{"mailRoutingSmartHost"}
	case AboutMailHost:
		return []string{"mailHost", "preferredMailHost"}
	case AboutRouting:
		return []string{"mailRoutingAddress"}
	case AboutDelivery:
		return []string{"mailDeliveryOption"}
	case AboutForward:
		return []string{"mailForwardingAddress"}
	case AboutProgram:
		return []string{"mailProgramDeliveryInfo"}
	case AboutReply:
		return []string{"mailAutoReplyMode"}
	case AboutAbsence:
		return []string{"vacationStartDate", "vacationEndDate"}
	case AboutSize:
		return []string{"mailMsgMaxBlocks", "mgrpMsgMaxSize"}
	case AboutDeferral:
		return []string{"mailDeferProcessing"}
	case AboutMembers:
		return []string{"uniqueMember"}
	case AboutExternal:
		return []string{"mgrpRFC822MailMember"}
	case AboutURL:
		return []string{"memberURL", "mgrpDeliverTo"}
	case AboutErrorsTo:
		return []string{"mgrpErrorsTo"}
	case AboutModerator:
		return []string{"mgrpModerator"}
	case AboutReject:
		return []string{"mgrpMsgRejectAction"}
	case AboutPolicy:
		return []string{"mgrpBroadcasterPolicy"}
	case AboutAllowedDomain:
		return []string{"mgrpAllowedDomain"}
	case AboutDisallowedDomain:
		return []string{"mgrpDisallowedDomain"}
	case AboutAllowed:
		return []string{"mgrpAllowedBroadcaster"}
	case AboutDisallowed:
		return []string{"mgrpDisallowedBroadcaster"}
	case AboutHeader:
		return []string{"mgrpAddHeader", "mgrpRemoveHeader", "mgrpMsgPrefixText", "mgrpMsgSuffixText"}
	case AboutOwner:
		return []string{"owner"}
	case AboutAccess:
		return []string{"mailAllowedServiceAccess"}
	}
	return nil
}

// about returns the fact of an aspect that is no status.
func (e Entry) about(a Aspect) Fact {
	for _, name := range attributesOf(a) {
		if v := e.Values(name); len(v) > 0 {
			return Fact{DN: e.DN, Attribute: name, Value: strings.Join(v, ", ")}
		}
	}
	return Fact{}
}

// statusFact returns the first of the attributes that is not active, unless
// above, that of the domain, decided already.
func (e Entry) statusFact(above Fact, names ...string) Fact {
	for _, name := range names {
		if v := e.Value(name); above.Attribute == "" && parseStatus(v) != Active {
			return Fact{DN: e.DN, Attribute: name, Value: v}
		}
	}
	return above
}

// About tells which attribute decided about an aspect of the domain.
func (d Domain) About(a Aspect) Fact {
	if a == AboutStatus {
		return d.Entry.statusFact(Fact{}, "inetDomainStatus", "mailDomainStatus")
	}
	return d.Entry.about(a)
}

// About tells which attribute decided about an aspect of the user; a status
// may be the domain's.
func (u *User) About(a Aspect) Fact {
	if a == AboutStatus {
		return u.Entry.statusFact(u.DomainFact, "inetUserStatus", "mailUserStatus")
	}
	return u.Entry.about(a)
}

// About tells which attribute decided about an aspect of the group; a status
// may be the domain's.
func (g *Group) About(a Aspect) Fact {
	if a == AboutStatus {
		return g.Entry.statusFact(g.DomainFact, "inetMailGroupStatus")
	}
	return g.Entry.about(a)
}
