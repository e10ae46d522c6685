package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailsrv/pkg/directory"
)

// people is a directory of one user that counts what it is asked.
type people struct {
	directory.Directory
	verified, asked int
	down            bool
	status          directory.Status
	replay          bool
}

func (p *people) User(_ context.Context, login string) (directory.User, error) {
	p.asked++
	if login != "alice" {
		return directory.User{}, directory.ErrNotFound
	}
	return directory.User{UID: "alice", Domain: "x", Status: p.status, Replay: directory.Replay{Password: p.replay}}, nil
}

func (p *people) Verify(ctx context.Context, login, password string) (directory.User, error) {
	p.verified++
	if p.down {
		return directory.User{}, directory.ErrUnavailable
	}
	u, err := p.User(ctx, login)
	if err != nil || password != "secret" {
		return directory.User{}, directory.ErrBadCredentials
	}
	return u, nil
}

func client(addr string, tls bool) Client {
	return Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 1), TLS: tls, Service: directory.ServiceIMAP}
}

func TestPlain(t *testing.T) {
	proxies := []Proxy{{Name: "mmp", Secret: "proxy", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
	for name, c := range map[string]struct {
		response, from string
		want           error
		proxy          string
	}{
		"password":            {"\x00alice\x00secret", "192.0.2.1", nil, ""},
		"own authzid":         {"alice\x00alice\x00secret", "192.0.2.1", nil, ""},
		"wrong":               {"\x00alice\x00Secret", "192.0.2.1", ErrBadCredentials, ""},
		"unknown":             {"\x00bob\x00secret", "192.0.2.1", ErrBadCredentials, ""},
		"foreign authzid":     {"bob\x00alice\x00secret", "192.0.2.1", ErrBadCredentials, ""},
		"proxy":               {"alice\x00mmp\x00proxy", "192.0.2.1", nil, "mmp"},
		"proxy wrong secret":  {"alice\x00mmp\x00Proxy", "192.0.2.1", ErrBadCredentials, ""},
		"proxy wrong network": {"alice\x00mmp\x00proxy", "198.51.100.1", ErrBadCredentials, ""},
		"proxy unknown user":  {"bob\x00mmp\x00proxy", "192.0.2.1", ErrBadCredentials, ""},
		"proxy as itself":     {"\x00mmp\x00proxy", "192.0.2.1", ErrBadCredentials, ""},
		"two parts":           {"alice\x00secret", "192.0.2.1", ErrMalformed, ""},
		"four parts":          {"\x00alice\x00secret\x00", "192.0.2.1", ErrMalformed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(Options{Directory: &people{status: directory.Active}, Proxies: proxies})
			x, err := l.Start("PLAIN", client(c.from, true))
			if err != nil {
				t.Fatal(err)
			}
			_, done, err := x.Next(t.Context(), []byte(c.response))
			if !errors.Is(err, c.want) || done != (c.want == nil) || x.Identity().Proxy != c.proxy {
				t.Errorf("done %v, %v, %+v", done, err, x.Identity())
			}
		})
	}
}

func TestNoPasswordInTheClear(t *testing.T) {
	p := &people{status: directory.Active}
	l := New(Options{Directory: p})
	if _, err := l.Start("PLAIN", client("192.0.2.1", false)); !errors.Is(err, ErrMechanism) {
		t.Error(err)
	}
	if _, err := l.Login(t.Context(), client("192.0.2.1", false), "alice", "secret"); !errors.Is(err, ErrMechanism) || p.verified > 0 {
		t.Error(err, p.verified)
	}
	if _, err := l.Login(t.Context(), client("127.0.0.1", false), "alice", "secret"); err != nil {
		t.Error(err)
	}
	if p.verified != 1 || p.asked != 1 {
		t.Errorf("%d verifications, %d questions; want one of each", p.verified, p.asked)
	}
}

func TestStatusAfterPassword(t *testing.T) {
	l := New(Options{Directory: &people{status: directory.Inactive}})
	if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "wrong"); !errors.Is(err, ErrBadCredentials) {
		t.Error(err)
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &people{status: directory.Active}
		l := New(Options{Directory: p})
		p.down = true
		for range 50 { // an outage is nobody's failure
			if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
		}
		p.down = false
		for range perMinute {
			if _, err := l.Login(t.Context(), client("2001:db8::1", true), time.Now().String(), "x"); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		if _, err := l.Login(t.Context(), client("2001:db8::2", true), "alice", "secret"); !errors.Is(err, ErrThrottled) {
			t.Error("the same /64 goes on guessing:", err)
		}
		if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); err != nil {
			t.Error("another source pays for it:", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := l.Login(t.Context(), client("2001:db8::2", true), "alice", "secret"); err != nil {
			t.Error("it is never forgiven:", err)
		}
		for i := range 5 {
			l.Login(t.Context(), client("192.0.2."+string(rune('1'+i)), true), "alice", "x")
		}
		start := time.Now()
		l.Login(t.Context(), client("192.0.2.78", true), "alice", "x")
		if d := time.Since(start); d != 4*firstDelay {
			t.Errorf("a guess at a guessed account is answered after %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		if _, err := l.Login(ctx, client("192.0.2.79", true), "alice", "x"); !errors.Is(err, ErrBadCredentials) || time.Since(start) > 0 {
			t.Errorf("a drained login waits %v, %v", time.Since(start), err)
		}
		if _, err := l.Login(t.Context(), client("192.0.2.77", true), "alice", "secret"); err != nil || time.Since(start) > 0 {
			t.Errorf("the right password waits %v for what others did, %v", time.Since(start), err)
		}
	})
}

func TestThrottleDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Directory: &people{status: directory.Active}})
		for range perDay {
			if _, err := l.Login(t.Context(), client("192.0.2.1", true), time.Now().String(), "x"); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Hour)
		if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); !errors.Is(err, ErrThrottled) {
			t.Error("the day's failures are forgotten:", err)
		}
		time.Sleep(24 * time.Hour)
		if _, err := l.Login(t.Context(), client("192.0.2.1", true), "alice", "secret"); err != nil {
			t.Error("it is never forgiven:", err)
		}
	})
}

func TestProxyIsNeverThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxies := []Proxy{{Name: "mmp", Secret: "proxy", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
		l := New(Options{Directory: &people{status: directory.Active}, Proxies: proxies})
		plain := func(c Client, response string) error {
			x, err := l.Start("PLAIN", c)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = x.Next(t.Context(), []byte(response))
			return err
		}
		for range 2 * perMinute { // a stranger guesses the proxy's name, and users fail through the proxy
			_ = plain(client("198.51.100.1", true), "alice\x00mmp\x00x")
			if err := plain(client("192.0.2.1", true), "\x00alice\x00x"); !errors.Is(err, ErrBadCredentials) {
				t.Fatal(err)
			}
		}
		start := time.Now()
		if err := plain(client("192.0.2.1", true), "alice\x00mmp\x00proxy"); err != nil || time.Since(start) > 0 {
			t.Errorf("the proxy waits %v, %v", time.Since(start), err)
		}
		c := client("198.51.100.1", true) // the guesser logs in by the proxy, named by a PROXY header
		c.Peer = netip.MustParseAddrPort("192.0.2.1:1")
		if err := plain(c, "alice\x00mmp\x00proxy"); err != nil {
			t.Error(err)
		}
	})
}

func TestThrottleMemory(t *testing.T) {
	now := time.Now()
	f := newFailures[int](perDay)
	for k := range maxTracked + 5 {
		f.add(k, now)
		f.add(-1, now) // still failing: never the one that is forgotten
	}
	if len(f.byKey) != maxTracked || f.order.Len() != maxTracked {
		t.Error(len(f.byKey), f.order.Len())
	}
	if n := f.since(-1, now.Add(-time.Second)); n != perDay {
		t.Errorf("%d failures remembered, want %d", n, perDay)
	}
	if f.since(0, now.Add(-time.Second)) != 0 {
		t.Error("the oldest is still there")
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x00alice\x00secret"))
	f.Add([]byte("a\x00b"))
	l := New(Options{Directory: &people{status: directory.Active}})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := l.Start("PLAIN", client("127.0.0.1", true))
		if err != nil {
			t.Fatal(err)
		}
		if _, done, _ := x.Next(context.Background(), b); done && x.Identity().User.UID != "alice" {
			t.Fatal("somebody else got in")
		}
	})
}

// TestQualifiedLogin: a login may have another separator, or no domain at all.
func TestQualifiedLogin(t *testing.T) {
	mmp := Proxy{Name: "m%p", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	for _, c := range []struct{ separators, domain, login, want string }{
		{"", "", "alice", "alice"},
		{"", "b.test", "alice", "alice@b.test"},
		{"", "b.test", "alice@a.test", "alice@a.test"},
		{"", "b.test", "alice%a.test", "alice%a.test@b.test"},
		{"%+", "b.test", "alice%a.test", "alice@a.test"},
		{"%+", "b.test", "alice+a.test", "alice@a.test"},
		{"%", "", "a%b%c.test", "a%b@c.test"},
		{"%", "", "%a.test", "%a.test"},
		{"%", "", "alice%", "alice%"},
		{"%", "b.test", "m%p", "m%p"},
		{"%", "b.test", "", ""},
	} {
		l := New(Options{Separators: c.separators, Proxies: []Proxy{mmp}})
		from := client("192.0.2.1", true)
		from.Domain = c.domain
		if got := l.qualified(from, c.login); got != c.want {
			t.Errorf("%q with %q at %q: got %q, want %q", c.login, c.separators, c.domain, got, c.want)
		}
	}
}

// TestReplay: a domain whose store verifies passwords is left to it by an MMP
// alone, and what the store refuses counts here.
func TestReplay(t *testing.T) { synctest.Test(t, testReplay) }

func testReplay(t *testing.T) {
	p := &people{status: directory.Active, replay: true}
	from := client("192.0.2.1", true)
	if _, err := New(Options{Directory: p}).Login(t.Context(), from, "alice", "theirs"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("outside an MMP: %v", err)
	}
	l := New(Options{Directory: p, Replay: true})
	verified := p.verified
	id, err := l.Login(t.Context(), from, "alice", "theirs")
	if err != nil || id.Replay != "theirs" || id.Refused == nil || p.verified != verified {
		t.Fatalf("%+v %v", id, err)
	}
	if _, err := l.Login(t.Context(), from, "alice", ""); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("empty password: %v", err)
	}
	if _, err := l.Login(t.Context(), from, "bob", "theirs"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("unknown user: %v", err)
	}
	l.throttle.now = func() time.Time { return time.Unix(0, 0) } // waiting is not the matter here
	for range perMinute {
		id.Refused(t.Context())
	}
	if _, err := l.Login(t.Context(), from, "alice", "theirs"); !errors.Is(err, ErrThrottled) {
		t.Errorf("after %d passwords that the store refused: %v", perMinute, err)
	}
	p.replay = false
	if id, err := New(Options{Directory: p, Replay: true}).Login(t.Context(), from, "alice", "secret"); err != nil || id.Replay != "" || id.Refused != nil {
		t.Errorf("another domain: %+v %v", id, err)
	}
	p.status, p.replay = directory.Disabled, true
	if _, err := New(Options{Directory: p, Replay: true}).Login(t.Context(), from, "alice", "theirs"); !errors.Is(err, ErrRefused) {
		t.Errorf("disabled account: %v", err)
	}
}

// TestProxyShowsItsCertificate: a proxy that needs a certificate is nobody
// without it, and moves accounts at stores alone.
func TestProxyShowsItsCertificate(t *testing.T) {
	mmp := Proxy{Name: "mmp", Secret: "s3cret", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Certificate: "mmp.example.test"}
	shows := func(verified bool, names ...string) *tls.ConnectionState {
		leaf := &x509.Certificate{DNSNames: names}
		s := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
		if verified {
			s.VerifiedChains = [][]*x509.Certificate{{leaf}}
		}
		return s
	}
	for name, c := range map[string]struct {
		session  *tls.ConnectionState
		response string
		store    bool
		want     error
	}{
		"none":                   {nil, "alice\x00mmp\x00s3cret", true, ErrBadCredentials},
		"another's":              {shows(true, "evil.example.test"), "alice\x00mmp\x00s3cret", true, ErrBadCredentials},
		"not verified":           {shows(false, "mmp.example.test"), "alice\x00mmp\x00s3cret", true, ErrBadCredentials},
		"its own":                {shows(true, "MMP.example.test"), "alice\x00mmp\x00s3cret", true, nil},
		"a wrong secret with it": {shows(true, "mmp.example.test"), "alice\x00mmp\x00x", true, ErrBadCredentials},
		"moves accounts":         {shows(true, "mmp.example.test"), CarrierName + "\x00mmp\x00s3cret", true, nil},
		"moves without":          {nil, CarrierName + "\x00mmp\x00s3cret", true, ErrBadCredentials},
		"moves by a wrong word":  {shows(true, "mmp.example.test"), CarrierName + "\x00mmp\x00x", true, ErrBadCredentials},
		"a user moves":           {shows(true, "mmp.example.test"), CarrierName + "\x00alice\x00secret", true, ErrBadCredentials},
		"moves at no store":      {shows(true, "mmp.example.test"), CarrierName + "\x00mmp\x00s3cret", false, ErrBadCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(Options{Directory: &people{status: directory.Active}, Proxies: []Proxy{mmp}, Store: c.store})
			from := client("192.0.2.1", true)
			from.Session = c.session
			x, err := l.Start("PLAIN", from)
			if err != nil {
				t.Fatal(err)
			}
			_, done, err := x.Next(t.Context(), []byte(c.response))
			if !errors.Is(err, c.want) || done != (c.want == nil) {
				t.Errorf("done %v, %v", done, err)
			}
			if id := x.Identity(); done && id.Carrier != strings.HasPrefix(c.response, CarrierName) {
				t.Errorf("%+v", id)
			}
			if list := l.Mechanisms(from); c.store && slices.Contains(list, "EXTERNAL") {
				t.Errorf("a store offers %q", list)
			}
		})
	}
}
