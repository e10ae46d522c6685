package config

import (
	"net/netip"
	"time"
)

// MTA is the transfer agent role.
type MTA struct {
	SMTP        ListenOnly `yaml:"smtp"`
	Submission  ListenOnly `yaml:"submission"`
	Submissions ListenOnly `yaml:"submissions"`
	// Proxies may submit in the name of users, and ProxyProtocolFrom are the
	// networks of those whose connections begin with a PROXY v2 header.
	Proxies           []Proxy        `yaml:"proxies"`
	ProxyProtocolFrom []netip.Prefix `yaml:"proxy_protocol_from"`
	Stores            []MTAStore     `yaml:"stores"`
	SmartHost         SmartHost      `yaml:"smart_host"`
	DNS               string         `yaml:"dns"`
	Port              int            `yaml:"port"`
	AllowLoopback     bool           `yaml:"allow_loopback"`
	MaxMessage        Size           `yaml:"max_message"`
	MaxRecipients     int            `yaml:"max_recipients"`
	Sent              Sent           `yaml:"sent"`
	Checks            Checks         `yaml:"checks"`
	TLSPolicy         TLSPolicy      `yaml:"tls_policy"`
	Queue             Queue          `yaml:"queue"`
	Routing           Routing        `yaml:"routing"`
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
	CA           string `yaml:"ca"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

// TLSPolicy says which of other domains' demands on TLS are kept to.
type TLSPolicy struct {
	DANE   bool `yaml:"dane"`
	MTASTS bool `yaml:"mta_sts"`
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

func defaultMTA() MTA {
	return MTA{
		SMTP:          ListenOnly{Listeners{":25"}},
		Submission:    ListenOnly{Listeners{":587"}},
		Submissions:   ListenOnly{Listeners{":465"}},
		Port:          25,
		MaxMessage:    50 << 20,
		MaxRecipients: 1000,
		Routing:       defaultRouting(),
		Sent:          Sent{Enabled: true, Mailbox: "Sent"},
		Checks:        defaultChecks(),
		TLSPolicy:     TLSPolicy{DANE: true, MTASTS: true},
		Queue: Queue{
			Lifetime:       Duration(5 * 24 * time.Hour),
			DelayWarning:   Duration(4 * time.Hour),
			Retry:          minutes(5, 10, 20, 40, 80, 120),
			Concurrency:    50,
			PerDestination: 20,
		},
	}
}

func minutes(n ...int) (d []Duration) {
	for _, m := range n {
		d = append(d, Duration(time.Duration(m)*time.Minute))
	}
	return d
}
