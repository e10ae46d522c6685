package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/mmp/relay"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/mta/smtpclient"
	"mailsrv/pkg/mta/smtpserver"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/imapserver"
	"mailsrv/pkg/store/lmtpclient"
	"mailsrv/pkg/store/lmtpserver"
	"mailsrv/pkg/store/sqlstore"
)

// Limits of the doors to strangers (hardening.md section 3).
const (
	smtpPerIP = 20
	imapPerIP = 50
	perDoor   = 1000
)

// build makes every role and opens every listener, in the order in which they start.
func (d *daemon) build(ctx context.Context) error {
	admin := stage{role: "admin"}
	if err := d.open(ctx, &admin, d.adminDoor()); err != nil {
		return err
	}
	d.stages = append(d.stages, admin)
	tree, err := d.tree(ctx)
	if err != nil {
		return err
	}
	var st *storeRole
	if d.cfg.Runs(config.RoleStore) {
		if st, err = d.store(ctx, tree); err != nil {
			return err
		}
	}
	if d.cfg.Runs(config.RoleMTA) {
		if err := d.mta(ctx, tree, st); err != nil {
			return err
		}
	}
	if d.cfg.Runs(config.RoleMMP) {
		return d.mmp(ctx, tree, st)
	}
	return nil
}

// tree is the directory: ours, served to others, or one that runs elsewhere.
func (d *daemon) tree(ctx context.Context) (directory.Tree, error) {
	if !d.cfg.Runs(config.RoleDirectory) {
		c, err := Dial(ctx, d.cfg)
		if err == nil {
			d.closers = append(d.closers, c.Close)
		}
		return c, err
	}
	dir, err := sqldir.Open(ctx, filepath.Join(d.cfg.Data, "directory.db"), sqldir.Options{Log: d.log, OnFatal: d.onFatal})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, dir.Close)
	base, err := directory.ParseDN(d.cfg.Directory.Suffix)
	if err != nil {
		return nil, fmt.Errorf("reading directory.suffix: %w", err)
	}
	if err := directory.NewProvisioner(dir, directory.ViewOptions{Base: base}).EnsureBase(ctx); err != nil {
		return nil, fmt.Errorf("making the suffix %s: %w", base, err)
	}
	return dir, d.ldap(ctx, dir, base)
}

// ldap opens the directory's doors.
func (d *daemon) ldap(ctx context.Context, dir directory.Editor, base directory.DN) error {
	c := d.cfg.Directory
	adminDN, err := directory.ParseDN(c.AdminDN)
	if err != nil {
		return fmt.Errorf("reading directory.admin_dn: %w", err)
	}
	access := directory.Access{Admins: []directory.DN{adminDN}}
	var accounts []ldapserver.Account
	if c.AdminPasswordFile != "" {
		password, err := secret(c.AdminPasswordFile)
		if err != nil {
			return err
		}
		accounts = append(accounts, ldapserver.Account{DN: adminDN, Password: password})
	}
	for _, s := range c.Services {
		dn, err := directory.ParseDN(s.DN)
		if err != nil {
			return fmt.Errorf("reading directory.services: %w", err)
		}
		password, err := secret(s.PasswordFile)
		if err != nil {
			return err
		}
		access.Services = append(access.Services, dn)
		accounts = append(accounts, ldapserver.Account{DN: dn, Password: password})
	}
	server := ldapserver.New(ldapserver.Options{
		Tree: dir, Access: access, Accounts: accounts, TLS: d.tls(), NamingContexts: []directory.DN{base},
		Peers: map[uint32]directory.DN{0: adminDN, uint32(os.Getuid()): adminDN}, Log: d.log.With("role", "directory"),
	})
	s := stage{role: config.RoleDirectory}
	for _, x := range []door{
		{name: "ldap", listen: c.Listen.LDAP, serve: server.ServeConn},
		{name: "ldaps", listen: c.Listen.LDAPS, options: listen.Options{TLS: d.tls("ldap")}, serve: server.ServeConn},
		{name: "ldapi", listen: config.Listeners{"unix:" + Socket(d.cfg)}, serve: server.ServeConn},
	} {
		x.options.Total = perDoor
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// Socket is the path of the directory's local socket.
func Socket(c config.Config) string {
	if c.Directory.Listen.LDAPI != "" {
		return c.Directory.Listen.LDAPI
	}
	return filepath.Join(c.Data, "ldapi")
}

// Dial connects to the directory that the configuration names: over the local
// socket where the directory role runs on this machine, else by its URLs. The
// caller closes the client.
func Dial(ctx context.Context, c config.Config) (*ldapclient.Client, error) {
	o := ldapclient.Options{Timeout: time.Duration(c.Directory.Timeout), Connections: c.Directory.Pool, StartTLS: c.Directory.StartTLS}
	if c.Runs(config.RoleDirectory) {
		o.URLs, o.External, o.Probe = []string{"ldapi://" + Socket(c)}, true, true
		return ldapclient.Dial(ctx, o)
	}
	o.URLs = c.Directory.URLs
	var err error
	if o.TLS, err = clientTLS(c.Directory.CA, ""); err != nil {
		return nil, err
	}
	if c.Directory.BindDN == "" {
		o.External = strings.HasPrefix(o.URLs[0], "ldapi:")
		return ldapclient.Dial(ctx, o)
	}
	if o.BindDN, err = directory.ParseDN(c.Directory.BindDN); err != nil {
		return nil, fmt.Errorf("reading directory.bind_dn: %w", err)
	}
	if o.Password, err = secret(c.Directory.BindPasswordFile); err != nil {
		return nil, err
	}
	return ldapclient.Dial(ctx, o)
}

// View says where the configuration's domains are.
func View(c config.Config) (directory.ViewOptions, error) {
	base, err := directory.ParseDN(c.Directory.Suffix)
	host := c.Hostname
	if len(c.Store.Hosts) > 0 {
		host = c.Store.Hosts[0]
	}
	return directory.ViewOptions{Base: base, DefaultDomain: c.Directory.DefaultDomain, MailHost: strings.ToLower(host)}, err
}

// directory is the mail view of tree for one role, which is counted.
func (d *daemon) directory(tree directory.Tree, role config.Role) (directory.Directory, error) {
	o, err := View(d.cfg)
	if err != nil {
		return nil, fmt.Errorf("reading directory.suffix: %w", err)
	}
	return &observed{Directory: directory.NewView(tree, o), role: string(role), metrics: d.metrics, log: d.log.With("role", string(role))}, nil
}

// storeRole is what other roles of this process need of the store.
type storeRole struct {
	backend   *imapserver.Server
	deliverer mail.Deliverer
}

// store is the store role.
func (d *daemon) store(ctx context.Context, tree directory.Tree) (*storeRole, error) {
	c := d.cfg.Store
	dir, err := d.directory(tree, config.RoleStore)
	if err != nil {
		return nil, err
	}
	spool, err := d.folder("spool")
	if err != nil {
		return nil, err
	}
	log := d.log.With("role", "store")
	engine, err := sqlstore.Open(ctx, sqlstore.Options{Dir: filepath.Join(d.cfg.Data, "store"), InlineLimit: int64(c.InlineLimit),
		Mailboxes: sqlstore.DefaultMailboxes(), OnFatal: d.onFatal, Log: log})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, engine.Close)
	quota := store.Quota{Bytes: int64(c.Quota.Bytes), Messages: c.Quota.Messages}
	r := &storeRole{backend: imapserver.New(imapserver.Options{Store: engine, Directory: dir, Quota: quota,
		MaxMessage: int64(c.MaxMessage), SpoolDir: spool, ID: []string{"name", "mailsrv"}})}
	deliverer := store.NewDeliverer(engine, dir, quota)
	r.deliverer = d.metrics.deliverer("store", deliverer)
	var proxies []auth.Proxy
	for _, p := range c.Proxies {
		s, err := secret(p.SecretFile)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, auth.Proxy{Name: p.Name, Secret: s, Networks: p.Networks})
	}
	front := imapfront.New(imapfront.Options{
		Authenticator: auth.New(auth.Options{Directory: dir, Proxies: proxies, Log: log, Observe: d.metrics.login("store")}),
		Router:        mmp.NewRouter(mmp.RouterOptions{Local: r.backend, LocalHosts: d.hosts()}),
		TLS:           d.tls(), Hostname: d.cfg.Hostname, Capabilities: r.backend.Capabilities, Log: log,
	})
	lmtp := lmtpserver.New(lmtpserver.Options{Deliverer: deliverer, Hostname: d.cfg.Hostname, TLS: d.tls(), SpoolDir: spool, Log: log})
	s := stage{role: config.RoleStore}
	for _, x := range []door{
		{name: "store-imap", listen: c.IMAP.Listen, options: listen.Options{ProxyFrom: c.ProxyProtocolFrom, PerIP: imapPerIP}, serve: front.ServeConn},
		{name: "store-imaps", listen: c.IMAP.ListenTLS, options: listen.Options{ProxyFrom: c.ProxyProtocolFrom, TLS: d.tls("imap"), PerIP: imapPerIP}, serve: front.ServeConn},
		{name: "lmtp", listen: c.LMTP.Listen, serve: d.onlyFrom(c.LMTP, lmtp.ServeConn)},
	} {
		x.options.Total = perDoor
		if err := d.open(ctx, &s, x); err != nil {
			return nil, err
		}
	}
	d.stages = append(d.stages, s)
	return r, nil
}

// onlyFrom turns LMTP clients away that are not configured: whoever speaks
// LMTP delivers without a password.
func (d *daemon) onlyFrom(c config.LMTP, serve func(context.Context, net.Conn)) func(context.Context, net.Conn) {
	return func(ctx context.Context, conn net.Conn) {
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
			ip := a.AddrPort().Addr().Unmap()
			trusted := false
			for _, p := range c.Trusted {
				trusted = trusted || p.Contains(ip)
			}
			if !trusted {
				d.log.Warn("connection refused", "role", "store", "door", "lmtp", "peer", ip.String(), "err", "not in store.lmtp.trusted")
				conn.Close()
				return
			}
		}
		serve(ctx, conn)
	}
}

// hosts are the names under which entries know this host.
func (d *daemon) hosts() []string { return append(slices.Clone(d.cfg.Store.Hosts), d.cfg.Hostname) }

// stores finds the store of a mail host for the MTA.
func (d *daemon) stores(st *storeRole) (mta.Stores, error) {
	remote := map[string]mail.Deliverer{}
	for _, s := range d.cfg.MTA.Stores {
		o := lmtpclient.Options{Addr: s.Address, Hostname: d.cfg.Hostname, Log: d.log.With("role", "mta")}
		if s.TLS == "starttls" {
			var err error
			if o.TLS, err = clientTLS(s.CA, s.Host); err != nil {
				return nil, err
			}
		}
		c := lmtpclient.New(o)
		d.closers = append(d.closers, c.Close)
		remote[strings.ToLower(s.Host)] = d.metrics.deliverer("lmtp", c)
	}
	hosts := d.hosts()
	return func(host string) (mail.Deliverer, error) {
		if st != nil && (host == "" || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) })) {
			return st.deliverer, nil
		}
		if r, ok := remote[strings.ToLower(host)]; ok {
			return r, nil
		}
		if host == "" && st == nil && len(remote) == 1 {
			for _, r := range remote {
				return r, nil
			}
		}
		return nil, fmt.Errorf("no store is configured for mail host %q (mta.stores)", host)
	}, nil
}

// remotes are the clients to other people's hosts: by MX, or a relay.
func (d *daemon) remotes() (mta.Remotes, error) {
	c := d.cfg.MTA
	o := smtpclient.Options{Hostname: d.cfg.Hostname, Port: c.Port, AllowLoopback: c.AllowLoopback, Log: d.log.With("role", "mta")}
	if c.DNS != "" {
		o.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, c.DNS)
		}}
	}
	if s := c.SmartHost; s.Address != "" {
		o.SmartHost = &smtpclient.SmartHost{Addr: s.Address, TLS: security(s.TLS), Username: s.Username}
		if s.PasswordFile != "" {
			var err error
			if o.SmartHost.Password, err = secret(s.PasswordFile); err != nil {
				return nil, err
			}
		}
	}
	direct := d.metrics.deliverer("remote", smtpclient.New(o))
	return func(host string) mail.Deliverer {
		if host == "" {
			return direct
		}
		relay := o
		relay.SmartHost = &smtpclient.SmartHost{Addr: host, TLS: smtpclient.Opportunistic}
		return smtpclient.New(relay)
	}, nil
}

func security(mode string) smtpclient.Security {
	switch mode {
	case "implicit":
		return smtpclient.ImplicitTLS
	case "none":
		return smtpclient.Opportunistic
	}
	return smtpclient.RequireSTARTTLS
}

// mta is the transfer agent role.
func (d *daemon) mta(ctx context.Context, tree directory.Tree, st *storeRole) error {
	c := d.cfg.MTA
	log := d.log.With("role", "mta")
	dir, err := d.directory(tree, config.RoleMTA)
	if err != nil {
		return err
	}
	stores, err := d.stores(st)
	if err != nil {
		return err
	}
	remotes, err := d.remotes()
	if err != nil {
		return err
	}
	spool, err := d.folder("spool")
	if err != nil {
		return err
	}
	resolver := &mta.Resolver{Directory: dir, Hosts: d.hosts()}
	backoff := make([]time.Duration, len(c.Queue.Retry))
	for i, r := range c.Queue.Retry {
		backoff[i] = time.Duration(r)
	}
	q, err := queue.Open(ctx, queue.Options{
		Dir: filepath.Join(d.cfg.Data, "queue"), Next: mta.NewRouter(resolver, stores, remotes), Destination: mta.Destination, Hostname: d.cfg.Hostname,
		Lifetime: time.Duration(c.Queue.Lifetime), DelayWarning: time.Duration(c.Queue.DelayWarning), Backoff: backoff,
		MaxConcurrent: c.Queue.Concurrency, MaxPerDestination: c.Queue.PerDestination, OnFatal: d.onFatal, Log: log,
	})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, q.Close)
	sent := ""
	if c.Sent.Enabled {
		sent = c.Sent.Mailbox
	}
	agent := mta.New(mta.Options{
		Hostname: d.cfg.Hostname, Resolver: resolver, Stores: stores, Queue: d.metrics.deliverer("queue", q), DefaultDomain: d.cfg.Directory.DefaultDomain,
		SentMailbox: sent, MaxSize: int64(c.MaxMessage), MaxRecipients: c.MaxRecipients, Log: log, Accepted: d.metrics.accepted, Refused: d.metrics.refused,
	})
	o := smtpserver.Options{Intake: agent, TLS: d.tls(), Hostname: d.cfg.Hostname, MaxSize: int64(c.MaxMessage), MaxRecipients: c.MaxRecipients, SpoolDir: spool, DSN: true, Log: log}
	mx := smtpserver.New(o)
	o.Submission = true
	o.Authenticator = auth.New(auth.Options{Directory: dir, Log: log, Observe: d.metrics.login("mta")})
	submission := smtpserver.New(o)
	s := stage{role: config.RoleMTA, tasks: []func(context.Context) error{q.Serve}}
	for _, x := range []door{
		{name: "smtp", listen: c.SMTP.Listen, serve: mx.ServeConn},
		{name: "submission", listen: c.Submission.Listen, serve: submission.ServeConn},
		{name: "submissions", listen: c.Submissions.Listen, options: listen.Options{TLS: d.tls()}, serve: submission.ServeConn},
	} {
		x.options.PerIP, x.options.Total = smtpPerIP, perDoor
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// mmp is the multiplexor role.
func (d *daemon) mmp(ctx context.Context, tree directory.Tree, st *storeRole) error {
	c := d.cfg.MMP
	log := d.log.With("role", "mmp")
	dir, err := d.directory(tree, config.RoleMMP)
	if err != nil {
		return err
	}
	relays := map[string]mmp.Backend{}
	for _, s := range c.Stores {
		o := relay.Options{Address: s.Address, Authcid: s.ProxyName, MasterUser: s.Kind == "dovecot", ProxyV2: s.ProxyProtocol, Log: log}
		switch s.TLS {
		case "starttls":
			o.TLSMode = relay.StartTLS
		case "implicit":
			o.TLSMode = relay.Implicit
		}
		if o.TLS, err = clientTLS(s.CA, s.Host); err != nil {
			return err
		}
		if o.Secret, err = secret(s.SecretFile); err != nil {
			return err
		}
		relays[strings.ToLower(s.Host)] = relay.New(o)
	}
	ro := mmp.RouterOptions{LocalHosts: d.hosts(), DefaultHost: c.DefaultHost, Remote: func(host string) (mmp.Backend, bool) {
		b, ok := relays[strings.ToLower(host)]
		return b, ok
	}}
	// With the store elsewhere, its capabilities are not known before a login;
	// ours are a fair guess where the stores are mailsrv too.
	capabilities := imapserver.New(imapserver.Options{}).Capabilities
	if st != nil {
		ro.Local, capabilities = st.backend, st.backend.Capabilities
	} else if ro.DefaultHost == "" && len(c.Stores) == 1 {
		ro.DefaultHost = c.Stores[0].Host
	}
	if st == nil {
		ro.LocalHosts = nil
	}
	front := imapfront.New(imapfront.Options{
		Authenticator: auth.New(auth.Options{Directory: dir, Log: log, Observe: d.metrics.login("mmp")}),
		Router:        mmp.NewRouter(ro), TLS: d.tls(), Hostname: d.cfg.Hostname, Capabilities: capabilities, Log: log,
	})
	s := stage{role: config.RoleMMP}
	for _, x := range []door{
		{name: "imap", listen: c.IMAP.Listen, serve: front.ServeConn},
		{name: "imaps", listen: c.IMAP.ListenTLS, options: listen.Options{TLS: d.tls("imap")}, serve: front.ServeConn},
	} {
		x.options.PerIP, x.options.Total = imapPerIP, perDoor
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// tls is a server's configuration; nil without a certificate.
func (d *daemon) tls(protocols ...string) *tls.Config {
	if d.certificate == nil {
		return nil
	}
	return d.certificate.Config(protocols...)
}

// clientTLS trusts the CA in a PEM file, or the system's.
func clientTLS(ca, name string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca == "" {
		return c, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("reading CA: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading CA: no certificate in %s", ca)
	}
	return c, nil
}

// secret reads a password file, which nobody else may read.
func secret(path string) (string, error) {
	if path == "" {
		return "", errors.New("a password file is missing in the configuration")
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("reading secret: %s can be read by everybody; run: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
