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
	URLs              []string        `yaml:"url"`
	BindDN            string          `yaml:"bind_dn"`
	BindPasswordFile  string          `yaml:"bind_password_file"`
	StartTLS          bool            `yaml:"starttls"`
	CA                string          `yaml:"ca"`
	Timeout           Duration        `yaml:"timeout"`
	Pool              int             `yaml:"pool"`
	SCRAM             bool            `yaml:"scram"`
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
}

func defaultDirectory() Directory {
	return Directory{
		Suffix:  "o=mail",
		AdminDN: "cn=admin,o=mail",
		Timeout: Duration(5 * time.Second),
		Pool:    8,
		SCRAM:   true,
	}
}
