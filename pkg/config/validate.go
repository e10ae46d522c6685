package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/schema"
)

// Validate reports what no single key shows: what is missing for the roles that
// run, say after --roles changed them. All faults are in the one error.
func (c Config) Validate() error { return joined("configuration", c.validate(newDecoder())) }

// validate reports what decoding cannot see.
func (c Config) validate(d *decoder) []fault {
	var faults []fault
	bad := func(path, format string, args ...any) {
		if p, itself := d.at(path); !d.follows(path, itself) {
			faults = append(faults, fault{path, p.line, p.column, path + ": " + fmt.Sprintf(format, args...)})
		}
	}
	for i, r := range c.Roles {
		if !slices.Contains(AllRoles(), r) {
			bad(fmt.Sprintf("roles[%d]", i), "unknown role %q; the roles are mta, mmp, store and directory", r)
		}
	}
	if len(c.Roles) == 0 {
		bad("roles", "at least one role must run")
	}
	if c.Data == "" || !filepath.IsAbs(c.Data) {
		bad("data", "%q is no absolute path", c.Data)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		bad("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
	if !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		bad("log.format", "%q is neither text nor json", c.Log.Format)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls", "cert and key go together")
	}
	for i, p := range c.TLS.Further {
		if p.Cert == "" || p.Key == "" || c.TLS.Cert == "" {
			bad(fmt.Sprintf("tls.further[%d]", i), "cert and key go together, and further ones want tls.cert")
		}
	}
	c.validateNames(bad)
	c.validateListeners(bad, d.follows("tls.cert", false))
	c.validateRemotes(bad)
	c.validateSecrets(bad)
	c.validateForeign(bad)
	c.validateNumbers(bad)
	return faults
}

// validateNames finds names of entries and domains that are none.
func (c Config) validateNames(bad report) {
	names := map[string]string{"directory.suffix": c.Directory.Suffix, "directory.admin_dn": c.Directory.AdminDN, "directory.bind_dn": c.Directory.BindDN}
	for i, s := range c.Directory.Services {
		names[fmt.Sprintf("directory.services[%d].dn", i)] = s.DN
	}
	for path, name := range names {
		if _, err := schema.ParseDN(name); err != nil {
			bad(path, "%q is no name of an entry, such as cn=admin,o=mail", name)
		}
	}
	if _, err := mail.ParseDomain(c.Directory.DefaultDomain); c.Directory.DefaultDomain != "" && err != nil {
		bad("directory.default_domain", "%q is no domain", c.Directory.DefaultDomain)
	}
}

// report takes one fault, by the path of its key.
type report func(path, format string, args ...any)

// validateSecrets finds accounts without the file of their secret.
func (c Config) validateSecrets(bad report) {
	for i, s := range c.Directory.Services {
		if s.DN == "" || s.PasswordFile == "" && s.Certificate == "" {
			bad(fmt.Sprintf("directory.services[%d]", i), "a service needs a dn, and a password_file or a certificate")
		}
	}
	for i, p := range c.Store.Proxies {
		if p.Name == "" || p.SecretFile == "" || len(p.Networks) == 0 {
			bad(fmt.Sprintf("store.proxies[%d]", i), "a proxy needs a name, a secret_file and the networks it comes from")
		}
	}
	for i, p := range c.Store.Proxies {
		if p.Certificate != "" && c.Store.ProxyCA == "" {
			bad(fmt.Sprintf("store.proxies[%d].certificate", i), "needs store.proxy_ca")
		}
	}
	for i, s := range c.MMP.Stores {
		if (s.Cert == "") != (s.Key == "") {
			bad(fmt.Sprintf("mmp.stores[%d]", i), "client_cert and client_key go together")
		}
	}
	for i, p := range c.MTA.Proxies {
		if p.Name == "" || p.SecretFile == "" || len(p.Networks) == 0 {
			bad(fmt.Sprintf("mta.proxies[%d]", i), "a proxy needs a name, a secret_file and the networks it comes from")
		}
	}
	for i, s := range c.MMP.MTAs {
		if s.ProxyName == "" || s.SecretFile == "" {
			bad(fmt.Sprintf("mmp.mtas[%d]", i), "an MTA needs the proxy_name and secret_file that the MMP logs in with")
		}
	}
	for i, s := range c.MMP.Stores {
		if s.ProxyName == "" || s.SecretFile == "" {
			bad(fmt.Sprintf("mmp.stores[%d]", i), "a store needs the proxy_name and secret_file that the MMP logs in with")
		}
	}
	if c.Directory.BindDN != "" && c.Directory.BindPasswordFile == "" {
		bad("directory.bind_dn", "needs directory.bind_password_file")
	}
	if c.MTA.SmartHost.Username != "" && c.MTA.SmartHost.PasswordFile == "" {
		bad("mta.smart_host.username", "needs mta.smart_host.password_file")
	}
}

// validateNumbers finds numbers out of range, such as an interval of nothing,
// with which the queue would never rest.
func (c Config) validateNumbers(bad report) {
	if c.Directory.Pool < 1 {
		bad("directory.pool", "must be at least 1")
	}
	if c.Directory.Timeout == 0 {
		bad("directory.timeout", "must be more than 0")
	}
	if c.MTA.Port < 1 || c.MTA.Port > 65535 {
		bad("mta.port", "%d is no port", c.MTA.Port)
	}
	c.MTA.Checks.validate(bad)
	c.Limits.validate(bad)
	c.MTA.Routing.validate(bad)
	if c.MTA.Sent.Enabled && c.MTA.Sent.Mailbox == "" {
		bad("mta.sent.mailbox", "is empty; name a mailbox, or set mta.sent.enabled to false")
	}
	if c.MTA.MaxRecipients < 100 {
		bad("mta.max_recipients", "must be at least 100 (RFC 5321 section 4.5.3.1.8)")
	}
	q := c.MTA.Queue
	if len(q.Retry) == 0 {
		bad("mta.queue.retry", "at least one interval is needed")
	}
	for i, d := range q.Retry {
		if d == 0 {
			bad(fmt.Sprintf("mta.queue.retry[%d]", i), "must be more than 0")
		}
	}
	if q.Lifetime == 0 {
		bad("mta.queue.lifetime", "must be more than 0")
	}
	if q.Concurrency < 1 {
		bad("mta.queue.concurrency", "must be at least 1")
	}
	if q.PerDestination < 1 {
		bad("mta.queue.per_destination", "must be at least 1")
	}
}

// validateListeners finds bad addresses, and listeners without the certificate
// that they need, unless it is known that the file means to name one.
func (c Config) validateListeners(bad report, meant bool) {
	tls := c.TLS.Cert != "" || meant
	lists := map[string]Listeners{
		"admin.listen": c.Admin.Listen, "directory.listen.ldap": c.Directory.Listen.LDAP, "directory.listen.ldaps": c.Directory.Listen.LDAPS,
		"store.pop3.listen": c.Store.POP3.Listen, "store.pop3.listen_tls": c.Store.POP3.ListenTLS,
		"mmp.pop3.listen": c.MMP.POP3.Listen, "mmp.pop3.listen_tls": c.MMP.POP3.ListenTLS,
		"store.imap.listen": c.Store.IMAP.Listen, "store.imap.listen_tls": c.Store.IMAP.ListenTLS, "store.lmtp.listen": c.Store.LMTP.Listen,
		"mmp.submission.listen": c.MMP.Submission.Listen, "mmp.submission.listen_tls": c.MMP.Submission.ListenTLS,
		"mmp.imap.listen": c.MMP.IMAP.Listen, "mmp.imap.listen_tls": c.MMP.IMAP.ListenTLS, "mta.smtp.listen": c.MTA.SMTP.Listen,
		"mta.submission.listen": c.MTA.Submission.Listen, "mta.submissions.listen": c.MTA.Submissions.Listen,
	}
	for _, path := range slices.Sorted(maps.Keys(lists)) { // the same order each time
		for i, a := range lists[path] {
			if !validAddress(a) {
				bad(fmt.Sprintf("%s[%d]", path, i), "%q is no host:port and no unix:/path", a)
			}
		}
	}
	for i, a := range c.Admin.Listen {
		if c.Admin.Pprof && validAddress(a) && !onLoopback(a) {
			bad(fmt.Sprintf("admin.listen[%d]", i), "%q can be reached from elsewhere, and profiles (admin.pprof) are for this machine alone: listen on 127.0.0.1 or [::1]", a)
		}
	}
	needs := map[string]bool{
		"directory.listen.ldaps":    c.Runs(RoleDirectory) && len(c.Directory.Listen.LDAPS) > 0,
		"store.imap.listen_tls":     c.Runs(RoleStore) && len(c.Store.IMAP.ListenTLS) > 0,
		"store.pop3.listen_tls":     c.Runs(RoleStore) && len(c.Store.POP3.ListenTLS) > 0,
		"mmp.submission.listen_tls": c.Runs(RoleMMP) && len(c.MMP.Submission.ListenTLS) > 0,
		"mmp.imap.listen_tls":       c.Runs(RoleMMP) && len(c.MMP.IMAP.ListenTLS) > 0,
		"mmp.pop3.listen_tls":       c.Runs(RoleMMP) && len(c.MMP.POP3.ListenTLS) > 0,
		"mta.submissions.listen":    c.Runs(RoleMTA) && len(c.MTA.Submissions.Listen) > 0,
	}
	for _, path := range slices.Sorted(maps.Keys(needs)) {
		if needs[path] && !tls {
			bad(path, "needs a certificate: set tls.cert and tls.key, or make the list empty: []")
		}
	}
}

// onLoopback reports whether only this machine reaches a listener's address.
func onLoopback(a string) bool {
	if strings.HasPrefix(a, "unix:") {
		return true
	}
	host, _, _ := net.SplitHostPort(a)
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func (c Config) validateRemotes(bad report) {
	for i, u := range c.Directory.URLs {
		if v, err := url.Parse(u); err != nil || !slices.Contains([]string{"ldap", "ldaps", "ldapi"}, v.Scheme) {
			bad(fmt.Sprintf("directory.url[%d]", i), "%q is no ldap://, ldaps:// or ldapi:// URL", u)
		}
	}
	if !c.Runs(RoleDirectory) && len(c.Directory.URLs) == 0 {
		bad("directory.url", "the directory role does not run here: say where it is")
	}
	modes := []string{"none", "starttls", "implicit"}
	for i, s := range c.MMP.Stores {
		at := fmt.Sprintf("mmp.stores[%d].", i)
		if s.Host == "" || !validAddress(s.Address) {
			bad(at+"address", "a store needs a host and an address host:port")
		}
		if s.POP3Address != "" && !validAddress(s.POP3Address) {
			bad(at+"pop3_address", "%q is no host:port", s.POP3Address)
		}
		if !slices.Contains(modes, s.TLS) {
			bad(at+"tls", "%q is none of none, starttls, implicit", s.TLS)
		}
		if s.Kind != "" && s.Kind != "mailsrv" && s.Kind != "dovecot" {
			bad(at+"kind", "%q is neither mailsrv nor dovecot", s.Kind)
		}
	}
	for i, s := range c.MMP.MTAs {
		if at := fmt.Sprintf("mmp.mtas[%d].", i); !validAddress(s.Address) {
			bad(at+"address", "%q is no host:port", s.Address)
		} else if !slices.Contains(modes, s.TLS) {
			bad(at+"tls", "%q is none of none, starttls, implicit", s.TLS)
		}
	}
	if c.Runs(RoleMMP) && len(c.MMP.Submission.Listen)+len(c.MMP.Submission.ListenTLS) > 0 && len(c.MMP.MTAs) == 0 {
		bad("mmp.submission", "say to which MTA it is handed: mmp.mtas")
	}
	for _, name := range slices.Sorted(maps.Keys(c.MMP.DefaultDomains)) {
		if name != strings.ToLower(name) || c.MMP.DefaultDomains[name] == "" {
			bad("mmp.default_domains", "%q: write a server name in lower case, or an address, and its domain", name)
		}
	}
	for i, s := range c.MTA.Stores {
		at := fmt.Sprintf("mta.stores[%d].", i)
		if s.Host == "" || !validAddress(s.Address) {
			bad(at+"address", "a store needs a host and an address host:port")
		}
		if s.TLS != "none" && s.TLS != "starttls" {
			bad(at+"tls", "%q is neither none nor starttls", s.TLS)
		}
	}
	if !c.Runs(RoleStore) && c.Runs(RoleMMP) && len(c.MMP.Stores) == 0 {
		bad("mmp.stores", "the store role does not run here: say where the stores are")
	}
	if !c.Runs(RoleStore) && c.Runs(RoleMTA) && len(c.MTA.Stores) == 0 {
		bad("mta.stores", "the store role does not run here: say where the stores are")
	}
	if s := c.MTA.SmartHost; s.Address != "" && (!validAddress(s.Address) || !slices.Contains(append(modes, ""), s.TLS)) {
		bad("mta.smart_host", "needs an address host:port and tls none, starttls or implicit")
	}
}

func validAddress(a string) bool {
	if path, ok := strings.CutPrefix(a, "unix:"); ok {
		return filepath.IsAbs(path)
	}
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}
