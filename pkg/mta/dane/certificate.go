package dane

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/miekg/dns"
)

// The usages of RFC 7672 §3.1; the two that lean on public authorities are not
// for SMTP.
const (
	trustAnchor = 2 // DANE-TA
	endEntity   = 3 // DANE-EE
)

// usable are the records that we know how to use.
func usable(records []*dns.TLSA) []*dns.TLSA {
	var out []*dns.TLSA
	for _, r := range records {
		if (r.Usage == trustAnchor || r.Usage == endEntity) && r.Selector <= 1 && r.MatchingType <= 2 {
			out = append(out, r)
		}
	}
	return out
}

// judge returns what verifies a server's certificates against the records. If
// none is usable, TLS is still had, with whatever certificate (RFC 7672 §2.2).
func judge(records []*dns.TLSA, names ...string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(records) == 0 {
			return nil
		}
		for _, r := range records {
			switch {
			case r.Usage == endEntity && r.Verify(s.PeerCertificates[0]) == nil:
				return nil // names and dates say nothing here (RFC 7672 §3.1.1)
			case r.Usage == trustAnchor && anchored(r, s.PeerCertificates, names):
				return nil
			}
		}
		return errors.New("no TLSA record matches the certificate")
	}
}

// anchored reports whether the chain ends at the authority that r names, and
// its first certificate is for one of the names.
func anchored(r *dns.TLSA, chain []*x509.Certificate, names []string) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range chain[1:] {
		if r.Verify(c) == nil {
			roots.AddCert(c)
			found = true
		}
		between.AddCert(c)
	}
	if !found {
		return false
	}
	for _, name := range names {
		o := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := chain[0].Verify(o); err == nil {
			return true
		}
	}
	return false
}
