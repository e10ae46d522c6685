package ldapclient

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// server is where an LDAP URL (RFC 4516, ldapi as OpenLDAP has it) leads.
type server struct {
	url     string
	network string // tcp or unix
	address string
	host    string // for the certificate
	tls     bool   // from the first byte
}

func parseURL(s string) (server, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return server{}, fmt.Errorf("directory URL %q: no scheme", s)
	}
	if strings.EqualFold(scheme, "ldapi") {
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") {
			return server{}, fmt.Errorf("directory URL %q: no path of a socket", s)
		}
		return server{url: s, network: "unix", address: path}, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return server{}, fmt.Errorf("directory URL: %w", err)
	}
	port := map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	switch {
	case port == "":
		return server{}, fmt.Errorf("directory URL %q: scheme is not ldap, ldaps or ldapi", s)
	case u.Hostname() == "":
		return server{}, fmt.Errorf("directory URL %q: no host", s)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return server{}, fmt.Errorf("directory URL %q: more than a host and a port", s)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return server{url: s, network: "tcp", address: net.JoinHostPort(u.Hostname(), port), host: u.Hostname(), tls: u.Scheme == "ldaps"}, nil
}

// local reports whether bytes to the server stay on this host.
func (s server) local() bool {
	if s.network == "unix" || s.host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(s.host)
	return err == nil && a.Unmap().IsLoopback()
}
