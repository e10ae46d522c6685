package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
)

const (
	// probeEvery is how often a store is looked at, and probeDead how often
	// one that was shut out: it is back for its users that soon.
	probeEvery = 30 * time.Second
	probeDead  = 2 * time.Second
)

// Serve looks at the store until ctx ends, and then returns nil: it learns what
// the store can do, notices its death before a user does, and its return.
func (r *Relay) Serve(ctx context.Context) error {
	for {
		if err := r.probe(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.Debug("store does not answer", "to", r.o.Address, "err", err)
		}
		wait := probeEvery
		if !r.guard.up() {
			wait = probeDead
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// probe connects, asks what the store can do, and leaves.
func (r *Relay) probe(ctx context.Context) error {
	err := r.visit(ctx, func(st peer) error {
		caps, err := st.capabilities()
		if err != nil {
			return fmt.Errorf("asking for capabilities: %w", err)
		}
		r.caps.Store(&caps)
		return st.leave()
	})
	if ctx.Err() == nil {
		r.guard.leave(false, err == nil)
	}
	return err
}

// visit reaches the store without logging in.
func (r *Relay) visit(ctx context.Context, do func(peer) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	conn, err := r.dial.DialContext(ctx, "tcp", r.o.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	st, err := r.greet(ctx, conn, &mmp.Handover{Trace: mail.NewTraceID()})
	if err != nil {
		return err
	}
	return do(st)
}

// Capabilities is what the store said before any login that it can do, without
// what only concerns the login itself; nil: it never answered yet.
func (r *Relay) Capabilities() []string {
	if caps := r.caps.Load(); caps != nil {
		return *caps
	}
	return nil
}

// ofMail drops what a store says of its own login.
func ofMail(caps []string, login ...string) []string {
	return slices.DeleteFunc(slices.Clone(caps), func(c string) bool {
		word, _, _ := strings.Cut(c, " ")
		return strings.HasPrefix(c, "AUTH=") || slices.Contains(login, word)
	})
}
