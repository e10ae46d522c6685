package daemon

import (
	"cmp"
	"fmt"
	"strings"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
)

// mapping is how a foreign directory names things: its preset's ways, but for what
// the configuration says. host is where users live of whom nothing is said.
func mapping(c config.Foreign, host string) (*directory.Mapping, error) {
	m, err := directory.Preset(c.Preset)
	if err != nil {
		return nil, err
	}
	for _, d := range c.Domains {
		md := directory.MappedDomain{Name: d.Name, Aliases: d.Aliases, MailHost: strings.ToLower(cmp.Or(d.MailHost, host)), CatchAll: d.CatchAll, SmartHost: d.SmartHost}
		if md.Base, err = directory.ParseDN(d.Base); err != nil {
			return nil, fmt.Errorf("base of the domain %s: %w", d.Name, err)
		}
		m.Domains = append(m.Domains, md)
	}
	for _, f := range []struct {
		key, text string
		to        *directory.Filter
	}{{"users", c.Users, &m.Users}, {"groups", c.Groups, &m.Groups}, {"inactive", c.Inactive, &m.Inactive}} {
		if f.text == "" {
			continue
		}
		if *f.to, err = directory.ParseFilter(f.text); err != nil {
			return nil, fmt.Errorf("filter %s: %w", f.key, err)
		}
	}
	if len(c.Login) > 0 {
		m.Login = c.Login
	}
	if len(c.LoginAddress) > 0 {
		m.LoginAddress = c.LoginAddress
	}
	m.LoginIsAddress = c.LoginIsAddress
	if c.Members != "" {
		m.Members = c.Members
	}
	m.MembersAre = map[string]directory.MemberForm{"name": directory.MemberName, "memberof": directory.MemberOf}[c.MembersAre]
	for ours, theirs := range c.Attributes {
		var sources []directory.Source
		for _, text := range theirs {
			s, err := directory.ParseSource(text)
			if err != nil {
				return nil, fmt.Errorf("attributes: %s: %w", ours, err)
			}
			sources = append(sources, s)
		}
		for name := range m.Attributes { // one name in another case is the same attribute
			if strings.EqualFold(name, ours) {
				ours = name
			}
		}
		m.Attributes[ours] = sources
	}
	return m, m.Check()
}
