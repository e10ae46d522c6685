package cmd

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
)

// topology is an installation whose roles run in one process, or in one for
// each, over LDAP, LMTP, IMAP and POP3 with STARTTLS. Beside it is another
// installation, "other", with a domain other.test: the next hop of mail that is
// not ours.
type topology struct {
	*install
	split bool
	// doors are addresses by name, such as imap; other-smtp and other-imap are
	// those of the other installation. admin-ROLE serves the metrics.
	doors map[string]string
	// configs are files, and running the processes, by process name.
	configs map[string]string
	running map[string]*process
}

// settings are a configuration, or a part of one.
type settings = map[string]any

func newTopology(i *install, split bool) *topology {
	t := &topology{install: i, split: split, doors: map[string]string{}, configs: map[string]string{}, running: map[string]*process{}}
	names := []string{"ldap", "store-imap", "store-pop3", "lmtp", "imap", "imaps", "pop3", "pop3s", "smtp", "submission", "submissions", "mmp-submission",
		"admin", "admin-directory", "admin-store", "admin-mta", "admin-mmp", "other-smtp", "other-imap", "other-admin"}
	host := loopback()
	for n, port := range portsOf(i.t, host, len(names)) {
		t.doors[names[n]] = fmt.Sprintf("%s:%d", host, port)
	}
	if !split {
		for _, role := range roles() {
			t.doors["admin-"+role] = t.doors["admin"]
		}
	}
	return t
}

// roles are the processes of a split installation, in an order to start them.
func roles() []string { return []string{"directory", "store", "mta", "mmp"} }

// process names the process that runs a role.
func (t *topology) process(role string) string {
	if t.split || role == "other" {
		return role
	}
	return "all"
}

// processes are those of roles, or all of the installation.
func (t *topology) processes(chosen []string) []string {
	if len(chosen) == 0 {
		chosen = roles()
	}
	var list []string
	for _, role := range chosen {
		list = append(list, t.process(role))
	}
	return slices.Compact(list)
}

// write writes the configurations, with what a test wants otherwise.
func (t *topology) write(otherwise settings) {
	t.t.Helper()
	if t.split {
		for _, role := range roles() {
			t.writeOne(role, []string{role}, t.doors["admin-"+role], t.mail(), t.remote(), otherwise)
		}
	} else {
		t.writeOne("all", roles(), t.doors["admin"], t.mail(), otherwise)
	}
	t.writeOne("other", roles(), t.doors["other-admin"], t.other())
}

func (t *topology) writeOne(name string, roles []string, admin string, parts ...settings) {
	t.t.Helper()
	all := settings{
		"hostname": "localhost", "roles": roles, "data": filepath.Join(t.dir, name), "grace": "2s",
		"tls": settings{"cert": t.cert, "key": t.key}, "admin": settings{"listen": []string{admin}},
	}
	for _, part := range parts {
		merge(all, part)
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		t.t.Fatal(err)
	}
	t.configs[name] = t.file(name+".yaml", string(text))
}

// logFile is where a process logs to, over all its lives.
func (t *topology) logFile(process string) string { return filepath.Join(t.dir, process+".log") }

// listen is one listener on a door's address.
func (t *topology) listen(door string) []string { return []string{t.doors[door]} }

// mail is what every process of the installation is told.
func (t *topology) mail() settings {
	return settings{
		"directory": settings{
			"default_domain": "example.test",
			"listen":         settings{"ldap": t.listen("ldap")},
			"services":       []settings{{"dn": "cn=service,o=mail", "password_file": t.file("service.secret", "service-password\n")}},
		},
		"store": settings{
			"imap":    settings{"listen": t.listen("store-imap")},
			"pop3":    settings{"listen": t.listen("store-pop3")},
			"lmtp":    settings{"listen": t.listen("lmtp")},
			"proxies": []settings{{"name": "mmp", "secret_file": t.file("proxy.secret", "proxy-password\n"), "networks": []string{"127.0.0.0/8"}}},
		},
		"mmp": settings{
			"imap":       settings{"listen": t.listen("imap"), "listen_tls": t.listen("imaps")},
			"pop3":       settings{"listen": t.listen("pop3"), "listen_tls": t.listen("pop3s")},
			"submission": settings{"listen": t.listen("mmp-submission")},
			"mtas":       []settings{{"address": t.doors["submission"], "tls": "starttls", "ca": t.cert, "proxy_name": "mmp", "secret_file": t.file("proxy.secret", "proxy-password\n")}},
		},
		"mta": settings{
			"smtp":        settings{"listen": t.listen("smtp")},
			"submission":  settings{"listen": t.listen("submission")},
			"submissions": settings{"listen": t.listen("submissions")},
			"proxies":     []settings{{"name": "mmp", "secret_file": t.file("proxy.secret", "proxy-password\n"), "networks": []string{"127.0.0.0/8"}}},
			"smart_host":  settings{"address": t.doors["other-smtp"], "tls": "starttls", "ca": t.cert},
			"dns":         "127.0.0.1:1", // there is none: nothing is asked of the world
			"queue":       settings{"retry": []string{"1s"}},
		},
	}
}

// remote is how the roles reach each other when they are apart.
func (t *topology) remote() settings {
	host := func(address string) settings {
		return settings{"host": "localhost", "address": t.doors[address], "tls": "starttls", "ca": t.cert}
	}
	mmp := host("store-imap")
	mmp["pop3_address"], mmp["proxy_name"], mmp["secret_file"] = t.doors["store-pop3"], "mmp", filepath.Join(t.dir, "proxy.secret")
	return settings{
		"directory": settings{
			"url": []string{"ldap://" + t.doors["ldap"]}, "starttls": true, "ca": t.cert,
			"bind_dn": "cn=service,o=mail", "bind_password_file": filepath.Join(t.dir, "service.secret"),
		},
		"mmp": settings{"stores": []settings{mmp}},
		"mta": settings{"stores": []settings{host("lmtp")}},
	}
}

// other is the whole configuration of the other installation.
func (t *topology) other() settings {
	return settings{
		"directory": settings{"default_domain": "other.test"},
		"mmp":       settings{"imap": settings{"listen": t.listen("other-imap"), "listen_tls": []string{}}, "pop3": settings{"listen": []string{}, "listen_tls": []string{}}},
		"mta": settings{
			"smtp": settings{"listen": t.listen("other-smtp")}, "submission": settings{"listen": []string{}}, "submissions": settings{"listen": []string{}},
			"dns": "127.0.0.1:1",
		},
	}
}

// merge puts the settings of part over those of all, key by key.
func merge(all, part settings) {
	for key, value := range part {
		if inner, ok := value.(settings); ok {
			if there, ok := all[key].(settings); ok {
				merge(there, inner)
				continue
			}
		}
		all[key] = value
	}
}
