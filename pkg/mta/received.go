package mta

import (
	"crypto/tls"
	"strings"
	"time"

	"mailsrv/pkg/mail"
)

// received is the trace field of our hop (RFC 5321 §4.4), folded, with its
// CRLF. It names the recipient only if there is no other.
func received(s *Session, hostname string, trace mail.TraceID, utf8 bool, to []mail.Recipient, at time.Time) []byte {
	var b strings.Builder
	b.WriteString("Received: from " + cleanHelo(s.Helo))
	if ip := s.Client.Addr.Addr().Unmap(); ip.IsValid() {
		literal := ip.WithZone("").String()
		if ip.Is6() {
			literal = "IPv6:" + literal
		}
		b.WriteString(" ([" + literal + "])")
	}
	b.WriteString("\r\n\tby " + hostname + " with " + protocol(s, utf8) + " id " + string(trace))
	if s.TLS != nil {
		b.WriteString("\r\n\t(" + tls.VersionName(s.TLS.Version) + " " + tls.CipherSuiteName(s.TLS.CipherSuite) + ")")
	}
	if len(to) == 1 && len(to[0].Address.String()) < 200 {
		b.WriteString("\r\n\tfor <" + to[0].Address.String() + ">")
	}
	b.WriteString(";\r\n\t" + at.Format(dateLayout) + "\r\n")
	return []byte(b.String())
}

// dateLayout is date-time of RFC 5322 §3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// protocol is the "with" of a Received field (RFC 3848, RFC 6531 §4.3).
func protocol(s *Session, utf8 bool) string {
	p := "SMTP"
	switch {
	case utf8:
		p = "UTF8SMTP"
	case s.ESMTP:
		p = "ESMTP"
	default:
		return p
	}
	if s.TLS != nil {
		p += "S"
	}
	if s.Identity != nil {
		p += "A"
	}
	return p
}

// cleanHelo makes a stranger's greeting safe to stand in a header field.
func cleanHelo(s string) string {
	if len(s) > mail.MaxDomain {
		s = s[:mail.MaxDomain]
	}
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r) {
			return r
		}
		return '?'
	}, s)
	if s == "" {
		return "unknown"
	}
	return s
}
