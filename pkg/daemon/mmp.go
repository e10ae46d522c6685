package daemon

import (
	"context"
	"strings"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/mmp/pop3front"
	"mailsrv/pkg/mmp/relay"
	"mailsrv/pkg/store/imapserver"
	"mailsrv/pkg/store/pop3server"
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
	// With the store elsewhere, its capabilities are not known before a login;
	// ours are a fair guess where the stores are mailsrv too.
	o := imapfront.Options{Capabilities: imapserver.New(imapserver.Options{}).Capabilities}
	p := pop3front.Options{Capabilities: pop3server.New(pop3server.Options{}).Capabilities}
	var imapLocal, pop3Local mmp.Backend
	if st != nil {
		imapLocal, o.Capabilities = st.imap, st.imap.Capabilities
		pop3Local, p.Capabilities = st.pop3, st.pop3.Capabilities
	}
	o.FrontOptions = mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: dir, Log: log, Observe: d.metrics.login("mmp")}),
		Router:        d.router(imapLocal, imapStores), TLS: d.tls(), Hostname: d.cfg.Hostname, Log: log,
	}
	p.FrontOptions = o.FrontOptions
	p.Router = d.router(pop3Local, pop3Stores)
	imap, pop3 := imapfront.New(o), pop3front.New(p)
	s := stage{role: config.RoleMMP}
	for _, x := range []door{
		{name: "imap", listen: c.IMAP.Listen, serve: imap.ServeConn},
		{name: "imaps", listen: c.IMAP.ListenTLS, options: listen.Options{TLS: d.tls("imap")}, serve: imap.ServeConn},
		{name: "pop3", listen: c.POP3.Listen, serve: pop3.ServeConn},
		{name: "pop3s", listen: c.POP3.ListenTLS, options: listen.Options{TLS: d.tls("pop3")}, serve: pop3.ServeConn},
	} {
		x.options.PerIP, x.options.Total = mailboxPerIP, perDoor
		if err := d.open(ctx, &s, x); err != nil {
			return err
		}
	}
	d.stages = append(d.stages, s)
	return nil
}

// relays are the stores on other hosts that have a door of the protocol, by
// mail host.
func (d *daemon) relays(protocol directory.Service) (map[string]mmp.Backend, error) {
	relays := map[string]mmp.Backend{}
	for _, s := range d.cfg.MMP.Stores {
		o := relay.Options{
			Protocol: protocol, Address: s.Address, Authcid: s.ProxyName, MasterUser: s.Kind == "dovecot", ProxyV2: s.ProxyProtocol,
			Log: d.log.With("role", "mmp"),
		}
		if protocol == directory.ServicePOP3 {
			o.Address = s.POP3Address
		}
		if o.Address == "" {
			continue
		}
		switch s.TLS {
		case "starttls":
			o.TLSMode = relay.StartTLS
		case "implicit":
			o.TLSMode = relay.Implicit
		}
		var err error
		if o.TLS, err = clientTLS(s.CA, s.Host); err != nil {
			return nil, err
		}
		if o.Secret, err = secret(s.SecretFile); err != nil {
			return nil, err
		}
		relays[strings.ToLower(s.Host)] = relay.New(o)
	}
	return relays, nil
}

// router finds a user's store: here, or among the relays.
func (d *daemon) router(local mmp.Backend, relays map[string]mmp.Backend) mmp.Router {
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
