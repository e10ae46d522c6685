package config

import (
	"net/netip"
	"time"
)

// Store is the store role.
type Store struct {
	Hosts          []string `yaml:"hosts"`
	IMAP           Door     `yaml:"imap"`
	POP3           Door     `yaml:"pop3"`
	POP3LoginDelay Duration `yaml:"pop3_login_delay"`
	LMTP           LMTP     `yaml:"lmtp"`
	Proxies        []Proxy  `yaml:"proxies"`
	// ProxyCA signs the certificates of proxies that need one.
	ProxyCA           string         `yaml:"proxy_ca"`
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	Quota             Quota          `yaml:"quota"`
	MaxMessage        Size           `yaml:"max_message"`
	InlineLimit       Size           `yaml:"inline_limit"`
	PackLimit         Size           `yaml:"pack_limit"`
	KeepRemoved       Duration       `yaml:"keep_removed"`
	SharedAdmins      []string       `yaml:"shared_admins"`
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
	// Certificate is the name in the certificate that it must show.
	Certificate string `yaml:"certificate"`
}

// Quota is the default of users without one: -1 is no limit.
type Quota struct {
	Bytes    Size  `yaml:"bytes"`
	Messages int64 `yaml:"messages"`
	Reject   bool  `yaml:"reject"`
	WarnAt   []int `yaml:"warn_at"`
}

func defaultStore() Store {
	return Store{
		LMTP:        LMTP{Trusted: loopback()},
		Quota:       Quota{Bytes: -1, Messages: -1, WarnAt: []int{80, 95}},
		MaxMessage:  50 << 20,
		InlineLimit: 64 << 10,
		PackLimit:   1 << 20,
		KeepRemoved: Duration(14 * 24 * time.Hour),
	}
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}
