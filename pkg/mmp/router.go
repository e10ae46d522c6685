package mmp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/directory"
)

// RouterOptions say which stores there are.
type RouterOptions struct {
	// Local is the store in this process; nil if there is none.
	Local Backend
	// LocalHosts are the names under which entries know this host, in any case.
	LocalHosts []string
	// Remote returns the Backend of the store on another host, and whether
	// there is one that may be reached: it is the allow-list of hosts, so that
	// an entry cannot send us anywhere (hardening row I10). Nil: none.
	Remote func(host string) (Backend, bool)
	// DefaultHost is the mail host of users whose entry has none; empty: Local.
	DefaultHost string
}

// NewRouter returns the Router that goes by a user's mailHost.
func NewRouter(o RouterOptions) Router {
	r := &router{local: o.Local, hosts: make(map[string]bool), remote: o.Remote, fallback: hostKey(o.DefaultHost)}
	for _, host := range o.LocalHosts {
		r.hosts[hostKey(host)] = true
	}
	return r
}

type router struct {
	local    Backend
	hosts    map[string]bool
	remote   func(host string) (Backend, bool)
	fallback string
}

// hostKey is host as it is compared: lower case, without the root's dot.
func hostKey(host string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(host), "."))
}

// Route implements Router.
func (r *router) Route(_ context.Context, u directory.User) (Backend, string, error) {
	first := u.MailHost
	if hostKey(first) == "" {
		first = r.fallback
	}
	var found failover
	var name string
	var errs []error
	for _, host := range append([]string{first}, u.FailoverHosts...) {
		b, store, err := r.host(host)
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(found) == 0:
			found, name = failover{b}, store
		default:
			found, name = append(found, b), name+","+store
		}
	}
	switch len(found) {
	case 0:
		return nil, "", errs[0]
	case 1:
		return found[0], name, nil
	}
	return found, name, nil
}

// Fixed returns a Router that sends everybody to the first of some servers, by
// name, that can be reached.
func Fixed(names []string, backends []Backend) Router {
	return fixed{strings.Join(names, ","), backends}
}

type fixed struct {
	name     string
	backends failover
}

// Route implements Router.
func (f fixed) Route(context.Context, directory.User) (Backend, string, error) {
	if len(f.backends) == 0 {
		return nil, "", &RefusedError{Unavailable: true, Text: "Nobody takes this here", Err: errors.New("no server is configured")}
	}
	return f.backends, f.name, nil
}

// failover is the stores that may serve a user, the best first.
type failover []Backend

// Attach implements Backend: the first store that can be reached serves.
func (f failover) Attach(ctx context.Context, h *Handover) error {
	var errs []error
	for _, b := range f {
		err := b.Attach(ctx, h)
		refused := (*RefusedError)(nil)
		if !errors.As(err, &refused) || !errors.Is(refused, ErrUnavailable) {
			return err
		}
		errs = append(errs, refused.Err)
	}
	return &RefusedError{Unavailable: true, Text: "Your mailbox cannot be reached now, try again later", Err: errors.Join(errs...)}
}

// host returns the store of one host.
func (r *router) host(host string) (Backend, string, error) {
	host = hostKey(host)
	if r.local != nil && (host == "" || r.hosts[host]) {
		return r.local, "local", nil
	}
	if host != "" && r.remote != nil {
		if b, ok := r.remote(host); ok {
			return b, host, nil
		}
	}
	return nil, "", &RefusedError{
		Unavailable: true,
		Text:        "Your mailbox cannot be reached now, try again later",
		Err:         fmt.Errorf("no store for mail host %q", host),
	}
}
