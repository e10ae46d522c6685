package greylist_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/greylist"
)

// attempt is one RCPT TO, after some time.
type attempt struct {
	after        time.Duration
	ip, from, to string
	vouched      bool
	want         string // "451" or nothing
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name     string
		attempts []attempt
	}{
		{"comes again", []attempt{
			{0, "192.0.2.1", "a@far.test", "u@us.example", false, "451"},
			{time.Minute, "192.0.2.1", "a@far.test", "u@us.example", false, "451"},
			{5 * time.Minute, "192.0.2.1", "a@far.test", "u@us.example", false, ""},
			{time.Second, "192.0.2.9", "b@far.test", "v@us.example", false, ""}, // its network is known now
			{20 * 24 * time.Hour, "192.0.2.1", "a@far.test", "u@us.example", false, ""},
			{20 * 24 * time.Hour, "192.0.2.1", "c@far.test", "u@us.example", false, ""}, // the last use prolonged it
			{37 * 24 * time.Hour, "192.0.2.1", "a@far.test", "u@us.example", false, "451"},
		}},
		{"another triple", []attempt{
			{0, "192.0.2.1", "a@far.test", "u@us.example", false, "451"},
			{6 * time.Minute, "192.0.2.1", "b@far.test", "u@us.example", false, "451"},
			{0, "192.0.2.1", "a@far.test", "v@us.example", false, "451"},
			{0, "198.51.100.1", "a@far.test", "u@us.example", false, "451"},
			{0, "192.0.2.200", "A@far.test", "U@us.example", false, ""}, // a neighbour, and another case
		}},
		{"comes too late", []attempt{
			{0, "2001:db8::1", "a@far.test", "u@us.example", false, "451"},
			{25 * time.Hour, "2001:db8::2", "a@far.test", "u@us.example", false, "451"},
			{6 * time.Minute, "2001:db8::3", "a@far.test", "u@us.example", false, ""},
		}},
		{"vouched for", []attempt{{0, "192.0.2.1", "a@far.test", "u@us.example", true, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1_800_000_000, 0)
			path := filepath.Join(t.TempDir(), "greylist.db")
			for i, a := range tt.attempts {
				now = now.Add(a.after)
				// Opened anew each time: a restart must forget nothing.
				c, err := greylist.Open(t.Context(), greylist.Options{Path: path, Now: func() time.Time { return now }})
				if err != nil {
					t.Fatal(err)
				}
				e := &mta.Evidence{Stranger: true, Vouched: a.vouched, Session: &mta.Session{Client: auth.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(a.ip), 25)}},
					Sender: mta.Sender{From: address(t, a.from)}, Recipients: []mail.Recipient{{Address: address(t, a.to)}}}
				got := ""
				if st, ok := errors.AsType[*mail.Status](c.Check(t.Context(), mta.AtRecipient, e)); ok {
					got = st.Reply()[:3]
				}
				if got != a.want {
					t.Errorf("attempt %d: %q, want %q", i, got, a.want)
				}
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func BenchmarkKnown(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	c, err := greylist.Open(b.Context(), greylist.Options{Path: filepath.Join(b.TempDir(), "greylist.db"), Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	e := &mta.Evidence{Stranger: true, Session: &mta.Session{Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:25")}}, Recipients: []mail.Recipient{{}}}
	if c.Check(b.Context(), mta.AtRecipient, e) == nil {
		b.Fatal("a first contact was let in")
	}
	now = now.Add(time.Hour)
	for b.Loop() {
		if err := c.Check(b.Context(), mta.AtRecipient, e); err != nil {
			b.Fatal(err)
		}
	}
}
