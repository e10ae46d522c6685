package daemon

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/mmp/pop3front"
	"mailsrv/pkg/mmp/relay"
	"mailsrv/pkg/mmp/submitfront"
)

// mmp is the multiplexor role.
func (d *daemon) mmp(ctx context.Context, tree directory.Tree, st *storeRole) error {
	c := d.cfg.MMP
	log := d.log.With("role", "mmp")
	dir, err := d.directory(tree, config.RoleMMP)
	if err != nil {
		return err
	}
	imapStores, err := d.relays(directory.ServiceIMAP)
	if err != nil {
		return err
	}
	pop3Stores, err := d.relays(directory.ServicePOP3)
	if err != nil {
		return err
	}
	logins, sessions := auth.New(auth.Options{Directory: dir, NoSCRAM: !scram(d.cfg) || c.Replay, Separators: c.LoginSeparators, Replay: c.Replay, Log: log, Observe: d.metrics.login("mmp")}),
		d.watchSessions(&mmp.Sessions{PerAccount: c.SessionsPerUser})
	o := imapfront.Options{FrontOptions: mmp.FrontOptions{
		Authenticator: logins, Sessions: sessions, TLS: d.userTLS(), Hostname: d.cfg.Hostname, Domain: d.defaultDomain, Log: log,
	}}
	p := pop3front.Options{FrontOptions: o.FrontOptions}
	if st == nil {
		o.Router, o.Capabilities = d.router(nil, imapStores), common(nil, imapStores)
		p.Router, p.Capabilities = d.router(nil, pop3Stores), common(nil, pop3Stores)
	} else {
		o.Router, o.Capabilities = d.router(d.metrics.backend(directory.ServiceIMAP, st.imap), imapStores), common(st.imap.Capabilities, imapStores)
		p.Router, p.Capabilities = d.router(d.metrics.backend(directory.ServicePOP3, st.pop3), pop3Stores), common(st.pop3.Capabilities, pop3Stores)
	}
	imap, pop3 := imapfront.New(o), pop3front.New(p)
	q := submitfront.Options{FrontOptions: o.FrontOptions, MaxSize: int64(d.cfg.MTA.MaxMessage)}
	mtas, err := d.mtas(&q)
	if err != nil {
		return err
	}
	submit := submitfront.New(q)
	s := stage{role: config.RoleMMP}
	commands := http.NewServeMux()
	sessionCommands(commands, sessions)
	banCommands(commands, logins)
	if err := d.pauses(commands, sessions, imapStores, pop3Stores); err != nil {
		return err
	}
	if err := d.control(ctx, &s, commands); err != nil {
		return err
	}
	for _, r := range slices.Concat(slices.Collect(maps.Values(imapStores)), slices.Collect(maps.Values(pop3Stores)), mtas) {
		s.tasks = append(s.tasks, r.Serve)
	}
	for _, x := range []door{
		{name: "imap", listen: c.IMAP.Listen, options: listen.Options{Busy: imapfront.Busy}, serve: imap.ServeConn},
		{name: "imaps", listen: c.IMAP.ListenTLS, options: listen.Options{TLS: d.userTLS("imap")}, serve: imap.ServeConn},
		{name: "pop3", listen: c.POP3.Listen, options: listen.Options{Busy: pop3front.Busy}, serve: pop3.ServeConn},
		{name: "pop3s", listen: c.POP3.ListenTLS, options: listen.Options{TLS: d.userTLS("pop3")}, serve: pop3.ServeConn},
		{name: "mmp-submission", listen: c.Submission.Listen, options: listen.Options{Busy: submitfront.Busy(d.cfg.Hostname)}, serve: submit.ServeConn},
		{name: "mmp-submissions", listen: c.Submission.ListenTLS, options: listen.Options{TLS: d.userTLS()}, serve: submit.ServeConn},
	} {
		x.options = limited(x.options, d.cfg.Limits.Mailbox, x.options.Busy)
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// relays are the stores on other hosts that have a door of the protocol, by
// mail host.
func (d *daemon) relays(protocol directory.Service) (map[string]*relay.Relay, error) {
	relays := map[string]*relay.Relay{}
	for _, s := range d.cfg.MMP.Stores {
		o := relay.Options{
			Protocol: protocol, Address: s.Address, Authcid: s.ProxyName, MasterUser: s.Kind == "dovecot", ProxyV2: s.ProxyProtocol,
			Health: d.metrics.health(s.Host, protocol), Log: d.log.With("role", "mmp"),
		}
		if protocol == directory.ServicePOP3 {
			o.Address = s.POP3Address
		}
		if o.Address == "" {
			continue
		}
		o.TLSMode = tlsMode(s.TLS)
		var err error
		if o.TLS, err = clientTLS(s.CA, s.Host); err != nil {
			return nil, err
		}
		if err := shown(o.TLS, s.Cert, s.Key); err != nil {
			return nil, err
		}
		if o.Secret, err = secret(s.SecretFile); err != nil {
			return nil, err
		}
		relays[strings.ToLower(s.Host)] = relay.New(o)
	}
	return relays, nil
}

// mtas are where submission goes, and the front's Router to them.
func (d *daemon) mtas(o *submitfront.Options) (relays []*relay.Relay, err error) {
	var names []string
	var backends []mmp.Backend
	for _, m := range d.cfg.MMP.MTAs {
		host := hostOf(m.Address)
		r := relay.Options{Protocol: directory.ServiceSMTP, Address: m.Address, Hostname: d.cfg.Hostname, Authcid: m.ProxyName, ProxyV2: m.ProxyProtocol,
			TLSMode: tlsMode(m.TLS), Health: d.metrics.health(host, directory.ServiceSMTP), Log: d.log.With("role", "mmp")}
		if r.TLS, err = clientTLS(m.CA, host); err != nil {
			return nil, err
		}
		if err := shown(r.TLS, m.Cert, m.Key); err != nil {
			return nil, err
		}
		if r.Secret, err = secret(m.SecretFile); err != nil {
			return nil, err
		}
		mta := relay.New(r)
		relays, backends, names = append(relays, mta), append(backends, mta), append(names, m.Address)
	}
	o.Router = mmp.Fixed(names, backends)
	return relays, nil
}

func tlsMode(mode string) relay.TLSMode {
	switch mode {
	case "starttls":
		return relay.StartTLS
	case "implicit":
		return relay.Implicit
	}
	return relay.None
}

// router finds a user's store: here, or among the relays.
func (d *daemon) router(local mmp.Backend, relays map[string]*relay.Relay) mmp.Router {
	o := mmp.RouterOptions{Local: local, DefaultHost: d.cfg.MMP.DefaultHost, Remote: func(host string) (mmp.Backend, bool) {
		b, ok := relays[strings.ToLower(host)]
		return b, ok
	}}
	if local != nil {
		o.LocalHosts = d.hosts()
	} else if o.DefaultHost == "" && len(d.cfg.MMP.Stores) == 1 {
		o.DefaultHost = d.cfg.MMP.Stores[0].Host
	}
	return mmp.NewRouter(o)
}

// common is what the store here, if there is one, and those elsewhere can do.
func common(local func() []string, relays map[string]*relay.Relay) func() []string {
	hosts := slices.Sorted(maps.Keys(relays))
	return func() []string {
		var lists [][]string
		if local != nil {
			lists = append(lists, local())
		}
		for _, host := range hosts {
			lists = append(lists, relays[host].Capabilities())
		}
		return mmp.Common(lists...)
	}
}

// defaultDomain completes a login by where the client came.
func (d *daemon) defaultDomain(local netip.Addr, serverName string) string {
	domains := d.cfg.MMP.DefaultDomains
	if domain := domains[strings.ToLower(serverName)]; serverName != "" && domain != "" {
		return domain
	}
	return domains[local.String()]
}
