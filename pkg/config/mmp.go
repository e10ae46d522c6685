package config

// MMP is the multiplexor role.
type MMP struct {
	IMAP Door `yaml:"imap"`
	POP3 Door `yaml:"pop3"`
	// Submission is handed to one of the MTAs.
	Submission  Door    `yaml:"submission"`
	MTAs        []MTAAt `yaml:"mtas"`
	DefaultHost string  `yaml:"default_host"`
	// FailoverAttributes hold the hosts for users whose mailHost is down.
	FailoverAttributes []string `yaml:"failover_attributes"`
	LoginSeparators    string   `yaml:"login_separators"`
	// DefaultDomains is by TLS server name, or by address of the listener.
	DefaultDomains  map[string]string `yaml:"default_domains"`
	Replay          bool              `yaml:"replay"`
	SessionsPerUser int               `yaml:"sessions_per_user"`
	Stores          []MMPStore        `yaml:"stores"`
}

// MMPStore is how the MMP reaches the store of one mailHost.
type MMPStore struct {
	Host          string `yaml:"host"`
	Address       string `yaml:"address"`
	POP3Address   string `yaml:"pop3_address"`
	TLS           string `yaml:"tls"`
	CA            string `yaml:"ca"`
	Cert          string `yaml:"client_cert"`
	Key           string `yaml:"client_key"`
	Kind          string `yaml:"kind"`
	ProxyName     string `yaml:"proxy_name"`
	SecretFile    string `yaml:"secret_file"`
	ProxyProtocol bool   `yaml:"proxy_protocol"`
}

func defaultMMP() MMP {
	return MMP{
		SessionsPerUser: 100,
		IMAP:            Door{Listen: Listeners{":143"}, ListenTLS: Listeners{":993"}},
		POP3:            Door{Listen: Listeners{":110"}, ListenTLS: Listeners{":995"}},
	}
}

// MTAAt is how the MMP reaches the submission door of an MTA.
type MTAAt struct {
	Address       string `yaml:"address"`
	TLS           string `yaml:"tls"`
	CA            string `yaml:"ca"`
	Cert          string `yaml:"client_cert"`
	Key           string `yaml:"client_key"`
	ProxyName     string `yaml:"proxy_name"`
	SecretFile    string `yaml:"secret_file"`
	ProxyProtocol bool   `yaml:"proxy_protocol"`
}
