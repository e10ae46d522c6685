package smtpclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// policies answers by host: a *mta.Protection, an error, or nothing.
type policies map[string]any

func (p policies) Protect(_ context.Context, domain, host string) (*mta.Protection, error) {
	if domain != "far.test" {
		return nil, errors.New("asked about " + domain)
	}
	switch a := p[host].(type) {
	case *mta.Protection:
		return a, nil
	case error:
		return nil, a
	}
	return nil, nil
}

// TestA4Policies is row A4 of hardening.md: what a policy demands is had, or
// there is no message.
func TestA4Policies(t *testing.T) {
	stripped := hello + "S: 250 mx.far.test\nC: QUIT\nS: 221 bye\n"
	valid := &mta.Protection{By: "mta-sts"}
	judged := func(err error) *mta.Protection {
		return &mta.Protection{By: "dane", Verify: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate to judge")
			}
			return err
		}}
	}
	tests := []struct {
		name, host string
		protection any
		dialogue   string
		failsTLS   bool
		want       string
	}{
		{"valid certificate", "mx.far.test", valid, offer + "S: 220 go\n" + afterTLS + sending, false, "ok"},
		{"STARTTLS stripped", "mx.far.test", valid, stripped, false,
			"451 4.7.10 mx.far.test offers no STARTTLS, which its domain's policy demands (mta-sts)"},
		{"STARTTLS refused", "mx.far.test", valid, offer + "S: 454 not now\nC: QUIT\nS: 221 bye\n", false, "454 4.0.0 mx.far.test said: 454 not now"},
		{"STARTTLS refused for good", "mx.far.test", valid, offer + "S: 502 never\nC: QUIT\nS: 221 bye\n", false, "451 4.0.0 mx.far.test said: 502 never"},
		{"certificate of another", "other.far.test", valid, offer + "S: 220 go\n", true, "451 4.4.2 the connection to other.far.test failed at STARTTLS"},
		{"another's judgement", "other.far.test", judged(nil), offer + "S: 220 go\n" + afterTLS + sending, false, "ok"},
		{"another's judgement is no", "mx.far.test", judged(errors.New("no TLSA record matches")), offer + "S: 220 go\n", true,
			"451 4.4.2 the connection to mx.far.test failed at STARTTLS"},
		{"host is forbidden", "mx.far.test", mail.TryLater(7, 10, "mx.far.test is not a mail host", nil), "", false, "451 4.7.10 mx.far.test is not a mail host"},
		{"policy cannot be had", "mx.far.test", errors.New("disk is gone"), "", false, mail.StatusOf(errors.New("x")).Reply()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			connections := 0
			w := newWorld(t)
			w.domain("far.test", tt.host+".")
			w.address(tt.host, "198.51.100.1")
			w.serve("198.51.100.1:25", func(c net.Conn) {
				connections++
				chat(t, tt.dialogue)(c)
				if tt.failsTLS {
					tls.Server(c, authority.server).Handshake() // fails, which is the point
				}
			})
			o := w.options()
			o.Policies = []mta.TLSPolicy{policies{}, policies{tt.host: tt.protection}}
			errs := once(o, t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter))
			if diff := cmp.Diff([]string{tt.want}, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			w.wg.Wait()
			if want := strings.Count(tt.dialogue, "EHLO mx") - strings.Count(tt.dialogue, "TLS\nC: EHLO"); connections > max(want, 0) {
				t.Errorf("%d connections: it tried again without TLS", connections)
			}
		})
	}
}

// TestForbiddenHostIsPassedOver: the next MX may be an honest one.
func TestForbiddenHostIsPassedOver(t *testing.T) {
	w := newWorld(t)
	w.domain("far.test", "evil.test.", "mx.far.test.")
	w.address("evil.test", "198.51.100.66")
	w.address("mx.far.test", "198.51.100.1")
	w.serve("198.51.100.66:25", func(net.Conn) { t.Error("the forbidden host was spoken to") })
	w.serve("198.51.100.1:25", chat(t, offer+"S: 220 go\n"+afterTLS+sending))
	o := w.options()
	o.Policies = []mta.TLSPolicy{policies{"evil.test": mail.TryLater(7, 10, "no", nil), "mx.far.test": &mta.Protection{By: "mta-sts"}}}
	errs := once(o, t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter))
	if diff := cmp.Diff([]string{"ok"}, replies(errs)); diff != "" {
		t.Error(diff)
	}
}
