package ldapclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// shun is how long a server that did not answer is asked last.
const shun = 10 * time.Second

// dialer makes connections to the first of the servers that answers.
type dialer struct {
	o       Options
	servers []server
	log     *slog.Logger

	mu     sync.Mutex
	failed []time.Time // when each server last did
	down   bool        // that none answers was logged
}

func newDialer(o Options) (*dialer, error) {
	d := &dialer{o: o, log: o.Log, failed: make([]time.Time, len(o.URLs))}
	if len(o.URLs) == 0 {
		return nil, errors.New("directory: no URL")
	}
	for _, u := range o.URLs {
		s, err := parseURL(u)
		if err != nil {
			return nil, err
		}
		if s.network == "tcp" && !s.tls && !o.StartTLS && !o.Plaintext && !s.local() {
			return nil, fmt.Errorf("directory URL %q: passwords would go in the clear; use ldaps or StartTLS", u)
		}
		d.servers = append(d.servers, s)
	}
	return d, nil
}

// dial connects and, if setup is not nil, prepares the connection with it.
func (d *dialer) dial(ctx context.Context, setup func(*conn) error) (*conn, error) {
	var errs []error
	order := d.order()
	for n, i := range order {
		k, err := d.try(ctx, d.servers[i], setup, len(order)-n)
		d.note(i, err)
		if err == nil {
			return k, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", d.servers[i].url, err))
		if ctx.Err() != nil {
			break
		}
	}
	err := errors.Join(errs...)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.down && !errors.Is(ctx.Err(), context.Canceled) {
		d.down = true
		d.log.Warn("directory unavailable", "err", err)
	}
	return nil, err
}

// order lists the servers, those that failed lately last.
func (d *dialer) order() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	var good, bad []int
	for i, t := range d.failed {
		if time.Since(t) < shun {
			bad = append(bad, i)
		} else {
			good = append(good, i)
		}
	}
	return append(good, bad...)
}

func (d *dialer) note(i int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failed[i] = time.Now()
		return
	}
	d.failed[i] = time.Time{}
	if d.down {
		d.down = false
		d.log.Info("directory available again", "to", d.servers[i].url)
	}
}

// try connects to one server. left is how many are to be tried in the time
// that ctx has: a blackhole must not eat it all.
func (d *dialer) try(ctx context.Context, s server, setup func(*conn) error, left int) (k *conn, err error) {
	deadline := time.Now().Add(d.o.Timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	deadline = time.Now().Add(time.Until(deadline) / time.Duration(left))
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, err
	}
	k = newConn(nc)
	done := k.watch(ctx, deadline)
	err = d.prepare(ctx, k, s, setup)
	done()
	if err == nil {
		err = k.err
	}
	if err != nil {
		_ = k.net.Close()
		return nil, err
	}
	return k, nil
}

// prepare brings TLS and identity to a new connection.
func (d *dialer) prepare(ctx context.Context, k *conn, s server, setup func(*conn) error) error {
	switch {
	case s.tls:
		if err := d.handshake(ctx, k, s); err != nil {
			return err
		}
	case d.o.StartTLS && s.network == "tcp":
		res, err := roundTrip[*ldapwire.ExtendedResponse](k, &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS})
		if err == nil && res.Code != int(directory.Success) {
			err = resultError(res.Result)
		}
		if err == nil && k.r.Buffered() > 0 {
			err = errors.New("plaintext behind the answer") // injected before TLS
		}
		if err != nil {
			return fmt.Errorf("StartTLS: %w", err)
		}
		if err := d.handshake(ctx, k, s); err != nil {
			return err
		}
	}
	if setup == nil {
		return nil
	}
	return setup(k)
}

func (d *dialer) handshake(ctx context.Context, k *conn, s server) error {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.o.TLS != nil {
		cfg = d.o.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = s.host
	}
	t := tls.Client(k.net, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	k.net = t
	k.r.Reset(t)
	return nil
}

// bindService binds as the one who searches. A refusal is an outage to those
// who ask for users: it must not look like their wrong password, so the
// result does not stay in the chain.
func (d *dialer) bindService(k *conn) error {
	req := &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "EXTERNAL", HasCredentials: true}
	switch {
	case d.o.External:
	case d.o.BindDN.IsRoot():
		return nil
	default:
		req = &ldapwire.BindRequest{Version: 3, Name: d.o.BindDN.String(), Auth: ldapwire.AuthSimple, Password: d.o.Password}
	}
	res, err := roundTrip[*ldapwire.BindResponse](k, req)
	if err == nil && res.Code != int(directory.Success) {
		err = resultError(res.Result)
	}
	if err != nil {
		return fmt.Errorf("binding as the service %s: %v", d.o.BindDN, err) //nolint:errorlint // see above
	}
	return nil
}
