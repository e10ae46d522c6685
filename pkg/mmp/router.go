package mmp

import (
	"context"
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
	host := hostKey(u.MailHost)
	if host == "" {
		host = r.fallback
	}
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
