package config

// Limits bound the connections of strangers, by kind of door. 0: no bound.
type Limits struct {
	SMTP    Limit `yaml:"smtp"`
	Mailbox Limit `yaml:"mailbox"`
	LDAP    Limit `yaml:"ldap"`
}

// Limit is that of each door of one kind.
type Limit struct {
	// PerAddress and PerNetwork bound what an IPv4 address or IPv6 /64, and an
	// IPv4 /24 or IPv6 /48, has open at once.
	PerAddress int `yaml:"per_address"`
	PerNetwork int `yaml:"per_network"`
	// PerMinute bounds how often an address may connect in a minute.
	PerMinute int `yaml:"per_minute"`
	Total     int `yaml:"total"`
}

func defaultLimits() Limits {
	return Limits{
		SMTP:    Limit{PerAddress: 20, PerNetwork: 100, PerMinute: 60, Total: 1000},
		Mailbox: Limit{PerAddress: 50, PerNetwork: 500, PerMinute: 120, Total: 1000},
		LDAP:    Limit{PerAddress: 100, Total: 1000},
	}
}

func (l Limits) validate(bad report) {
	for _, x := range []struct {
		path string
		l    Limit
	}{{"limits.smtp", l.SMTP}, {"limits.mailbox", l.Mailbox}, {"limits.ldap", l.LDAP}} {
		for key, n := range map[string]int{"per_address": x.l.PerAddress, "per_network": x.l.PerNetwork, "per_minute": x.l.PerMinute, "total": x.l.Total} {
			if n < 0 {
				bad(x.path+"."+key, "a limit is 0, which is none, or more")
			}
		}
	}
}
