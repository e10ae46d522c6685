package config

import "time"

// Directory is the directory role, or how to reach one that runs elsewhere.
type Directory struct {
	Listen            DirectoryListen `yaml:"listen"`
	Suffix            string          `yaml:"suffix"`
	DefaultDomain     string          `yaml:"default_domain"`
	AdminDN           string          `yaml:"admin_dn"`
	AdminPasswordFile string          `yaml:"admin_password_file"`
	Services          []Service       `yaml:"services"`
	ClientCA          string          `yaml:"client_ca"`
	SchemaFolder      string          `yaml:"schema"`
	SelfWrite         []string        `yaml:"self_write"`
	AnonymousBook     bool            `yaml:"anonymous_book"`
	Passwords         Passwords       `yaml:"passwords"`
	Posix             Posix           `yaml:"posix"`
	URLs              []string        `yaml:"url"`
	BindDN            string          `yaml:"bind_dn"`
	BindPasswordFile  string          `yaml:"bind_password_file"`
	StartTLS          bool            `yaml:"starttls"`
	CA                string          `yaml:"ca"`
	Cert              string          `yaml:"client_cert"`
	Key               string          `yaml:"client_key"`
	Timeout           Duration        `yaml:"timeout"`
	Pool              int             `yaml:"pool"`
	SCRAM             bool            `yaml:"scram"`
	Verify            string          `yaml:"verify"`
	Cache             Cache           `yaml:"cache"`
	ReadOnly          bool            `yaml:"read_only"`
	Foreign           Foreign         `yaml:"foreign"`
}

// Passwords is what passwords must be, and what becomes of their hashes.
type Passwords struct {
	MinLength int      `yaml:"min_length"`
	History   int      `yaml:"history"`
	MaxAge    Duration `yaml:"max_age"`
	Rehash    bool     `yaml:"rehash"`
}

// Posix is what our users and groups are to programs that want posixAccount and
// posixGroup.
type Posix struct {
	First int    `yaml:"first"`
	Group int    `yaml:"group"`
	Home  string `yaml:"home"`
	Shell string `yaml:"shell"`
}

// Cache is how long answers of a directory elsewhere count.
type Cache struct {
	Positive Duration `yaml:"positive"`
	Negative Duration `yaml:"negative"`
	Stale    Duration `yaml:"stale"`
}

// DirectoryListen holds the listeners of the LDAP server.
type DirectoryListen struct {
	LDAP  Listeners `yaml:"ldap"`
	LDAPS Listeners `yaml:"ldaps"`
	LDAPI string    `yaml:"ldapi"`
}

// Service is an account that other roles bind with: it reads everything but passwords.
type Service struct {
	DN           string `yaml:"dn"`
	PasswordFile string `yaml:"password_file"`
	Certificate  string `yaml:"certificate"`
}

func defaultDirectory() Directory {
	return Directory{
		Passwords: Passwords{MinLength: 8, Rehash: true},
		SelfWrite: []string{"mailAutoReplyMode", "mailAutoReplySubject", "mailAutoReplyText", "mailAutoReplyTextInternal", "mailAutoReplyTimeOut",
			"vacationStartDate", "vacationEndDate", "mailSieveRuleSource", "preferredLanguage"},
		Suffix:  "o=mail",
		AdminDN: "cn=admin,o=mail",
		Timeout: Duration(5 * time.Second),
		Pool:    8,
		SCRAM:   true,
		Verify:  "bind",
		Posix:   Posix{First: 10000, Group: 100, Home: "/home/%u", Shell: "/bin/bash"},
		Cache:   Cache{Stale: Duration(time.Hour)},
	}
}
