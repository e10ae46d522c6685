package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"mailsrv/pkg/config"
	"mailsrv/pkg/listen"
)

// port is one TCP address of a door.
type port struct {
	door  string
	index int
}

// ports are the listeners of the doors that this process serves, by the doors'
// names, in the order in which they are opened. open takes no others.
func (d *daemon) ports() []door {
	c := d.cfg
	all := []struct {
		role  config.Role
		doors []door
	}{
		{config.RoleDirectory, []door{{name: "ldap", listen: c.Directory.Listen.LDAP}, {name: "ldaps", listen: c.Directory.Listen.LDAPS}}},
		{config.RoleStore, []door{{name: "store-imap", listen: c.Store.IMAP.Listen}, {name: "store-imaps", listen: c.Store.IMAP.ListenTLS},
			{name: "store-pop3", listen: c.Store.POP3.Listen}, {name: "store-pop3s", listen: c.Store.POP3.ListenTLS}, {name: "lmtp", listen: c.Store.LMTP.Listen}}},
		{config.RoleMTA, []door{{name: "smtp", listen: c.MTA.SMTP.Listen}, {name: "submission", listen: c.MTA.Submission.Listen}, {name: "submissions", listen: c.MTA.Submissions.Listen}}},
		{config.RoleMMP, []door{{name: "imap", listen: c.MMP.IMAP.Listen}, {name: "imaps", listen: c.MMP.IMAP.ListenTLS},
			{name: "pop3", listen: c.MMP.POP3.Listen}, {name: "pop3s", listen: c.MMP.POP3.ListenTLS},
			{name: "mmp-submission", listen: c.MMP.Submission.Listen}, {name: "mmp-submissions", listen: c.MMP.Submission.ListenTLS}}},
	}
	doors := []door{{name: "admin", listen: c.Admin.Listen}}
	for _, r := range all {
		if c.Runs(r.role) {
			doors = append(doors, r.doors...)
		}
	}
	return doors
}

// reserve opens all TCP listeners before anything is made or migrated in the
// data folder: a start that a taken port ends changes nothing. Who connects
// meanwhile waits.
func (d *daemon) reserve(ctx context.Context) error {
	d.reserved = map[port]net.Listener{}
	for _, x := range d.ports() {
		for i, addr := range x.listen {
			if strings.HasPrefix(addr, "unix:") {
				continue // may lie in the data folder, and nobody else takes it
			}
			ln, err := listen.Open(ctx, addr)
			if err != nil {
				return fmt.Errorf("opening %s: %w", x.name, err)
			}
			d.closers = append(d.closers, func() error { ln.Close(); return nil })
			d.reserved[port{x.name, i}] = ln
		}
	}
	return nil
}

// errNotReserved: a door is missing in ports.
var errNotReserved = errors.New("no port is reserved for this door")

// listener is the listener that was reserved for a door, or a socket.
func (d *daemon) listener(ctx context.Context, x door, index int) (net.Listener, error) {
	if addr := x.listen[index]; strings.HasPrefix(addr, "unix:") {
		ln, err := listen.Open(ctx, addr)
		if err == nil {
			d.closers = append(d.closers, func() error { ln.Close(); return nil })
		}
		return ln, err
	}
	p := port{x.name, index}
	ln, ok := d.reserved[p]
	if !ok {
		return nil, errNotReserved
	}
	delete(d.reserved, p)
	return ln, nil
}

// secrets reads every file with a secret that this process needs, so that one
// which is missing, or open to everybody, is found before anything is made.
func (d *daemon) secrets() error {
	for _, f := range secretFiles(d.cfg) {
		if f == "" {
			continue
		}
		if _, err := secret(f); err != nil {
			return err
		}
	}
	return nil
}

// secretFiles are the files with secrets of the roles that run; "" may be among
// them.
func secretFiles(c config.Config) (files []string) {
	if c.Runs(config.RoleDirectory) {
		files = append(files, c.Directory.AdminPasswordFile)
		for _, s := range c.Directory.Services {
			files = append(files, s.PasswordFile)
		}
	} else if c.Directory.BindDN != "" {
		files = append(files, c.Directory.BindPasswordFile)
	}
	if c.Runs(config.RoleStore) {
		for _, p := range c.Store.Proxies {
			files = append(files, p.SecretFile)
		}
	}
	if c.Runs(config.RoleMTA) {
		files = append(files, c.MTA.SmartHost.PasswordFile, c.MTA.Routing.SecretFile)
		for _, t := range c.MTA.Routing.Transports {
			files = append(files, t.PasswordFile)
		}
		for _, p := range c.MTA.Proxies {
			files = append(files, p.SecretFile)
		}
	}
	if c.Runs(config.RoleMMP) {
		for _, s := range c.MMP.Stores {
			files = append(files, s.SecretFile)
		}
		for _, s := range c.MMP.MTAs {
			files = append(files, s.SecretFile)
		}
	}
	return files
}
