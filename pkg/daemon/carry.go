package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/carryclient"
)

// watchSessions has the sessions end whose account is moved away.
func (d *daemon) watchSessions(s *mmp.Sessions) *mmp.Sessions {
	d.sessions = append(d.sessions, s)
	return s
}

// endSessions ends an account's sessions in this process.
func (d *daemon) endSessions(account string) {
	n := 0
	for _, s := range d.sessions {
		n += s.Kick(account)
	}
	if n > 0 {
		d.log.Info("sessions of a moving account end", "role", "store", "account", account, "sessions", n)
	}
}

// carrier speaks HTTP with a proxy that logged in to move accounts.
type carrier struct{ handler http.Handler }

var _ mmp.Backend = carrier{}

// Attach implements mmp.Backend.
func (c carrier) Attach(ctx context.Context, h *mmp.Handover) error {
	if _, err := h.Conn.Write([]byte(h.Tag + " OK moving accounts\r\n")); err != nil {
		_ = h.Conn.Close()
		return fmt.Errorf("answering the login: %w", err)
	}
	_ = h.Conn.SetDeadline(time.Time{})
	conn := net.Conn(&aheadConn{Conn: h.Conn, ahead: bytes.NewReader(h.ReadAhead)})
	h.Log.Info("moving accounts", "proxy", h.Identity.Proxy)
	server := &http.Server{Handler: c.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	err := server.Serve(&oneConn{ctx: ctx, conn: conn})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// aheadConn is a connection of which something was read already.
type aheadConn struct {
	net.Conn
	ahead io.Reader
}

// Read implements net.Conn.
func (c *aheadConn) Read(p []byte) (int, error) {
	if n, err := c.ahead.Read(p); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	return c.Conn.Read(p)
}

// StoreHost is the mail host of users whose entry names none, as the MMP of the
// configuration sees it.
func StoreHost(c config.Config, host string) string {
	switch {
	case host != "":
		return strings.ToLower(strings.TrimSuffix(host, "."))
	case c.MMP.DefaultHost != "":
		return strings.ToLower(c.MMP.DefaultHost)
	case c.Runs(config.RoleStore):
		return strings.ToLower(c.Hostname)
	case len(c.MMP.Stores) == 1:
		return strings.ToLower(c.MMP.Stores[0].Host)
	}
	return ""
}

// ownStore reports whether a mail host is the store of this configuration.
func ownStore(c config.Config, host string) bool {
	return c.Runs(config.RoleStore) && slices.ContainsFunc(append(slices.Clone(c.Store.Hosts), c.Hostname), func(h string) bool { return strings.EqualFold(h, host) })
}

// SameStore reports whether two mail hosts are one store.
func SameStore(c config.Config, a, b string) bool {
	a, b = StoreHost(c, a), StoreHost(c, b)
	return a == b || ownStore(c, a) && ownStore(c, b)
}

// Carrier is the store of a mail host, for moving accounts: over its control
// socket if it runs by this configuration, else through its IMAP door as the
// MMP's proxy (mmp.stores).
func Carrier(c config.Config, host string) (store.Carrier, error) {
	host = StoreHost(c, host)
	if ownStore(c, host) {
		path := ControlSocket(c, config.RoleStore)
		return carryclient.New(host, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
		}), nil
	}
	for _, s := range c.MMP.Stores {
		if !strings.EqualFold(s.Host, host) {
			continue
		}
		if s.Kind == "dovecot" {
			return nil, fmt.Errorf("store %s is not one of ours (mmp.stores: kind %s)", host, s.Kind)
		}
		if s.ProxyProtocol {
			return nil, fmt.Errorf("store %s wants the PROXY protocol, by which no accounts are moved", host)
		}
		door := carryclient.Door{Address: s.Address, Implicit: s.TLS == "implicit", Name: s.ProxyName}
		var err error
		if s.TLS != "none" && s.TLS != "" {
			if door.TLS, err = clientTLS(s.CA, s.Host); err != nil {
				return nil, err
			}
			if err := shown(door.TLS, s.Cert, s.Key); err != nil {
				return nil, err
			}
		}
		if door.Secret, err = secret(s.SecretFile); err != nil {
			return nil, err
		}
		return carryclient.New(host, door.Dial), nil
	}
	return nil, fmt.Errorf("no store is known for mail host %q; name it in mmp.stores", host)
}
