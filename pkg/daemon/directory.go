package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/schema"
)

// tree is the directory: ours, served to others, or one that runs elsewhere.
func (d *daemon) tree(ctx context.Context) (directory.Tree, error) {
	if !d.cfg.Runs(config.RoleDirectory) {
		c, err := Dial(ctx, d.cfg)
		if err != nil {
			return nil, err
		}
		d.closers = append(d.closers, c.Close)
		o := d.cfg.Directory.Cache
		return directory.NewCached(c, directory.CacheOptions{Positive: time.Duration(o.Positive), Negative: time.Duration(o.Negative), Stale: time.Duration(o.Stale)}), nil
	}
	rules, err := loadSchema(d.cfg.Directory.SchemaFolder)
	if err != nil {
		return nil, err
	}
	dir, err := sqldir.Open(ctx, filepath.Join(d.cfg.Data, "directory.db"), sqldir.Options{
		Schema: rules, KeepHashes: !d.cfg.Directory.Passwords.Rehash,
		Policy: sqldir.Policy{MinLength: d.cfg.Directory.Passwords.MinLength, History: d.cfg.Directory.Passwords.History,
			MaxAge: time.Duration(d.cfg.Directory.Passwords.MaxAge)},
		Log: d.log.With("role", "directory"), OnFatal: d.onFatal})
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
	d.needsDirectory(config.RoleDirectory, dir)
	return dir, d.ldap(ctx, dir, base)
}

// loadSchema is the built-in schema with the files of a folder; "": none.
func loadSchema(folder string) (*schema.Schema, error) {
	if folder == "" {
		return schema.Load()
	}
	files, err := schema.ReadFolder(folder)
	if err != nil {
		return nil, fmt.Errorf("reading directory.schema: %w", err)
	}
	return schema.Load(files...)
}

// ldap opens the directory's doors.
func (d *daemon) ldap(ctx context.Context, dir *sqldir.Dir, base directory.DN) error {
	c := d.cfg.Directory
	adminDN, err := directory.ParseDN(c.AdminDN)
	if err != nil {
		return fmt.Errorf("reading directory.admin_dn: %w", err)
	}
	access := directory.Access{Admins: []directory.DN{adminDN}, Rules: directory.DefaultRules(c.SelfWrite...)}
	if c.AnonymousBook {
		access.Rules = append(access.Rules, directory.AnonymousRule())
	}
	certificates := map[string]directory.DN{}
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
		access.Services = append(access.Services, dn)
		if s.Certificate != "" {
			certificates[s.Certificate] = dn
		}
		if s.PasswordFile == "" && s.Certificate != "" {
			continue
		}
		password, err := secret(s.PasswordFile)
		if err != nil {
			return err
		}
		accounts = append(accounts, ldapserver.Account{DN: dn, Password: password})
	}
	startTLS, err := d.clientCertificates(d.tls())
	if err != nil {
		return err
	}
	implicit, err := d.clientCertificates(d.tls("ldap"))
	if err != nil {
		return err
	}
	where, err := View(d.cfg)
	if err != nil {
		return err
	}
	logins := auth.New(auth.Options{Directory: directory.NewView(dir, where), NoSCRAM: !scram(d.cfg), Log: d.log.With("role", "directory"), Observe: d.metrics.login("directory")})
	server := ldapserver.New(ldapserver.Options{
		Logins: logins,
		Tree:   dir, Access: access, Accounts: accounts, TLS: startTLS, NamingContexts: []directory.DN{base},
		Schema: dir.Schema(), Certificates: certificates,
		Peers: map[uint32]directory.DN{0: adminDN, uint32(os.Getuid()): adminDN}, Log: d.log.With("role", "directory"),
	})
	s := stage{role: config.RoleDirectory}
	for _, x := range []door{
		{name: "ldap", listen: c.Listen.LDAP, serve: server.ServeConn},
		{name: "ldaps", listen: c.Listen.LDAPS, options: listen.Options{TLS: implicit}, serve: server.ServeConn},
		{name: "ldapi", listen: config.Listeners{"unix:" + Socket(d.cfg)}, serve: server.ServeConn},
	} {
		x.options = limited(x.options, d.cfg.Limits.LDAP, ldapserver.Busy())
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// clientCertificates makes a server ask for certificates of the configured CA;
// a client without one goes on with a password.
func (d *daemon) clientCertificates(server *tls.Config) (*tls.Config, error) {
	if server == nil || d.cfg.Directory.ClientCA == "" {
		return server, nil
	}
	trusted, err := clientTLS(d.cfg.Directory.ClientCA, "")
	if err != nil {
		return nil, fmt.Errorf("reading directory.client_ca: %w", err)
	}
	server = server.Clone()
	server.ClientAuth, server.ClientCAs = tls.VerifyClientCertIfGiven, trusted.RootCAs
	return server, nil
}

// scram reports whether SCRAM can be offered: the directory keeps secrets for it. A
// foreign one does where the configuration says so.
func scram(c config.Config) bool {
	if c.Directory.Foreign.Preset == "" {
		return c.Directory.SCRAM
	}
	for name := range c.Directory.Foreign.Attributes {
		if strings.EqualFold(name, directory.SCRAMAttribute) {
			return c.Directory.SCRAM
		}
	}
	return false
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
	o := ldapclient.Options{Timeout: time.Duration(c.Directory.Timeout), Connections: c.Directory.Pool, StartTLS: c.Directory.StartTLS,
		ReadOnly: c.Directory.ReadOnly || c.Directory.Foreign.Preset != ""}
	if c.Runs(config.RoleDirectory) {
		o.URLs, o.External, o.Probe = []string{"ldapi://" + Socket(c)}, true, true
		return ldapclient.Dial(ctx, o)
	}
	o.URLs = c.Directory.URLs
	var err error
	if o.TLS, err = clientTLS(c.Directory.CA, ""); err != nil {
		return nil, err
	}
	if c.Directory.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Directory.Cert, c.Directory.Key)
		if err != nil {
			return nil, fmt.Errorf("reading directory.client_cert: %w", err)
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	if c.Directory.BindDN == "" {
		o.External = c.Directory.Cert != "" || strings.HasPrefix(o.URLs[0], "ldapi:")
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

// View says where the configuration's domains are, and how the directory names
// what is in them.
func View(c config.Config) (directory.ViewOptions, error) {
	base, err := directory.ParseDN(c.Directory.Suffix)
	if err != nil {
		return directory.ViewOptions{}, fmt.Errorf("reading directory.suffix: %w", err)
	}
	host := c.Hostname
	if len(c.Store.Hosts) > 0 {
		host = c.Store.Hosts[0]
	}
	o := directory.ViewOptions{Base: base, DefaultDomain: c.Directory.DefaultDomain, MailHost: strings.ToLower(host),
		FailoverHosts: c.MMP.FailoverAttributes, Compare: c.Directory.Verify == "compare"}
	if c.Directory.Foreign.Preset != "" {
		if o.Mapping, err = mapping(c.Directory.Foreign, o.MailHost); err != nil {
			return o, fmt.Errorf("reading directory.foreign: %w", err)
		}
	}
	return o, nil
}

// directory is the mail view of tree for one role, which is counted.
func (d *daemon) directory(tree directory.Tree, role config.Role) (*observed, error) {
	o, err := View(d.cfg)
	if err != nil {
		return nil, err
	}
	d.needsDirectory(role, tree)
	return &observed{View: directory.NewView(tree, o), role: string(role), metrics: d.metrics, log: d.log.With("role", string(role))}, nil
}
