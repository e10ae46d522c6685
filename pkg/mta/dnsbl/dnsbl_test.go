package dnsbl_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dnsbl"
)

// zone answers by name; an empty answer is none.
type zone map[string]string

func (z zone) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	switch a, ok := z[name]; {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	case a == "":
		return nil, &net.DNSError{Err: "timeout", Name: name, IsTimeout: true}
	default:
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
}

func TestCheck(t *testing.T) {
	z := zone{
		"7.2.0.192.bad.test":  "127.0.0.2",
		"8.2.0.192.soft.test": "127.0.0.4",
		"9.2.0.192.bad.test":  "127.0.0.2", "9.2.0.192.good.test": "127.0.9.1",
		"10.2.0.192.bad.test": "127.255.255.254", // "you ask too often"
		"11.2.0.192.bad.test": "",
		"12.2.0.192.bad.test": "203.0.113.1", // somebody bought the domain
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad.test": "127.0.0.2",
	}
	tests := []struct {
		name, ip, want string
	}{
		{"unknown", "192.0.2.1", ""},
		{"bad", "192.0.2.7", "550 5.7.1 your address is listed by bad.test"},
		{"bad, IPv4 in IPv6", "::ffff:192.0.2.7", "550 5.7.1 your address is listed by bad.test"},
		{"bad, IPv6", "2001:db8::1", "550 5.7.1 your address is listed by bad.test"},
		{"doubtful", "192.0.2.8", "junk"},
		{"good and bad", "192.0.2.9", "vouched"},
		{"the list refuses us", "192.0.2.10", ""},
		{"no answer", "192.0.2.11", ""},
		{"no listing", "192.0.2.12", ""},
	}
	c := dnsbl.New(dnsbl.Options{Resolver: z, Log: slog.New(slog.DiscardHandler), Lists: []dnsbl.List{
		{Zone: "bad.test", Action: dnsbl.Refuse}, {Zone: "soft.test", Action: dnsbl.Junk}, {Zone: "good.test", Action: dnsbl.Vouch}}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &mta.Evidence{Stranger: true, Session: &mta.Session{Client: auth.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(tt.ip), 25)}}}
			got := ""
			if st, ok := errors.AsType[*mail.Status](c.Check(t.Context(), mta.AtSender, e)); ok {
				got = st.Reply()
			}
			switch {
			case e.Vouched:
				got += "vouched"
			case e.Junk != "":
				got += "junk"
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
