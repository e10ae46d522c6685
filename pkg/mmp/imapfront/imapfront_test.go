package imapfront

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/peertest"
)

func options(o mmp.FrontOptions) Options { return Options{FrontOptions: o} }

// world is a directory and a store that note what was asked of them, in order.
type world struct {
	mu     sync.Mutex
	events []string
	refuse error // what Attach returns
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

func (w *world) noted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.events...)
}

func (w *world) Login(_ context.Context, _ auth.Client, login, password string) (auth.Identity, error) {
	w.note("verify %s %s", login, password)
	switch {
	case login == "outage":
		return auth.Identity{}, fmt.Errorf("asking: %w", auth.ErrUnavailable)
	case login == "throttled":
		return auth.Identity{}, auth.ErrThrottled
	case login == "disabled":
		return auth.Identity{}, auth.ErrRefused
	case login == "panic":
		panic("test")
	case login == "alice" && password == `se"cret\ {9}`, login == "alice" && password == "secret":
		return auth.Identity{User: directory.User{UID: login, Domain: "example.test"}, Login: login, Mechanism: "LOGIN"}, nil
	}
	return auth.Identity{}, auth.ErrBadCredentials
}

func (w *world) Mechanisms(c auth.Client) []string {
	if !c.Private() {
		return nil
	}
	return []string{"PLAIN"}
}

func (w *world) Start(mechanism string, c auth.Client) (auth.Exchange, error) {
	if mechanism != "PLAIN" {
		return nil, auth.ErrMechanism
	}
	return &plain{w: w, c: c}, nil
}

type plain struct {
	w  *world
	c  auth.Client
	id auth.Identity
}

func (p *plain) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return nil, false, nil
	}
	parts := strings.Split(string(response), "\x00")
	if len(parts) != 3 {
		return nil, false, auth.ErrMalformed
	}
	id, err := p.w.Login(ctx, p.c, parts[1], parts[2])
	p.id = id
	return nil, err == nil, err
}

func (p *plain) Identity() auth.Identity { return p.id }

func (w *world) Route(_ context.Context, u directory.User) (mmp.Backend, string, error) {
	w.note("route %s", u.Account())
	return w, "store", nil
}

// Attach says OK, then what was read ahead, and closes when the client does.
func (w *world) Attach(_ context.Context, h *mmp.Handover) error {
	w.note("attach %s tls=%v", h.Identity.User.Account(), h.Client.TLS)
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	defer h.Conn.Close()
	_, _ = fmt.Fprintf(h.Conn, "%s OK Logged in\r\n", h.Tag)
	lines := bufio.NewReader(io.MultiReader(strings.NewReader(string(h.ReadAhead)), h.Conn))
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil
		}
		tag, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, _ = fmt.Fprintf(h.Conn, "%s OK store did %s\r\n", tag, rest)
		if strings.EqualFold(rest, "LOGOUT") {
			return nil
		}
	}
}

// remoteConn makes a loopback client look like one from elsewhere.
type remoteConn struct{ net.Conn }

func (remoteConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000} }

// start serves on a loopback listener until the test ends, and proves that
// every connection has ended by then.
func start(t testing.TB, o Options, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { front.ServeConn(ctx, wrap(conn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		wg.Wait()
	})
	return l.Addr().String()
}

func bare(c net.Conn) net.Conn   { return c }
func remote(c net.Conn) net.Conn { return remoteConn{c} }

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// client sends bytes and compares lines.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t, conn, bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads one line that begins with prefix; "EOF" is the end.
func (c *client) expect(prefix string) {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if prefix == "EOF" {
		if err == nil {
			c.t.Fatalf("got %q, want the end", line)
		}
		return
	}
	if err != nil || !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("got %q %v, want %q", line, err, prefix)
	}
}

// dialogue runs lines of "C: ..." (bytes in Go escapes, as they are), and "S: prefix".
func (c *client) dialogue(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if s, ok := strings.CutPrefix(line, "C: "); ok {
			c.send(s)
		} else {
			c.expect(strings.TrimPrefix(line, "S: "))
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestLoginForms(t *testing.T) {
	const odd = `se"cret\ {9}`
	attached := "S: a OK Logged in"
	for _, c := range []struct {
		name     string
		password string
		lines    []string
	}{
		{"atoms", "secret", []string{"C: a LOGIN alice secret\r\n", attached}},
		{"lower case command", "secret", []string{"C: a login alice secret\r\n", attached}},
		{"quoted", odd, []string{`C: a LOGIN "alice" "se\"cret\\ {9}"` + "\r\n", attached}},
		{"literals", odd, []string{"C: a LOGIN {5}\r\n", "S: + ", "C: alice {12}\r\n", "S: + ", "C: " + odd + "\r\n", attached}},
		{"non-synchronising literals", odd, []string{"C: a LOGIN {5+}\r\nalice {12+}\r\n" + odd + "\r\n", attached}},
		{"quoted then literal+", odd, []string{"C: a LOGIN \"alice\" {12+}\r\n" + odd + "\r\n", attached}},
		{"atom then literal", odd, []string{"C: a LOGIN alice {12}\r\n", "S: + ", "C: " + odd + "\r\n", attached}},
		{"AUTHENTICATE in two steps", odd, []string{"C: a AUTHENTICATE PLAIN\r\n", "S: + \r\n", "C: " + b64("\x00alice\x00"+odd) + "\r\n", attached}},
		{"AUTHENTICATE with initial response", odd, []string{"C: a AUTHENTICATE PLAIN " + b64("\x00alice\x00"+odd) + "\r\n", attached}},
		{"mechanism in lower case", "secret", []string{"C: a authenticate plain " + b64("\x00alice\x00secret") + "\r\n", attached}},
		{"pipelined with the next command", "secret", []string{"C: a LOGIN alice secret\r\nb NOOP\r\n", attached, "S: b OK store did NOOP"}},
		{"byte by byte", "secret", []string{"C: a LOG", "C: IN al", "C: ice {6", "C: +}\r", "C: \nsec", "C: ret\r", "C: \n", attached}},
		{"after a cancelled exchange", "secret", []string{"C: x AUTHENTICATE PLAIN\r\n", "S: + ", "C: *\r\n", "S: x BAD", "C: a LOGIN alice secret\r\n", attached}},
		{"after ID and CAPABILITY", "secret", []string{"C: 1 ID (\"name\" \"x\" \"version\" NIL)\r\n2 CAPABILITY\r\n3 NOOP\r\n4 ID NIL\r\n",
			"S: * ID (", "S: 1 OK", "S: * CAPABILITY IMAP4rev1", "S: 2 OK", "S: 3 OK", "S: * ID (", "S: 4 OK", "C: a LOGIN alice secret\r\n", attached}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{}
			conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w}), bare))
			conn.expect("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN]")
			conn.dialogue(c.lines...)
			conn.dialogue("C: z LOGOUT\r\n", "S: z OK store did LOGOUT", "S: EOF")
			want := []string{"verify alice " + c.password, "route alice@example.test", "attach alice@example.test tls=false"}
			if diff := cmp.Diff(want, w.noted()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // what the directory and the store saw
	}{
		{"wrong password", []string{"C: a LOGIN alice wrong\r\n", "S: a NO [AUTHENTICATIONFAILED] Wrong login or password\r\n"}, []string{"verify alice wrong"}},
		{"unknown user", []string{"C: a LOGIN nobody x\r\n", "S: a NO [AUTHENTICATIONFAILED] Wrong login or password\r\n"}, []string{"verify nobody x"}},
		{"directory down", []string{"C: a LOGIN outage x\r\n", "S: a NO [UNAVAILABLE]"}, []string{"verify outage x"}},
		{"throttled", []string{"C: a LOGIN throttled x\r\n", "S: a NO [LIMIT]"}, []string{"verify throttled x"}},
		{"account disabled", []string{"C: a LOGIN disabled x\r\n", "S: a NO [AUTHORIZATIONFAILED]"}, []string{"verify disabled x"}},
		{"wrong by AUTHENTICATE", []string{"C: a AUTHENTICATE PLAIN " + b64("\x00alice\x00no") + "\r\n", "S: a NO [AUTHENTICATIONFAILED]"}, []string{"verify alice no"}},
		{"unknown mechanism", []string{"C: a AUTHENTICATE NTLM\r\n", "S: a NO [CANNOT]"}, nil},
		{"malformed response", []string{"C: a AUTHENTICATE PLAIN " + b64("x") + "\r\n", "S: a BAD"}, nil},
		{"empty response", []string{"C: a AUTHENTICATE PLAIN =\r\n", "S: a BAD"}, nil},
		{"not base64", []string{"C: a AUTHENTICATE PLAIN\r\n", "S: + ", "C: !!\r\n", "S: a BAD", "C: b NOOP\r\n", "S: b OK"}, nil},
		{"three bad commands", []string{"C: a FOO\r\n", "S: a BAD", "C: b SELECT INBOX\r\n", "S: b BAD", "C: c LOGIN x\r\n", "S: c BAD", "S: * BYE", "S: EOF"}, nil},
		{"three failures", []string{"C: a LOGIN alice 1\r\nb LOGIN alice 2\r\nc LOGIN alice 3\r\nd LOGIN alice secret\r\n", "S: a NO", "S: b NO", "S: c NO", "S: * BYE", "S: EOF"},
			[]string{"verify alice 1", "verify alice 2", "verify alice 3"}},
		{"browser", []string{"C: GET / HTTP/1.1\r\nHost: x\r\n\r\n", "S: EOF"}, nil},
		{"literal too large", []string{"C: a LOGIN {2000000000}\r\n", "S: a BAD [TOOBIG]", "C: b NOOP\r\n", "S: b OK"}, nil},
		{"commands in a refused literal", []string{"C: a LOGIN {5000+}\r\n" + strings.Repeat("b LOGIN alice secret\r\n", 250)[:5000] + " x\r\nc NOOP\r\n", "S: a BAD [TOOBIG]", "S: c OK"}, nil},
		{"huge literal+", []string{"C: a LOGIN {2000000000+}\r\n", "S: * BYE", "S: EOF"}, nil},
		{"nested list", []string{"C: a ID ((\"x\" \"y\"))\r\n", "S: a BAD"}, nil},
		{"bare LF", []string{"C: a NOOP\nb LOGIN alice secret\r\n", "S: * BYE", "S: EOF"}, nil},
		{"endless line", []string{"C: " + strings.Repeat("x", 12<<10), "S: * BYE"}, nil},
		{"panic", []string{"C: a LOGIN panic x\r\n", "S: * BYE internal error", "S: EOF"}, []string{"verify panic x"}},
		{"logout", []string{"C: a LOGOUT\r\n", "S: * BYE", "S: a OK", "S: EOF"}, nil},
		{"no STARTTLS here", []string{"C: a STARTTLS\r\n", "S: a BAD"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{}
			conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, Failures: 3}), bare))
			conn.expect("* OK")
			conn.dialogue(c.lines...)
			if diff := cmp.Diff(c.want, w.noted()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlaintextPasswordIsRefusedUnread(t *testing.T) {
	w := &world{}
	conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, TLS: testTLS(t)}), remote))
	conn.dialogue("S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID STARTTLS LOGINDISABLED]",
		"C: a LOGIN alice secret\r\n", "S: a NO [PRIVACYREQUIRED]",
		"C: b AUTHENTICATE PLAIN\r\n", "S: b NO [PRIVACYREQUIRED]")
	if got := w.noted(); got != nil {
		t.Errorf("the directory was asked: %v", got)
	}
}

func TestStartTLS(t *testing.T) {
	w := &world{}
	addr := start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, TLS: testTLS(t)}), remote)
	conn := dial(t, addr)
	conn.dialogue("S: * OK", "C: a STARTTLS\r\n", "S: a OK")
	up := tls.Client(conn.Conn, &tls.Config{InsecureSkipVerify: true}) // the certificate is the test's own
	secure := &client{t, up, bufio.NewReader(up)}
	secure.dialogue("C: b CAPABILITY\r\n", "S: * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN\r\n", "S: b OK",
		"C: c STARTTLS\r\n", "S: c BAD", "C: d LOGIN alice secret\r\n", "S: d OK Logged in")
	if diff := cmp.Diff([]string{"verify alice secret", "route alice@example.test", "attach alice@example.test tls=true"}, w.noted()); diff != "" {
		t.Error(diff)
	}
}

func TestStartTLSInjection(t *testing.T) {
	w := &world{}
	conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, TLS: testTLS(t)}), remote))
	conn.dialogue("S: * OK", "C: a STARTTLS\r\nb NOOP\r\n", "S: * BYE", "S: EOF")

	conn = dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, TLS: testTLS(t)}), remote))
	conn.dialogue("S: * OK", "C: a STARTTLS\r\n", "S: a OK", "C: b NOOP\r\nc NOOP\r\n")
	rest, _ := io.ReadAll(conn.r)
	if strings.Contains(string(rest), "OK") {
		t.Errorf("plain text was served after a failed handshake: %q", rest)
	}
}

func TestRefusedHandoverKeepsTheConnection(t *testing.T) {
	w := &world{refuse: &mmp.RefusedError{Unavailable: true, Text: "try later\r\nx", Err: errors.New("private")}}
	conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w}), bare))
	conn.dialogue("S: * OK", "C: a LOGIN alice secret\r\nb NOOP\r\n", "S: a NO [UNAVAILABLE] try later??x\r\n", "S: b OK NOOP")
	w.mu.Lock()
	w.refuse = &mmp.RefusedError{Text: "not you"}
	w.mu.Unlock()
	conn.dialogue("C: c LOGIN alice secret\r\n", "S: c NO [AUTHORIZATIONFAILED] not you")
	w.mu.Lock()
	w.refuse = nil
	w.mu.Unlock()
	conn.dialogue("C: d LOGIN alice secret\r\n", "S: d OK Logged in", "C: e NOOP\r\n", "S: e OK store did NOOP")
}

func TestSilentClientIsDropped(t *testing.T) {
	w := &world{}
	conn := dial(t, start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, PreLogin: 50 * time.Millisecond}), bare))
	conn.dialogue("S: * OK", "C: a NOO", "S: * BYE login took too long", "S: EOF")
}

func TestDrainSaysBye(t *testing.T) {
	w := &world{}
	ctx, cancel := context.WithCancel(t.Context())
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(options(mmp.FrontOptions{Authenticator: w, Router: w})).ServeConn(ctx, far)
	}()
	conn := &client{t, near, bufio.NewReader(near)}
	conn.expect("* OK")
	cancel()
	conn.dialogue("S: * BYE server is shutting down", "S: EOF")
	<-done
}

func TestForeignClients(t *testing.T) {
	w := &world{}
	addr := start(t, options(mmp.FrontOptions{Authenticator: w, Router: w, TLS: testTLS(t)}), bare)
	_, port, _ := net.SplitHostPort(addr)
	t.Run("imapclient", func(t *testing.T) {
		c, err := imapclient.DialInsecure(addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Login("alice", `se"cret\ {9}`).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := c.Noop().Wait(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("imaplib", func(t *testing.T) {
		python := peertest.Program(t, "python3", "python3")
		script := `import imaplib, ssl, sys
ctx = ssl.create_default_context(); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
m = imaplib.IMAP4("127.0.0.1", int(sys.argv[1])); m.starttls(ctx)
try:
    m.login("alice", "wrong"); sys.exit("wrong password passed")
except imaplib.IMAP4.error as e:
    assert "AUTHENTICATIONFAILED" in str(e), e
print(m.authenticate("PLAIN", lambda _: b"\0alice\0secret"))
`
		if out, err := exec.CommandContext(t.Context(), python, "-c", script, port).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	t.Run("curl", func(t *testing.T) {
		curl := peertest.Program(t, "curl", "curl")
		out, err := exec.CommandContext(t.Context(), curl, "-sS", "-k", "--ssl-reqd", "-u", "alice:secret", "-X", "NOOP", "imap://127.0.0.1:"+port+"/").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
}

// FuzzFront feeds a stranger's bytes to a whole front: it must end, and never
// reach a store without the right password.
func FuzzFront(f *testing.F) {
	for _, s := range []string{
		"a LOGIN alice x\r\n", "a AUTHENTICATE PLAIN\r\n*\r\n", "a AUTHENTICATE PLAIN AAAA\r\n", "a LOGIN {3+}\r\nabc {1}\r\nx\r\n",
		"a ID (\"a\" NIL)\r\nb LOGOUT\r\n", "GET / HTTP/1.0\r\n", "a STARTTLS\r\n\x16\x03\x01",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		w := &world{}
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(options(mmp.FrontOptions{Authenticator: w, Router: w})).ServeConn(t.Context(), remoteConn{far})
		}()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		_, _ = near.Write(in)
		_ = near.Close()
		<-done
		if events := w.noted(); events != nil {
			t.Fatalf("asked in plain text: %v", events)
		}
	})
}
