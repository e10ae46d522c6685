// Package daemon is the roof: it builds the roles of this process, joins them
// (build in wire.go, one file a role), runs them and stops them in reverse order.
//
// It holds no mail logic. Nowhere else may code ask whether a role is local.
package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"mailsrv/pkg/config"
	"mailsrv/pkg/journal"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/sqlite"
)

// Options of Run.
type Options struct {
	Config config.Config
	Log    *slog.Logger
	// Ready is called once, when every listener is open and every role serves,
	// with the addresses by name ("imap", "submission", ...; the first of each).
	Ready func(addresses map[string]string)
	// Reload tells of a changed configuration; its zero value never does.
	Reload Reload
}

// Run runs the configured roles until ctx ends, and then drains them: it
// returns nil after a clean stop. Nothing is made on disk before every port is
// open, so that one which is taken changes nothing.
func Run(ctx context.Context, o Options) error {
	d := &daemon{cfg: o.Config, log: o.Log, metrics: newMetrics(), addresses: map[string]string{}}
	defer d.close()
	if d.cfg.TLS.Cert != "" {
		var further []listen.Pair
		for _, p := range d.cfg.TLS.Further {
			further = append(further, listen.Pair(p))
		}
		var err error
		if d.certificate, err = listen.LoadCertificate(d.cfg.TLS.Cert, d.cfg.TLS.Key, further...); err != nil {
			return err
		}
	}
	if d.cfg.TLS.ClientCA != "" {
		var err error
		if d.clientCAs, err = certificates(d.cfg.TLS.ClientCA); err != nil {
			return err
		}
	}
	if err := d.secrets(); err != nil {
		return err
	}
	if err := d.reserve(ctx); err != nil {
		return err
	}
	if err := d.openData(); err != nil {
		return fmt.Errorf("opening data folder: %w", err)
	}
	fatal := make(chan error, 1)
	d.onFatal = func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	if err := d.build(ctx); err != nil {
		return err
	}
	return d.serve(ctx, o, fatal)
}

type daemon struct {
	cfg         config.Config
	log         *slog.Logger
	metrics     *metrics
	certificate *listen.Certificate
	clientCAs   *x509.CertPool // nil: people have no certificates
	onFatal     func(error)
	journal     *journal.Journal // nil: none is kept
	// stages run from first to last and stop from last to first: directory,
	// store, mta, mmp.
	stages    []stage
	closers   []func() error
	probes    []probe
	addresses map[string]string
	reserved  map[port]net.Listener // that no door has taken yet
	listening []func()              // tell the log of each listener
	// sessions are those of all fronts of this process.
	sessions []*mmp.Sessions
}

// stage is what one role runs.
type stage struct {
	role  config.Role
	tasks []func(context.Context) error
}

// door is a listener and who serves it.
type door struct {
	name    string
	listen  config.Listeners
	options listen.Options
	serve   func(context.Context, net.Conn)
}

// open opens a door's listeners and adds their tasks to the stage.
func (d *daemon) open(ctx context.Context, s *stage, x door) error {
	for i := range x.listen {
		ln, err := d.listener(ctx, x, i)
		if err != nil {
			return fmt.Errorf("opening %s: %w", x.name, err)
		}
		if _, ok := d.addresses[x.name]; !ok {
			d.addresses[x.name] = ln.Addr().String()
		}
		o := x.options
		o.Name, o.Log, o.Grace = x.name, d.log.With("role", string(s.role), "door", x.name), time.Duration(d.cfg.Grace)
		o.Opened, o.Closed, o.Refused = d.metrics.connections(x.name)
		s.tasks = append(s.tasks, func(ctx context.Context) error { return listen.Serve(ctx, ln, o, x.serve) })
		d.listening = append(d.listening, func() { o.Log.Info("listening", "addr", ln.Addr().String()) })
	}
	return nil
}

// serve runs all stages until ctx ends or one fails.
func (d *daemon) serve(ctx context.Context, o Options, fatal <-chan error) error {
	failed := make(chan error, len(d.stages))
	var stops []func() error
	for _, s := range d.stages {
		sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		g, gctx := errgroup.WithContext(sctx)
		for _, task := range s.tasks {
			g.Go(func() error {
				err := task(gctx)
				if err != nil {
					err = fmt.Errorf("serving %s: %w", s.role, err)
					failed <- err
				}
				return err
			})
		}
		stops = append(stops, sync.OnceValue(func() error { cancel(); return g.Wait() }))
	}
	for _, tell := range d.listening {
		tell()
	}
	if o.Ready != nil {
		o.Ready(d.addresses)
	}
	_ = listen.Notify("READY=1")
	err := d.wait(ctx, o.Reload, failed, fatal)
	_ = listen.Notify("STOPPING=1")
	d.log.Info("stopping")
	for i := len(stops) - 1; i >= 0; i-- {
		if e := stops[i](); err == nil {
			err = e
		}
	}
	return err
}

// wait returns when the daemon is to stop, with what made it.
func (d *daemon) wait(ctx context.Context, reload Reload, failed, fatal <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case err := <-fatal:
			return err
		case <-reload.Signals:
			d.reload(reload)
		}
	}
}

// close frees what was opened, the last first.
func (d *daemon) close() {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	if err := errors.Join(errs...); err != nil {
		d.log.Error("close failed", "err", err)
	}
}

// openData makes the data folder, and keeps other processes out of it.
func (d *daemon) openData() error {
	if err := os.MkdirAll(d.cfg.Data, 0o700); err != nil {
		return err
	}
	lock, err := sqlite.Lock(filepath.Join(d.cfg.Data, "lock"))
	if err != nil {
		return fmt.Errorf("%s: %w", d.cfg.Data, err)
	}
	d.closers = append(d.closers, lock.Close)
	return nil
}

// folder makes a folder in the data folder.
func (d *daemon) folder(name string) (string, error) {
	dir := filepath.Join(d.cfg.Data, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making %s: %w", dir, err)
	}
	return dir, nil
}
