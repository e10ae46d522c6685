package config

import (
	"fmt"
	"slices"
)

// Foreign says how a directory that is not of our schema names things.
type Foreign struct {
	Preset         string              `yaml:"preset"`
	Domains        []ForeignDomain     `yaml:"domains"`
	Users          string              `yaml:"users"`
	Groups         string              `yaml:"groups"`
	Inactive       string              `yaml:"inactive"`
	Login          []string            `yaml:"login"`
	LoginAddress   []string            `yaml:"login_address"`
	LoginIsAddress bool                `yaml:"login_is_address"`
	Members        string              `yaml:"members"`
	MembersAre     string              `yaml:"members_are"`
	Attributes     map[string][]string `yaml:"attributes"`
}

// ForeignDomain is a domain of ours whose users are in a foreign directory.
type ForeignDomain struct {
	Name      string   `yaml:"name"`
	Aliases   []string `yaml:"aliases"`
	Base      string   `yaml:"base"`
	MailHost  string   `yaml:"mail_host"`
	CatchAll  string   `yaml:"catchall"`
	SmartHost string   `yaml:"smart_host"`
}

// validateForeign finds what a foreign directory needs.
func (c Config) validateForeign(bad report) {
	f := c.Directory.Foreign
	if v := c.Directory.Verify; v != "bind" && v != "compare" {
		bad("directory.verify", "%q is none of bind, compare", v)
	}
	if !slices.Contains([]string{"", "openldap", "389ds", "ad"}, f.Preset) {
		bad("directory.foreign.preset", "%q is none of openldap, 389ds, ad", f.Preset)
	}
	if !slices.Contains([]string{"", "dn", "name", "memberof"}, f.MembersAre) {
		bad("directory.foreign.members_are", "%q is none of dn, name, memberof", f.MembersAre)
	}
	if f.Preset == "" {
		if len(f.Domains) > 0 {
			bad("directory.foreign.domains", "count only with a preset")
		}
		return
	}
	if c.Runs(RoleDirectory) {
		bad("directory.foreign.preset", "is for a directory elsewhere: take directory out of roles, and set directory.url")
	}
	if len(f.Domains) == 0 {
		bad("directory.foreign.domains", "a directory that is not ours has no entries for domains: name them here")
	}
	for i, d := range f.Domains {
		if d.Name == "" {
			bad(fmt.Sprintf("directory.foreign.domains[%d].name", i), "is empty")
		}
	}
}
