package daemon

import (
	"context"
	"net"
	"path/filepath"
	"slices"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/imapserver"
	"mailsrv/pkg/store/lmtpserver"
	"mailsrv/pkg/store/sqlstore"
)

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
	front := imapfront.New(imapfront.Options{FrontOptions: mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: dir, Proxies: proxies, Log: log, Observe: d.metrics.login("store")}),
		Router:        mmp.NewRouter(mmp.RouterOptions{Local: r.backend, LocalHosts: d.hosts()}),
		TLS:           d.tls(), Hostname: d.cfg.Hostname, Log: log,
	}, Capabilities: r.backend.Capabilities})
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
