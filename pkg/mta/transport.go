package mta

import (
	"path"
	"strings"

	"mailsrv/pkg/mail"
)

// Transport is a way for mail of certain recipients or senders that is not the
// MX of the recipient's domain: a relay or LMTP host, or another address.
type Transport struct {
	// Name is by which Transports finds the way.
	Name string
	// To and From are patterns of addresses: "user@example.com", "example.com"
	// for all its addresses, ".example.com" for those of its subdomains, with
	// the wildcards of path.Match. An empty list matches all.
	To, From []string
	// Address takes the mail in the recipient's place, if it is not zero.
	Address mail.Address
}

// Transports finds the way of a Transport. It is asked for configured names only.
type Transports func(name string) mail.Deliverer

// transport finds the exception that counts for a recipient that is not ours.
func (r *Resolver) transport(from, to mail.Address) (Transport, bool) {
	for _, t := range r.Transports {
		if matches(t.To, to) && matches(t.From, from) {
			return t, true
		}
	}
	return Transport{}, false
}

func matches(patterns []string, a mail.Address) bool {
	if len(patterns) == 0 {
		return true
	}
	full, domain := strings.ToLower(a.Local)+"@"+a.Domain, a.Domain
	for _, p := range patterns {
		p = strings.ToLower(p)
		subject := domain
		switch {
		case strings.Contains(p, "@"):
			subject = full
		case strings.HasPrefix(p, "."):
			p = "*" + p
		}
		if ok, err := path.Match(p, subject); ok && err == nil || p == subject { // an address literal is no class of characters
			return true
		}
	}
	return false
}
