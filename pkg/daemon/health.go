package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
)

// probe asks one thing that a role cannot do without.
type probe struct {
	role config.Role
	what string
	// own: it is in this process, so that a restart of it may help.
	own bool
	ask func(context.Context) error
}

// probeTime bounds all probes of one question.
const probeTime = 5 * time.Second

// needs adds a probe.
func (d *daemon) needs(role config.Role, what string, own bool, ask func(context.Context) error) {
	d.probes = append(d.probes, probe{role, what, own, ask})
}

// needsDirectory adds the probe of the directory, wherever it runs.
func (d *daemon) needsDirectory(role config.Role, tree directory.Tree) {
	if cached, ok := tree.(interface{ Uncached() directory.Tree }); ok {
		tree = cached.Uncached() // what it remembers says nothing of how it is
	}
	d.needs(role, "directory", d.cfg.Runs(config.RoleDirectory), func(ctx context.Context) error {
		base, err := directory.ParseDN(d.cfg.Directory.Suffix)
		if err != nil {
			return err
		}
		for _, err := range tree.Search(ctx, directory.Query{Base: base, Scope: directory.ScopeBase}) {
			return err
		}
		return fmt.Errorf("%s: %w", base, directory.ErrNotFound)
	})
}

// ask puts the probes, or only those of this process, and returns a line for
// each.
func (d *daemon) ask(ctx context.Context, own bool) (lines string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var text strings.Builder
	var errs []error
	for _, p := range d.probes {
		if own && !p.own {
			continue
		}
		state := "ok"
		if err := p.ask(ctx); err != nil {
			state = err.Error()
			errs = append(errs, fmt.Errorf("%s: %s: %w", p.role, p.what, err))
		}
		fmt.Fprintf(&text, "%s %s: %s\n", p.role, p.what, state)
	}
	return text.String(), errors.Join(errs...)
}

// health answers with the probes' lines: 200 if all is well, else 503.
func (d *daemon) health(own bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		lines, err := d.ask(r.Context(), own)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(lines))
	}
}

// watchdog tells the service manager, in half the time that it allows
// (sd_watchdog_enabled), that what runs here answers. What runs elsewhere does
// not count: our restart would not mend it.
func (d *daemon) watchdog(ctx context.Context) error {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return nil
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := d.ask(ctx, true); err != nil {
			d.log.Error("not healthy", "err", err)
			continue
		}
		_ = listen.Notify("WATCHDOG=1")
	}
}
