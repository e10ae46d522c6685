package rate_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/rate"
)

// bench is a Check on a clock of its own.
type bench struct {
	check *rate.Check
	now   time.Time
	log   bytes.Buffer
}

func newBench(l rate.Limits) *bench {
	b := &bench{now: time.Unix(1_800_000_000, 0).Truncate(24 * time.Hour)}
	b.check = rate.New(rate.Options{Limits: l, Now: func() time.Time { return b.now }, Log: slog.New(slog.NewTextHandler(&b.log, nil))})
	return b
}

// sent is how many of n recipients a login was allowed.
func (b *bench) sent(t *testing.T, login string, n int) int {
	t.Helper()
	e := &mta.Evidence{Session: &mta.Session{Submission: true, Identity: &auth.Identity{User: directory.User{UID: login}}}}
	return b.count(t, mta.AtRecipient, e, n)
}

// brought is how many of n messages a stranger was allowed.
func (b *bench) brought(t *testing.T, ip string, n int) int {
	t.Helper()
	e := &mta.Evidence{Stranger: true, Session: &mta.Session{Client: auth.Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), 25)}}}
	return b.count(t, mta.AtSender, e, n)
}

func (b *bench) count(t *testing.T, at mta.Stage, e *mta.Evidence, n int) int {
	t.Helper()
	allowed := 0
	for range n {
		switch err := b.check.Check(t.Context(), at, e); {
		case err == nil:
			allowed++
		case mail.IsPermanent(err):
			t.Fatal(err)
		}
	}
	return allowed
}

func TestLogin(t *testing.T) {
	b := newBench(rate.Limits{Hourly: 200, Daily: 1000})
	if n := b.sent(t, "alice", 300); n != 200 {
		t.Errorf("%d in the first hour", n)
	}
	if n := b.sent(t, "bob", 10); n != 10 {
		t.Errorf("another login sent %d", n)
	}
	b.now = b.now.Add(90 * time.Minute) // half of the first hour still counts
	if n := b.sent(t, "alice", 300); n != 100 {
		t.Errorf("%d after a half hour more", n)
	}
	total := 300
	for range 12 {
		b.now = b.now.Add(2 * time.Hour)
		total += b.sent(t, "alice", 300)
	}
	if total < 1000 || total > 1400 {
		t.Errorf("%d in a day and a half", total)
	}
	if n := strings.Count(b.log.String(), "login sends much"); n < 1 || n > 2 {
		t.Errorf("%d warnings:\n%s", n, b.log.String())
	}
}

func TestStranger(t *testing.T) {
	b := newBench(rate.Limits{Minute: 60})
	if n := b.brought(t, "192.0.2.1", 100); n != 60 {
		t.Errorf("%d messages", n)
	}
	if n := b.brought(t, "192.0.2.2", 10); n != 10 {
		t.Errorf("another address brought %d", n)
	}
	if n := b.brought(t, "2001:db8::1", 40) + b.brought(t, "2001:db8::2", 40); n != 60 {
		t.Errorf("a /64 brought %d", n)
	}
	b.now = b.now.Add(2 * time.Minute)
	if n := b.brought(t, "192.0.2.1", 100); n != 60 {
		t.Errorf("%d messages two minutes later", n)
	}
}

func TestSender(t *testing.T) {
	b := newBench(rate.Limits{Sender: 60})
	bring := func(from string, hosts int) int {
		allowed := 0
		for i := range hosts {
			e := &mta.Evidence{Stranger: true, Session: &mta.Session{Client: auth.Client{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 25)}}}
			if from != "" {
				a, err := mail.ParseAddress(from)
				if err != nil {
					t.Fatal(err)
				}
				e.Sender.From = a
			}
			allowed += b.count(t, mta.AtSender, e, 1)
		}
		return allowed
	}
	if n := bring("news@far.test", 50) + bring("NEWS@far.test", 50); n != 60 {
		t.Errorf("%d messages of one sender by many hosts", n)
	}
	if n := bring("other@far.test", 50); n != 50 {
		t.Errorf("another sender: %d", n)
	}
	if n := bring("", 200); n != 200 {
		t.Errorf("bounces: %d", n)
	}
}

// TestStrangersDisplaceNoLogin: a flood of them must not let a stolen password
// begin anew.
func TestStrangersDisplaceNoLogin(t *testing.T) {
	b := newBench(rate.Limits{Hourly: 10, Minute: 60})
	if n := b.sent(t, "alice", 20); n != 10 {
		t.Fatalf("%d sent", n)
	}
	for i := range 60_000 {
		b.brought(t, fmt.Sprintf("2001:db8:0:%x::1", i), 1)
	}
	if n := b.sent(t, "alice", 20); n != 0 {
		t.Errorf("%d more sent after a flood", n)
	}
}

func TestNoLimit(t *testing.T) {
	b := newBench(rate.Limits{})
	if n := b.sent(t, "alice", 5000); n != 5000 {
		t.Errorf("%d", n)
	}
	if n := b.brought(t, "192.0.2.1", 5000); n != 5000 {
		t.Errorf("%d", n)
	}
}

// TestMemoryIsBounded: a stranger has 2^64 networks.
func TestMemoryIsBounded(t *testing.T) {
	b := newBench(rate.Limits{Minute: 60})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 200_000 {
		b.brought(t, fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff), 1)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 40<<20 {
		t.Errorf("%d MB", grown>>20)
	}
	runtime.KeepAlive(b)
}
