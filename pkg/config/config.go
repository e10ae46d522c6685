// Package config is the YAML file as Go structs: defaults, strict decoding and
// Validate, which reports every fault at once with its line.
//
// Only cmd and daemon import it; every other package takes a small Options
// struct.
package config

import (
	"fmt"
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
	Limits    Limits    `yaml:"limits"`
	Trace     Trace     `yaml:"trace"`
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

// Trace is what is remembered of each message, for mailsrv trace.
type Trace struct {
	// Keep is for how long; 0: nothing is.
	Keep    Duration `yaml:"keep"`
	MaxSize Size     `yaml:"max_size"`
}

// TLS names the certificate of all listeners.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ClientCA signs certificates of people, who log in by EXTERNAL.
	ClientCA string `yaml:"client_ca"`
	// Further certificates are chosen by the name that a client asks for.
	Further []Pair `yaml:"further"`
}

// Pair names the files of a certificate chain and its key.
type Pair struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Admin is the listener for metrics and health.
type Admin struct {
	Listen Listeners `yaml:"listen"`
	// Pprof: profiles at /debug/pprof/ too, of loopback listeners only.
	Pprof bool `yaml:"pprof"`
}

// Listeners are addresses to listen on: host:port, :port or unix:/path.
type Listeners []string

// Door is a pair of listeners of one protocol: with STARTTLS, and with TLS from the first byte.
type Door struct {
	Listen    Listeners `yaml:"listen"`
	ListenTLS Listeners `yaml:"listen_tls"`
}

// ListenOnly holds the listeners of a door that has one kind of them.
type ListenOnly struct {
	Listen Listeners `yaml:"listen"`
}

// Default is the configuration of an empty file: all roles on one machine.
func Default() Config {
	return Config{
		Roles:     AllRoles(),
		Data:      "/var/lib/mailsrv",
		Grace:     Duration(30 * time.Second),
		Log:       Log{Level: "info", Format: "text"},
		Admin:     Admin{Listen: Listeners{"127.0.0.1:9925"}},
		Limits:    defaultLimits(),
		Trace:     Trace{Keep: Duration(30 * 24 * time.Hour), MaxSize: 1 << 30},
		Directory: defaultDirectory(),
		Store:     defaultStore(),
		MMP:       defaultMMP(),
		MTA:       defaultMTA(),
	}
}
