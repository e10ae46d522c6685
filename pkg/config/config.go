// Package config is the YAML file as Go structs: defaults, strict decoding and
// Validate, which reports every fault at once with its line.
//
// Only cmd and daemon import it; every other package takes a small Options
// struct.
package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Role is one of the four roles.
type Role string

// The roles, in the order in which they start.
const (
	RoleDirectory Role = "directory"
	RoleStore     Role = "store"
	RoleMTA       Role = "mta"
	RoleMMP       Role = "mmp"
)

// AllRoles returns the four roles in the order in which they start.
func AllRoles() []Role { return []Role{RoleDirectory, RoleStore, RoleMTA, RoleMMP} }

// ParseRoles reads a list such as "mta,mmp".
func ParseRoles(s string) ([]Role, error) {
	var roles []Role
	for name := range strings.SplitSeq(s, ",") {
		r := Role(strings.TrimSpace(name))
		if !slices.Contains(AllRoles(), r) {
			return nil, fmt.Errorf("unknown role %q; the roles are mta, mmp, store and directory", name)
		}
		if !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles, nil
}

// Config is the whole file.
type Config struct {
	Hostname  string    `yaml:"hostname"`
	Roles     []Role    `yaml:"roles"`
	Data      string    `yaml:"data"`
	Grace     Duration  `yaml:"grace"`
	Log       Log       `yaml:"log"`
	TLS       TLS       `yaml:"tls"`
	Admin     Admin     `yaml:"admin"`
	Directory Directory `yaml:"directory"`
	Store     Store     `yaml:"store"`
	MMP       MMP       `yaml:"mmp"`
	MTA       MTA       `yaml:"mta"`
}

// Runs reports whether this process runs the role.
func (c Config) Runs(r Role) bool { return slices.Contains(c.Roles, r) }

// Log says how much is logged, and in which form.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// TLS names the certificate of all listeners.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Admin is the listener for metrics and health.
type Admin struct {
	Listen Listeners `yaml:"listen"`
	Pprof  bool      `yaml:"pprof"`
}

// Listeners are addresses to listen on: host:port, :port or unix:/path.
type Listeners []string

// Door is a pair of listeners of one protocol: with STARTTLS, and with TLS from the first byte.
type Door struct {
	Listen    Listeners `yaml:"listen"`
	ListenTLS Listeners `yaml:"listen_tls"`
}

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

// Store is the store role.
type Store struct {
	Hosts             []string       `yaml:"hosts"`
	IMAP              Door           `yaml:"imap"`
	LMTP              LMTP           `yaml:"lmtp"`
	Proxies           []Proxy        `yaml:"proxies"`
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	Quota             Quota          `yaml:"quota"`
	MaxMessage        Size           `yaml:"max_message"`
	InlineLimit       Size           `yaml:"inline_limit"`
}

// LMTP is the store's door for MTAs elsewhere.
type LMTP struct {
	Listen  Listeners      `yaml:"listen"`
	Trusted []netip.Prefix `yaml:"trusted"`
}

// Proxy is an MMP that may log users in.
type Proxy struct {
	Name       string         `yaml:"name"`
	SecretFile string         `yaml:"secret_file"`
	Networks   []netip.Prefix `yaml:"networks"`
}

// Quota is the default of users without one: -1 is no limit.
type Quota struct {
	Bytes    Size  `yaml:"bytes"`
	Messages int64 `yaml:"messages"`
}

// MMP is the multiplexor role.
type MMP struct {
	IMAP        Door       `yaml:"imap"`
	DefaultHost string     `yaml:"default_host"`
	Stores      []MMPStore `yaml:"stores"`
}

// MMPStore is how the MMP reaches the store of one mailHost.
type MMPStore struct {
	Host          string `yaml:"host"`
	Address       string `yaml:"address"`
	TLS           string `yaml:"tls"`
	CA            string `yaml:"ca"`
	Kind          string `yaml:"kind"`
	ProxyName     string `yaml:"proxy_name"`
	SecretFile    string `yaml:"secret_file"`
	ProxyProtocol bool   `yaml:"proxy_protocol"`
}

// MTA is the transfer agent role.
type MTA struct {
	SMTP          ListenOnly `yaml:"smtp"`
	Submission    ListenOnly `yaml:"submission"`
	Submissions   ListenOnly `yaml:"submissions"`
	Stores        []MTAStore `yaml:"stores"`
	SmartHost     SmartHost  `yaml:"smart_host"`
	DNS           string     `yaml:"dns"`
	Port          int        `yaml:"port"`
	AllowLoopback bool       `yaml:"allow_loopback"`
	MaxMessage    Size       `yaml:"max_message"`
	MaxRecipients int        `yaml:"max_recipients"`
	Sent          Sent       `yaml:"sent"`
	Queue         Queue      `yaml:"queue"`
}

// ListenOnly holds the listeners of a door that has one kind of them.
type ListenOnly struct {
	Listen Listeners `yaml:"listen"`
}

// MTAStore is how the MTA reaches the store of one mailHost.
type MTAStore struct {
	Host    string `yaml:"host"`
	Address string `yaml:"address"`
	TLS     string `yaml:"tls"`
	CA      string `yaml:"ca"`
}

// SmartHost takes all mail for other domains; an empty address: there is none.
type SmartHost struct {
	Address      string `yaml:"address"`
	TLS          string `yaml:"tls"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

// Sent is the server's copy of what a user sends.
type Sent struct {
	Enabled bool   `yaml:"enabled"`
	Mailbox string `yaml:"mailbox"`
}

// Queue is the schedule of what cannot be delivered at once.
type Queue struct {
	Lifetime       Duration   `yaml:"lifetime"`
	DelayWarning   Duration   `yaml:"delay_warning"`
	Retry          []Duration `yaml:"retry"`
	Concurrency    int        `yaml:"concurrency"`
	PerDestination int        `yaml:"per_destination"`
}

// Default is the configuration of an empty file: all roles on one machine.
func Default() Config {
	minutes := func(n ...int) (d []Duration) {
		for _, m := range n {
			d = append(d, Duration(time.Duration(m)*time.Minute))
		}
		return d
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	return Config{
		Roles: AllRoles(),
		Data:  "/var/lib/mailsrv",
		Grace: Duration(30 * time.Second),
		Log:   Log{Level: "info", Format: "text"},
		Admin: Admin{Listen: Listeners{"127.0.0.1:9925"}},
		Directory: Directory{
			Suffix:  "o=mail",
			AdminDN: "cn=admin,o=mail",
			Timeout: Duration(5 * time.Second),
			Pool:    8,
		},
		Store: Store{
			LMTP:        LMTP{Trusted: loopback},
			Quota:       Quota{Bytes: -1, Messages: -1},
			MaxMessage:  50 << 20,
			InlineLimit: 64 << 10,
		},
		MMP: MMP{IMAP: Door{Listen: Listeners{":143"}, ListenTLS: Listeners{":993"}}},
		MTA: MTA{
			SMTP:          ListenOnly{Listeners{":25"}},
			Submission:    ListenOnly{Listeners{":587"}},
			Submissions:   ListenOnly{Listeners{":465"}},
			Port:          25,
			MaxMessage:    50 << 20,
			MaxRecipients: 1000,
			Sent:          Sent{Enabled: true, Mailbox: "Sent"},
			Queue: Queue{
				Lifetime:       Duration(5 * 24 * time.Hour),
				DelayWarning:   Duration(4 * time.Hour),
				Retry:          minutes(5, 10, 20, 40, 80, 120),
				Concurrency:    50,
				PerDestination: 5,
			},
		},
	}
}
