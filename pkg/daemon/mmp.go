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
	"mailsrv/pkg/mmp/relay"
	"mailsrv/pkg/store/imapserver"
)

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
	front := imapfront.New(imapfront.Options{FrontOptions: mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: dir, Log: log, Observe: d.metrics.login("mmp")}),
		Router:        mmp.NewRouter(ro), TLS: d.tls(), Hostname: d.cfg.Hostname, Log: log,
	}, Capabilities: capabilities})
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
