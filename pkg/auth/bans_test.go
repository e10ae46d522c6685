package auth

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"mailsrv/pkg/directory"
)

func TestBans(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	loopback := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	l := New(Options{Directory: &people{status: directory.Active}, Proxies: []Proxy{{Name: "mmp", Networks: loopback}}, Now: func() time.Time { return now }})
	guess := func(address, login, password string) error {
		_, err := l.Login(t.Context(), client(address, true), login, password)
		return err
	}
	for i := range perMinute {
		if err := guess("2001:db8::1", "nobody"+string(rune('a'+i)), "x"); !errors.Is(err, ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	bans := l.Bans()
	if len(bans) != 1 || bans[0].Network.String() != "2001:db8::/64" || bans[0].Minute != perMinute || !bans[0].Until.Equal(now.Add(time.Minute)) || !bans[0].Last.Equal(now) {
		t.Fatalf("%+v", bans)
	}
	if err := guess("2001:db8::2", "alice", "secret"); !errors.Is(err, ErrThrottled) {
		t.Errorf("the same network: %v", err)
	}
	if s := l.Source(netip.MustParseAddr("192.0.2.1")); s.Day != 0 || !s.Until.IsZero() {
		t.Errorf("another network: %+v", s)
	}
	if !l.Lift(netip.MustParseAddr("2001:db8::3")) || l.Lift(netip.MustParseAddr("2001:db8::3")) || len(l.Bans()) != 0 {
		t.Error("the ban was not lifted once")
	}
	if err := guess("2001:db8::2", "alice", "secret"); err != nil {
		t.Errorf("after the ban was lifted: %v", err)
	}
	if !l.Exempt(netip.MustParseAddr("127.0.0.1")) || !l.Exempt(netip.MustParseAddr("198.51.100.7")) || l.Exempt(netip.MustParseAddr("192.0.2.1")) {
		t.Error("exempt are loopback and proxies, and nobody else")
	}
}

// TestWelcomeSourceIsNotBanned: where somebody logged in from in the last day,
// failures cost a minute and no day.
func TestWelcomeSourceIsNotBanned(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := New(Options{Directory: &people{status: directory.Active}, Now: func() time.Time { return now }})
	home := netip.MustParseAddr("192.0.2.1")
	if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(10 * time.Minute)
	for range perDay {
		l.throttle.sources.add(source(home), now)
		now = now.Add(7 * time.Second)
	}
	if err := l.throttle.check(home); err != nil {
		t.Errorf("within a day of a login: %v", err)
	}
	if s := l.Source(home); !s.Welcome || s.Day != perDay {
		t.Errorf("%+v", s)
	}
	now = now.Add(day - 15*time.Minute) // the failures took six
	if err := l.throttle.check(home); !errors.Is(err, ErrThrottled) {
		t.Errorf("a day after the login: %v", err)
	}
}
