package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dane"
	"mailsrv/pkg/mta/dkim"
	"mailsrv/pkg/mta/mtasts"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/mta/smtpclient"
	"mailsrv/pkg/mta/smtpserver"
	"mailsrv/pkg/store/lmtpclient"
)

// stores finds the store of a mail host for the MTA, and returns the clients of
// those on other hosts.
func (d *daemon) stores(st *storeRole) (mta.Stores, map[string]*lmtpclient.Client, error) {
	clients := map[string]*lmtpclient.Client{}
	remote := map[string]mail.Deliverer{}
	for _, s := range d.cfg.MTA.Stores {
		o := lmtpclient.Options{Addr: s.Address, Hostname: d.cfg.Hostname, Log: d.messageLog(config.RoleMTA)}
		if s.TLS == "starttls" {
			var err error
			if o.TLS, err = clientTLS(s.CA, s.Host); err != nil {
				return nil, nil, err
			}
		}
		c := lmtpclient.New(o)
		clients[s.Host] = c
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
	}, clients, nil
}

// remotes are the clients to other people's hosts: by MX, or a relay.
func (d *daemon) remotes() (mta.Remotes, error) {
	c := d.cfg.MTA
	o := smtpclient.Options{Hostname: d.cfg.Hostname, Port: c.Port, AllowLoopback: c.AllowLoopback, Resolver: Resolver(d.cfg), Log: d.messageLog(config.RoleMTA)}
	if s := c.SmartHost; s.Address != "" {
		var err error
		if o.TLS, err = clientTLS(s.CA, ""); err != nil {
			return nil, err
		}
		o.SmartHost = &smtpclient.SmartHost{Addr: s.Address, TLS: security(s.TLS), Username: s.Username}
		if s.PasswordFile != "" {
			if o.SmartHost.Password, err = secret(s.PasswordFile); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if o.Policies, err = d.tlsPolicies(); err != nil {
		return nil, err
	}
	client := smtpclient.New(o)
	d.closers = append(d.closers, client.Close)
	return func(host string) mail.Deliverer { return d.metrics.deliverer("remote", client.Via(host)) }, nil
}

// exchangers is the client that goes to the MX of each domain, whatever relay
// there is.
func (d *daemon) exchangers() (*smtpclient.Client, error) {
	c := d.cfg.MTA
	policies, err := d.tlsPolicies()
	if err != nil {
		return nil, err
	}
	client := smtpclient.New(smtpclient.Options{Hostname: d.cfg.Hostname, Port: c.Port, AllowLoopback: c.AllowLoopback, Resolver: Resolver(d.cfg),
		Policies: policies, Log: d.messageLog(config.RoleMTA)})
	d.closers = append(d.closers, client.Close)
	return client, nil
}

// tlsPolicies are what other domains demand; a signed DNS counts before an
// announcement on the web (RFC 8461 §2).
func (d *daemon) tlsPolicies() ([]mta.TLSPolicy, error) {
	c := d.cfg.MTA
	log := d.messageLog(config.RoleMTA)
	var policies []mta.TLSPolicy
	if c.TLSPolicy.DANE {
		policies = append(policies, dane.New(dane.Options{Server: c.DNS, Port: c.Port, Log: log}))
	}
	if c.TLSPolicy.MTASTS {
		sts, err := mtasts.Open(mtasts.Options{Dir: filepath.Join(d.cfg.Data, "mta-sts"), Resolver: Resolver(d.cfg), Log: log})
		if err != nil {
			return nil, err
		}
		policies = append(policies, sts)
	}
	return policies, nil
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

// Resolver asks the DNS server that is configured, or the system's.
func Resolver(c config.Config) *net.Resolver {
	server := c.MTA.DNS
	if server == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
}

// Keys are the DKIM keys of the domains whose mail this host signs.
func Keys(c config.Config) (*dkim.Keys, error) { return dkim.OpenKeys(filepath.Join(c.Data, "dkim")) }

// starter serves ETRN: for domains of ours whose mail other hosts keep, so that
// no stranger makes us knock at somebody else's door.
func starter(r *mta.Resolver, q *queue.Queue, log *slog.Logger) func(context.Context, string, bool) (int, error) {
	return func(ctx context.Context, domain string, wide bool) (int, error) {
		d, err := r.Again(mta.Poster{}).Domain(ctx, domain)
		if err != nil {
			return 0, err
		}
		if d.Kind != mta.Relayed {
			return 0, &mail.Status{Code: 459, Enhanced: [3]int{4, 7, 1}, Text: "no mail is kept here for " + domain}
		}
		n, err := q.Start(ctx, domain, wide)
		log.Info("queue started by a host", "domain", domain, "recipients", n, "err", err)
		return n, err
	}
}

// openQueue is the queue, which hands on to next.
func (d *daemon) openQueue(ctx context.Context, next mail.Deliverer, log *slog.Logger) (*queue.Queue, error) {
	c := d.cfg.MTA.Queue
	backoff := make([]time.Duration, len(c.Retry))
	for i, r := range c.Retry {
		backoff[i] = time.Duration(r)
	}
	q, err := queue.Open(ctx, queue.Options{
		Dir: filepath.Join(d.cfg.Data, "queue"), Next: next, Destination: mta.Destination, Hostname: d.cfg.Hostname,
		Lifetime: time.Duration(c.Lifetime), DelayWarning: time.Duration(c.DelayWarning), Backoff: backoff,
		MaxConcurrent: c.Concurrency, MaxPerDestination: c.PerDestination, OnFatal: d.onFatal, Log: log,
		Attempted: d.metrics.attempted,
	})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, q.Close)
	d.needs(config.RoleMTA, "queue", true, func(ctx context.Context) error {
		_, err := q.Counts(ctx)
		return err
	})
	return q, nil
}

// mta is the transfer agent role.
func (d *daemon) mta(ctx context.Context, tree directory.Tree, st *storeRole) error {
	c := d.cfg.MTA
	log := d.messageLog(config.RoleMTA)
	dir, err := d.directory(tree, config.RoleMTA)
	if err != nil {
		return err
	}
	stores, clients, err := d.stores(st)
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
	transports, err := d.transports()
	if err != nil {
		return err
	}
	key, err := d.routingKey()
	if err != nil {
		return err
	}
	resolver, err := Rules(d.cfg, dir, key, func(host string) bool {
		_, err := stores(host)
		return err == nil
	})
	if err != nil {
		return err
	}
	var actions map[string]mail.Deliverer // known once there is a queue
	ways := mta.Ways{Stores: stores, Remotes: remotes, Transports: transports, Actions: func(name string) (mail.Deliverer, error) {
		if a, ok := actions[name]; ok {
			return a, nil
		}
		return nil, fmt.Errorf("no action %q is configured (mta.routing.programs)", name)
	}}
	q, err := d.openQueue(ctx, mta.NewRouter(resolver, ways), log)
	if err != nil {
		return err
	}
	keys, err := Keys(d.cfg)
	if err != nil {
		return err
	}
	if actions, err = d.actions(ctx, q, dir, key, keys); err != nil {
		return err
	}
	checks, err := d.checks(ctx)
	if err != nil {
		return err
	}
	sent := ""
	if c.Sent.Enabled {
		sent = c.Sent.Mailbox
	}
	agent := mta.New(mta.Options{
		Hostname: d.cfg.Hostname, Resolver: resolver, Stores: stores, Queue: d.metrics.deliverer("queue", q), DefaultDomain: d.cfg.Directory.DefaultDomain,
		Checks: checks, Trusted: c.Checks.Trusted, Signer: keys, Sealer: keys,
		SentMailbox: sent, MaxSize: int64(c.MaxMessage), MaxRecipients: c.MaxRecipients, Log: log, Accepted: d.metrics.accepted, Refused: d.metrics.refused,
	})
	o := smtpserver.Options{Intake: agent, TLS: d.tls(), Hostname: d.cfg.Hostname, MaxSize: int64(c.MaxMessage), MaxRecipients: c.MaxRecipients, SpoolDir: spool, DSN: true, Log: log}
	o.Start = starter(resolver, q, log)
	mx := smtpserver.New(o)
	o.Submission, o.TLS = true, d.userTLS()
	proxies, _, err := proxiesOf(c.Proxies)
	if err != nil {
		return err
	}
	logins := auth.New(auth.Options{Directory: dir, Proxies: proxies, NoSCRAM: !scram(d.cfg), Log: log, Observe: d.metrics.login("mta")})
	o.Authenticator = logins
	submission := smtpserver.New(o)
	s := stage{role: config.RoleMTA, tasks: []func(context.Context) error{q.Serve}}
	commands := d.queueCommands(q)
	d.traceCommand(commands, q, clients)
	banCommands(commands, logins)
	if err := d.control(ctx, &s, commands); err != nil {
		return err
	}
	for _, x := range []door{
		{name: "smtp", listen: c.SMTP.Listen, serve: mx.ServeConn},
		{name: "submission", listen: c.Submission.Listen, options: listen.Options{ProxyFrom: c.ProxyProtocolFrom}, serve: submission.ServeConn},
		{name: "submissions", listen: c.Submissions.Listen, options: listen.Options{TLS: d.userTLS(), ProxyFrom: c.ProxyProtocolFrom}, serve: submission.ServeConn},
	} {
		x.options = limited(x.options, d.cfg.Limits.SMTP, smtpserver.Busy(d.cfg.Hostname))
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}
