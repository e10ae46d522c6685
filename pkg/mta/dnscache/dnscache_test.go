package dnscache_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mailsrv/pkg/mta/dnscache"
)

// zone answers by name, and counts.
type zone struct {
	asked   int
	records map[string][]string
	errs    map[string]error
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	z.asked++
	return slices.Clone(z.records[name]), z.errs[name]
}

func (z *zone) LookupMX(context.Context, string) ([]*net.MX, error) {
	z.asked++
	return []*net.MX{{Host: "mx.", Pref: 1}}, nil
}

func (z *zone) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	z.asked++
	return []net.IPAddr{{IP: net.IPv4(192, 0, 2, 1)}}, nil
}

func (z *zone) LookupAddr(context.Context, string) ([]string, error) {
	z.asked++
	return []string{"a."}, nil
}

func TestRemembersAnswersAndNotFailures(t *testing.T) {
	tests := []struct {
		name    string
		records []string
		err     error
		asked   int // of three questions
	}{
		{"records", []string{"v=spf1 -all"}, nil, 1},
		{"none", nil, &net.DNSError{Err: "no such host", IsNotFound: true}, 1},
		{"servfail", nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}, 3},
		{"timeout", nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true, IsNotFound: true}, 3},
		{"cancelled", nil, context.Canceled, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				z := &zone{records: map[string][]string{"x.test": tt.records}, errs: map[string]error{"x.test": tt.err}}
				c := dnscache.New(z, 0, 0)
				for range 3 {
					got, err := c.LookupTXT(t.Context(), "x.test")
					if fmt.Sprint(got) != fmt.Sprint(tt.records) || !errors.Is(err, tt.err) {
						t.Errorf("%q, %v", got, err)
					}
					if len(got) > 0 {
						got[0] = "changed by the caller"
					}
				}
				if z.asked != tt.asked {
					t.Errorf("asked %d times, want %d", z.asked, tt.asked)
				}
				time.Sleep(31 * time.Second)
				if _, _ = c.LookupTXT(t.Context(), "x.test"); z.asked != tt.asked+1 {
					t.Error("an old answer was given")
				}
			})
		})
	}
}

func TestKindsAreApart(t *testing.T) {
	z := &zone{records: map[string][]string{"x": {"text"}}}
	c := dnscache.New(z, 0, 0)
	for range 2 {
		txt, _ := c.LookupTXT(t.Context(), "x")
		mx, _ := c.LookupMX(t.Context(), "x")
		ip, _ := c.LookupIPAddr(t.Context(), "x")
		ptr, _ := c.LookupAddr(t.Context(), "x")
		if txt[0] != "text" || mx[0].Host != "mx." || !ip[0].IP.Equal(net.IPv4(192, 0, 2, 1)) || ptr[0] != "a." {
			t.Error(txt, mx, ip, ptr)
		}
	}
	if z.asked != 4 {
		t.Errorf("asked %d times", z.asked)
	}
}

// TestBounded: however many names a stranger makes us ask for, two generations
// are held, and the latest answers are among them.
func TestBounded(t *testing.T) {
	z := &zone{}
	c := dnscache.New(z, time.Hour, 10)
	for i := range 1000 {
		_, _ = c.LookupTXT(t.Context(), fmt.Sprint(i))
	}
	z.asked = 0
	for i := 990; i < 1000; i++ {
		_, _ = c.LookupTXT(t.Context(), fmt.Sprint(i))
	}
	if z.asked != 0 {
		t.Errorf("%d of the last ten were forgotten", z.asked)
	}
	if _, _ = c.LookupTXT(t.Context(), "5"); z.asked != 1 {
		t.Error("an answer of long ago is still held")
	}
}
