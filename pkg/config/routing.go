package config

import (
	"fmt"
	"path/filepath"
	"slices"

	"mailsrv/pkg/mail"
)

// Routing is what the configuration adds to the directory about where mail goes.
type Routing struct {
	// Postmaster takes mail for postmaster where nobody has that address.
	Postmaster string `yaml:"postmaster"`
	// SecretFile is the key of rewritten senders and of moderators' tokens,
	// which all MTAs share; empty: one made in the data folder.
	SecretFile string `yaml:"secret_file"`
	// OverQuota is refuse or queue; DisabledText what senders to a disabled
	// user hear.
	OverQuota    string      `yaml:"over_quota"`
	DisabledText string      `yaml:"disabled_text"`
	Programs     []Program   `yaml:"programs"`
	Transports   []Transport `yaml:"transports"`
}

// Program is a command that users' entries may name.
type Program struct {
	Name    string   `yaml:"name"`
	Command []string `yaml:"command"`
	Timeout Duration `yaml:"timeout"`
}

// Transport is a way for some mail that is not the MX of its domain.
type Transport struct {
	Name string   `yaml:"name"`
	To   []string `yaml:"to"`
	From []string `yaml:"from"`
	// One of SMTP and LMTP (host:port), Address and MX is set.
	SMTP         string `yaml:"smtp"`
	LMTP         string `yaml:"lmtp"`
	Address      string `yaml:"address"`
	MX           bool   `yaml:"mx"`
	TLS          string `yaml:"tls"`
	CA           string `yaml:"ca"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
}

func defaultRouting() Routing { return Routing{OverQuota: "refuse"} }

func (r Routing) validate(bad report) {
	if !slices.Contains([]string{"refuse", "queue"}, r.OverQuota) {
		bad("mta.routing.over_quota", "%q is neither refuse nor queue", r.OverQuota)
	}
	if _, err := mail.ParseAddress(r.Postmaster); r.Postmaster != "" && err != nil {
		bad("mta.routing.postmaster", "%q is no address", r.Postmaster)
	}
	for i, p := range r.Programs {
		if p.Name == "" || len(p.Command) == 0 || !filepath.IsAbs(p.Command[0]) {
			bad(fmt.Sprintf("mta.routing.programs[%d]", i), "a program needs a name and a command that begins with an absolute path")
		}
	}
	names := make(map[string]bool)
	for i, t := range r.Transports {
		path := fmt.Sprintf("mta.routing.transports[%d]", i)
		if t.Name == "" || names[t.Name] {
			bad(path, "a transport needs a name of its own")
		}
		names[t.Name] = true
		ways := 0
		for _, w := range []string{t.SMTP, t.LMTP, t.Address} {
			if w != "" {
				ways++
			}
		}
		if t.MX {
			ways++
		}
		if ways != 1 {
			bad(path, "a transport has one of smtp, lmtp, address and mx: true")
		}
		if _, err := mail.ParseAddress(t.Address); t.Address != "" && err != nil {
			bad(path+".address", "%q is no address", t.Address)
		}
		if !slices.Contains([]string{"", "starttls", "implicit", "none"}, t.TLS) {
			bad(path+".tls", "%q is none of starttls, implicit, none", t.TLS)
		}
		if t.Username != "" && t.PasswordFile == "" {
			bad(path+".username", "needs password_file")
		}
	}
}
