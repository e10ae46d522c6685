package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Checks are the opinions that are asked about messages before they are taken.
type Checks struct {
	Trusted []netip.Prefix `yaml:"trusted"`
	Rate    Rate           `yaml:"rate"`
	DNSBL   []DNSBL        `yaml:"dnsbl"`
	// ReverseDNS and Helo are about strangers' host names: off, note, junk or refuse.
	ReverseDNS string   `yaml:"reverse_dns"`
	Helo       string   `yaml:"helo"`
	Greylist   Greylist `yaml:"greylist"`
	SPF        bool     `yaml:"spf"`
	DKIM       bool     `yaml:"dkim"`
	ARC        bool     `yaml:"arc"`
	DMARC      string   `yaml:"dmarc"`
	Milters    []Milter `yaml:"milters"`
}

// Rate bounds what one source hands in; 0 is no bound.
type Rate struct {
	LoginHourly    int `yaml:"login_hourly"`
	LoginDaily     int `yaml:"login_daily"`
	StrangerMinute int `yaml:"stranger_minute"`
	SenderMinute   int `yaml:"sender_minute"`
}

// DNSBL is a list in the DNS, and what a listing leads to.
type DNSBL struct {
	Zone   string `yaml:"zone"`
	Action string `yaml:"action"`
}

// Milter is a content filter, and what a message meets while it is silent.
type Milter struct {
	Address   string `yaml:"address"`
	OnFailure string `yaml:"on_failure"`
}

// Greylist puts first contacts off.
type Greylist struct {
	Enabled bool     `yaml:"enabled"`
	Wait    Duration `yaml:"wait"`
}

func defaultChecks() Checks {
	return Checks{
		Trusted:    loopback(),
		Rate:       Rate{LoginHourly: 200, LoginDaily: 1000, StrangerMinute: 300, SenderMinute: 300},
		ReverseDNS: "note",
		Helo:       "note",
		Greylist:   Greylist{Wait: Duration(5 * time.Minute)},
		SPF:        true,
		DKIM:       true,
		ARC:        true,
		DMARC:      "obey",
	}
}

func (c Checks) validate(bad report) {
	if modes := []string{"obey", "quarantine", "observe", "off"}; !slices.Contains(modes, c.DMARC) {
		bad("mta.checks.dmarc", "%q is none of %s", c.DMARC, strings.Join(modes, ", "))
	}
	for key, action := range map[string]string{"reverse_dns": c.ReverseDNS, "helo": c.Helo} {
		if actions := []string{"off", "note", "junk", "refuse"}; !slices.Contains(actions, action) {
			bad("mta.checks."+key, "%q is none of %s", action, strings.Join(actions, ", "))
		}
	}
	for i, l := range c.DNSBL {
		key := fmt.Sprintf("mta.checks.dnsbl[%d]", i)
		if l.Zone == "" {
			bad(key+".zone", "is missing")
		}
		if actions := []string{"refuse", "junk", "vouch"}; !slices.Contains(actions, l.Action) {
			bad(key+".action", "%q is none of %s", l.Action, strings.Join(actions, ", "))
		}
	}
	for i, m := range c.Milters {
		key := fmt.Sprintf("mta.checks.milters[%d]", i)
		if !strings.HasPrefix(m.Address, "unix:/") && !validAddress(m.Address) {
			bad(key+".address", "%q is neither host:port nor unix:/path", m.Address)
		}
		if modes := []string{"", "wait", "accept"}; !slices.Contains(modes, m.OnFailure) {
			bad(key+".on_failure", "%q is neither wait nor accept", m.OnFailure)
		}
	}
	for name, n := range map[string]int{"login_hourly": c.Rate.LoginHourly, "login_daily": c.Rate.LoginDaily, "stranger_minute": c.Rate.StrangerMinute, "sender_minute": c.Rate.SenderMinute} {
		if n < 0 {
			bad("mta.checks.rate."+name, "must not be negative; 0 is no bound")
		}
	}
	if c.Greylist.Wait < 0 {
		bad("mta.checks.greylist.wait", "must not be negative")
	}
}
