package daemon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/mmp/pop3front"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/carryserver"
	"mailsrv/pkg/store/imapserver"
	"mailsrv/pkg/store/lmtpserver"
	"mailsrv/pkg/store/pop3server"
	"mailsrv/pkg/store/sqlstore"
)

// storeRole is what other roles of this process need of the store.
type storeRole struct {
	imap      *imapserver.Server
	pop3      *pop3server.Server
	deliverer mail.Deliverer
	// carrier moves accounts between stores.
	carrier http.Handler
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
	var deliverer *store.Deliverer // made of the engine that uses it
	engine, err := sqlstore.Open(ctx, sqlstore.Options{Dir: filepath.Join(d.cfg.Data, "store"), InlineLimit: int64(c.InlineLimit), PackLimit: int64(c.PackLimit),
		Mailboxes: sqlstore.DefaultMailboxes(), Keep: time.Duration(c.KeepRemoved), Reserve: 16 << 20, OnFatal: d.onFatal, Log: log,
		WarnAt: c.Quota.WarnAt, Warn: func(ctx context.Context, w store.QuotaWarning) {
			if err := deliverer.Warn(ctx, w, d.cfg.Hostname, time.Now()); err != nil {
				log.Warn("quota warning not delivered", "account", w.Account, "err", err)
			}
		}})
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, engine.Close)
	d.needs(config.RoleStore, "database", true, engine.Ping)
	quota := store.Quota{Bytes: int64(c.Quota.Bytes), Messages: c.Quota.Messages, Reject: c.Quota.Reject}
	r := &storeRole{
		imap: imapserver.New(imapserver.Options{Store: engine, Directory: dir, Quota: quota, SharedAdmins: lowered(c.SharedAdmins),
			MaxMessage: int64(c.MaxMessage), SpoolDir: spool, ID: []string{"name", "mailsrv"}}),
		pop3: pop3server.New(pop3server.Options{Store: engine, Directory: dir, LoginDelay: time.Duration(c.POP3LoginDelay)}),
	}
	commands := storeCommands(engine)
	carryserver.Register(commands, carryserver.Options{Carrier: engine, EndSessions: d.endSessions, Log: log})
	r.carrier = commands
	deliverer = store.NewDeliverer(engine, dir, quota)
	r.deliverer = d.metrics.deliverer("store", &stored{deliverer, d.messageLog(config.RoleStore)})
	fronts, err := d.storeFronts(dir, r)
	if err != nil {
		return nil, err
	}
	lmtp := lmtpserver.New(lmtpserver.Options{Deliverer: deliverer, Hostname: d.cfg.Hostname, TLS: d.tls(), SpoolDir: spool, History: d.history(), Log: d.messageLog(config.RoleStore)})
	s := stage{role: config.RoleStore}
	for _, x := range append(fronts, door{name: "lmtp", listen: c.LMTP.Listen, options: listen.Options{Limits: listen.Limits{Total: d.cfg.Limits.SMTP.Total}}, serve: d.onlyFrom(c.LMTP, lmtp.ServeConn)}) {
		if err := d.open(ctx, &s, x); err != nil {
			return nil, err
		}
	}
	d.traceCommand(commands, nil, nil)
	if err := d.control(ctx, &s, commands); err != nil {
		return nil, err
	}
	d.stages = append(d.stages, s)
	return r, nil
}

// lowered are account names as stores have them.
func lowered(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strings.ToLower(n)
	}
	return out
}

// storeFronts are the doors for MMPs on other hosts.
func (d *daemon) storeFronts(dir directory.Directory, r *storeRole) ([]door, error) {
	c := d.cfg.Store
	log := d.log.With("role", "store")
	proxies, trusted, err := proxiesOf(c.Proxies)
	if err != nil {
		return nil, err
	}
	starttls, imaps, pop3s, err := d.proxyTLS()
	if err != nil {
		return nil, err
	}
	o := mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: dir, NoSCRAM: !scram(d.cfg), Proxies: proxies, Store: true, Log: log, Observe: d.metrics.login("store")}),
		TLS:           starttls, Hostname: d.cfg.Hostname, Trusted: trusted, Sessions: d.watchSessions(&mmp.Sessions{}), Log: log,
	}
	local := func(b mmp.Backend) mmp.FrontOptions {
		o.Router = mmp.NewRouter(mmp.RouterOptions{Local: b, LocalHosts: d.hosts()})
		return o
	}
	imapOptions := local(d.metrics.backend(directory.ServiceIMAP, r.imap))
	imapOptions.Carrier = carrier{r.carrier}
	imap := imapfront.New(imapfront.Options{FrontOptions: imapOptions, Capabilities: r.imap.Capabilities})
	pop3 := pop3front.New(pop3front.Options{FrontOptions: local(d.metrics.backend(directory.ServicePOP3, r.pop3)), Capabilities: r.pop3.Capabilities})
	options := func(tls *tls.Config, busy string) listen.Options {
		return limited(listen.Options{ProxyFrom: c.ProxyProtocolFrom, TLS: tls}, d.cfg.Limits.Mailbox, busy)
	}
	return []door{
		{name: "store-imap", listen: c.IMAP.Listen, options: options(nil, imapfront.Busy), serve: imap.ServeConn},
		{name: "store-imaps", listen: c.IMAP.ListenTLS, options: options(imaps, ""), serve: imap.ServeConn},
		{name: "store-pop3", listen: c.POP3.Listen, options: options(nil, pop3front.Busy), serve: pop3.ServeConn},
		{name: "store-pop3s", listen: c.POP3.ListenTLS, options: options(pop3s, ""), serve: pop3.ServeConn},
	}, nil
}

// proxiesOf are the MMPs that may log users in, and their networks.
func proxiesOf(list []config.Proxy) (proxies []auth.Proxy, trusted []netip.Prefix, err error) {
	for _, p := range list {
		trusted = append(trusted, p.Networks...)
		s, err := secret(p.SecretFile)
		if err != nil {
			return nil, nil, err
		}
		proxies = append(proxies, auth.Proxy{Name: p.Name, Secret: s, Networks: p.Networks, Certificate: p.Certificate})
	}
	return proxies, trusted, nil
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
