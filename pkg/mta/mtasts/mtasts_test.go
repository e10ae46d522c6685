package mtasts_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/mtasts"
)

const enforce = "version: STSv1\r\nmode: enforce\r\nmx: mx.far.test\r\nmx: *.mail.far.test\r\nmax_age: 604800\r\n"

// far is a domain with its DNS and its web server.
type far struct {
	txt     []string
	dnsErr  error
	policy  string
	kind    string
	status  int
	fetched atomic.Int32
	now     time.Time
	dir     string
	web     *httptest.Server
}

func newFar(t *testing.T) *far {
	f := &far{txt: []string{"v=STSv1; id=1;"}, policy: enforce, kind: "text/plain", status: 200, now: time.Unix(1_800_000_000, 0), dir: t.TempDir()}
	f.web = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.fetched.Add(1)
		if r.Host != "mta-sts.example.com" || r.URL.Path != "/.well-known/mta-sts.txt" {
			t.Errorf("asked for %s%s", r.Host, r.URL.Path)
		}
		w.Header().Set("Content-Type", f.kind)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(f.status)
		_, _ = w.Write([]byte(f.policy))
	}))
	t.Cleanup(f.web.Close)
	return f
}

func (f *far) LookupTXT(_ context.Context, name string) ([]string, error) {
	if name != "_mta-sts.example.com" {
		return nil, &net.DNSError{IsNotFound: true}
	}
	return f.txt, f.dnsErr
}

// open is a start of the process. The certificate of httptest is for
// example.com and what is below it.
func (f *far) open(t *testing.T) *mtasts.Policies {
	t.Helper()
	client := f.web.Client()
	transport := client.Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, f.web.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	p, err := mtasts.Open(mtasts.Options{Dir: f.dir, Resolver: f, Client: &http.Client{Transport: transport},
		Now: func() time.Time { return f.now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// answer is "protected", "free" or "no" for one host.
func answer(t *testing.T, p *mtasts.Policies, host string) string {
	t.Helper()
	switch protection, err := p.Protect(t.Context(), "example.com", host); {
	case err != nil && mail.IsPermanent(err):
		t.Fatal(err)
	case err != nil:
		return "no"
	case protection != nil:
		return "protected"
	}
	return "free"
}

func TestProtect(t *testing.T) {
	policy := func(mode string) func(*far) {
		return func(f *far) { f.policy = strings.Replace(enforce, "enforce", mode, 1) }
	}
	tests := []struct {
		name   string
		change func(*far)
		host   string
		want   string
	}{
		{"a host of the policy", func(*far) {}, "mx.far.test", "protected"},
		{"a host by wildcard", func(*far) {}, "a.mail.far.test", "protected"},
		{"a wildcard is one label", func(*far) {}, "a.b.mail.far.test", "no"},
		{"a wildcard is a label", func(*far) {}, "mail.far.test", "no"},
		{"another host", func(*far) {}, "evil.test", "no"},
		{"only tested", policy("testing"), "evil.test", "free"},
		{"taken back", policy("none"), "evil.test", "free"},
		{"no announcement", func(f *far) { f.txt = []string{"v=spf1 -all"} }, "evil.test", "free"},
		{"two announcements", func(f *far) { f.txt = []string{"v=STSv1; id=1", "v=STSv1; id=2"} }, "evil.test", "free"},
		{"DNS gives no answer", func(f *far) { f.dnsErr = errors.New("timeout") }, "evil.test", "free"},
		{"malformed", func(f *far) { f.policy = "version: STSv1\nmode: enforce\n" }, "evil.test", "free"},
		{"endless", func(f *far) { f.policy = enforce + strings.Repeat("x: y\n", 20_000) }, "evil.test", "free"},
		{"no text", func(f *far) { f.kind = "text/html" }, "evil.test", "free"},
		{"redirected", func(f *far) { f.status = 302 }, "evil.test", "free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			tt.change(f)
			if got := answer(t, f.open(t), tt.host); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if tt.want != "free" && f.fetched.Load() != 1 {
				t.Errorf("fetched %d times", f.fetched.Load())
			}
		})
	}
}

// TestA4NoDowngrade is row A4: who hides the announcement, or the policy, gains
// nothing until the policy has expired, not even by a restart of ours.
func TestA4NoDowngrade(t *testing.T) {
	f := newFar(t)
	if got := answer(t, f.open(t), "evil.test"); got != "no" {
		t.Fatal(got)
	}
	hide := map[string]func(){
		"announcement gone":   func() { f.txt, f.dnsErr = nil, &net.DNSError{IsNotFound: true} },
		"DNS blocked":         func() { f.txt, f.dnsErr = nil, errors.New("timeout") },
		"web server blocked":  func() { f.txt, f.dnsErr, f.status = []string{"v=STSv1; id=2"}, nil, 503 },
		"policy made useless": func() { f.txt, f.dnsErr, f.status, f.policy = []string{"v=STSv1; id=3"}, nil, 200, "nothing" },
	}
	for name, change := range hide {
		change()
		f.now = f.now.Add(2 * time.Hour)
		if got := answer(t, f.open(t), "evil.test"); got != "no" {
			t.Errorf("%s: %s", name, got)
		}
	}
	f.txt, f.dnsErr = nil, &net.DNSError{IsNotFound: true}
	f.now = f.now.Add(8 * 24 * time.Hour)
	if got := answer(t, f.open(t), "evil.test"); got != "free" {
		t.Errorf("expired: %s", got)
	}
}

func TestNewPolicyIsTaken(t *testing.T) {
	f := newFar(t)
	p := f.open(t)
	if got := answer(t, p, "new.far.test"); got != "no" {
		t.Fatal(got)
	}
	f.txt, f.policy = []string{"v=STSv1; id=2"}, strings.Replace(enforce, "mx.far", "new.far", 1)
	if got := answer(t, p, "new.far.test"); got != "no" {
		t.Errorf("asked again at once: %s", got)
	}
	f.now = f.now.Add(2 * time.Hour)
	if got := answer(t, p, "new.far.test"); got != "protected" {
		t.Errorf("later: %s", got)
	}
	if f.fetched.Load() != 2 {
		t.Errorf("fetched %d times", f.fetched.Load())
	}
}

func TestManyAskOnce(t *testing.T) {
	f := newFar(t)
	p := f.open(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := answer(t, p, "mx.far.test"); got != "protected" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	if f.fetched.Load() != 1 {
		t.Errorf("fetched %d times", f.fetched.Load())
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(enforce)
	f.Add("version: STSv1\nmode: none\nmax_age: 99999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := mtasts.ParsePolicy(text)
		if err == nil && (p.MaxAge <= 0 || p.MaxAge > 366*24*time.Hour || p.Mode == "") {
			t.Errorf("%+v", p)
		}
		p.Allows("a.b")
	})
}
