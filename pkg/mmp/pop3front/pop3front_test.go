package pop3front

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/peertest"
)

// world is a directory and a store that note what was asked of them, in order.
type world struct {
	directory.Directory
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

func (w *world) Verify(_ context.Context, login, password string) (directory.User, error) {
	w.note("verify %s %s", login, password)
	switch {
	case login == "outage":
		return directory.User{}, directory.ErrUnavailable
	case login == "panic":
		panic("test")
	case login == "disabled":
		return directory.User{UID: login, Status: directory.Disabled}, nil
	case (login == "alice" || login == "al ice") && (password == "secret" || password == " a  b "):
		return directory.User{UID: login, Domain: "example.test", Status: directory.Active}, nil
	}
	return directory.User{}, directory.ErrBadCredentials
}

func (w *world) Route(_ context.Context, u directory.User) (mmp.Backend, string, error) {
	w.note("route %s", u.Account())
	return w, "store", nil
}

// Attach answers +OK to everything, until QUIT.
func (w *world) Attach(_ context.Context, h *mmp.Handover) error {
	w.note("attach %s %s tls=%v utf8=%v", h.Identity.User.Account(), h.Client.Service, h.Client.TLS, h.UTF8)
	w.mu.Lock()
	refuse := w.refuse
	w.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	defer h.Conn.Close()
	_, _ = io.WriteString(h.Conn, "+OK logged in\r\n")
	lines := bufio.NewScanner(io.MultiReader(strings.NewReader(string(h.ReadAhead)), h.Conn))
	for lines.Scan() && lines.Text() != "QUIT" {
		_, _ = fmt.Fprintf(h.Conn, "+OK store did %s\r\n", lines.Text())
	}
	_, _ = io.WriteString(h.Conn, "+OK store says bye\r\n")
	return nil
}

// remote makes a loopback client look like one from elsewhere.
type remote struct{ net.Conn }

func (remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000} }

// start serves until the test ends, and proves that every connection has ended
// by then.
func start(t *testing.T, o mmp.FrontOptions, w *world, wrap func(net.Conn) net.Conn) string {
	t.Helper()
	o.Router, o.Hostname = w, "mail.example.test"
	o.Authenticator = auth.New(auth.Options{Directory: w})
	front := New(Options{FrontOptions: o, Capabilities: func() []string { return []string{"TOP", "UIDL", "UTF8 USER"} }})
	ln, err := listen.Open(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- listen.Serve(ctx, ln, listen.Options{}, func(ctx context.Context, c net.Conn) { front.ServeConn(ctx, wrap(c)) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

func near(c net.Conn) net.Conn { return c }
func far(c net.Conn) net.Conn  { return remote{c} }

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

// dialogue runs lines of "C: ..." (bytes as they are) and "S: prefix"; "S: EOF"
// is the end.
func (c *client) dialogue(lines ...string) {
	c.t.Helper()
	for _, line := range lines {
		if s, ok := strings.CutPrefix(line, "C: "); ok {
			if _, err := io.WriteString(c.Conn, s); err != nil {
				c.t.Fatal(err)
			}
			continue
		}
		want := strings.TrimPrefix(line, "S: ")
		got, err := c.r.ReadString('\n')
		if want == "EOF" && err == nil || want != "EOF" && (err != nil || !strings.HasPrefix(got, want)) {
			c.t.Fatalf("got %q %v, want %q", got, err, want)
		}
	}
}

func (c *client) tls() {
	c.Conn = tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	c.r = bufio.NewReader(c.Conn)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	cert, key, err := listen.SelfSigned(t.TempDir(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	c, err := listen.LoadCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return c.Config("pop3")
}

func TestLoginForms(t *testing.T) {
	const attached = "S: +OK logged in"
	plain := b64("\x00alice\x00secret")
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"USER and PASS", []string{"C: USER alice\r\n", "S: +OK", "C: PASS secret\r\n", attached}, "verify alice secret"},
		{"lower case", []string{"C: user alice\r\n", "S: +OK", "C: pass secret\r\n", attached}, "verify alice secret"},
		{"spaces", []string{"C: USER al ice\r\n", "S: +OK", "C: PASS  a  b \r\n", attached}, "verify al ice  a  b "},
		{"pipelined", []string{"C: USER alice\r\nPASS secret\r\nSTAT\r\n", "S: +OK", attached, "S: +OK store did STAT"}, "verify alice secret"},
		{"AUTH in two steps", []string{"C: AUTH PLAIN\r\n", "S: + \r\n", "C: " + plain + "\r\n", attached}, "verify alice secret"},
		{"AUTH with initial response", []string{"C: AUTH PLAIN " + plain + "\r\n", attached}, "verify alice secret"},
		{"AUTH LOGIN", []string{"C: auth login\r\n", "S: + " + b64("Username:"), "C: " + b64("alice") + "\r\n", "S: + " + b64("Password:"), "C: " + b64("secret") + "\r\n", attached}, "verify alice secret"},
		{"byte by byte", []string{"C: US", "C: ER alice\r", "C: \nPA", "S: +OK", "C: SS secret\r\n", attached}, "verify alice secret"},
		{"after a cancelled exchange", []string{"C: AUTH PLAIN\r\n", "S: + ", "C: *\r\n", "S: -ERR", "C: AUTH PLAIN " + plain + "\r\n", attached}, "verify alice secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{}
			conn := dial(t, start(t, mmp.FrontOptions{}, w, near))
			conn.dialogue("S: +OK [XCLIENT] mail.example.test ready\r\n")
			conn.dialogue(c.lines...)
			conn.dialogue("C: QUIT\r\n", "S: +OK store says bye", "S: EOF")
			account := strings.Fields(c.want)[1]
			if account == "al" {
				account = "al ice"
			}
			want := []string{c.want, "route " + account + "@example.test", "attach " + account + "@example.test pop tls=false utf8=false"}
			if diff := cmp.Diff(want, w.noted()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	const attached = "S: +OK logged in"
	login := func(user string) string { return "C: AUTH PLAIN " + b64("\x00"+user+"\x00x") + "\r\n" }
	for _, c := range []struct {
		name  string
		lines []string
		want  []string // what the directory and the store saw
	}{
		{"wrong password", []string{"C: USER alice\r\nPASS wrong\r\n", "S: +OK", "S: -ERR [AUTH] wrong login or password\r\n"}, []string{"verify alice wrong"}},
		{"unknown user", []string{"C: USER nobody\r\nPASS x\r\n", "S: +OK", "S: -ERR [AUTH] wrong login or password\r\n"}, []string{"verify nobody x"}},
		{"directory down", []string{login("outage"), "S: -ERR [SYS/TEMP]"}, []string{"verify outage x"}},
		{"account disabled", []string{login("disabled"), "S: -ERR [SYS/PERM]"}, []string{"verify disabled x"}},
		{"unknown mechanism", []string{"C: AUTH NTLM\r\n", "S: -ERR mechanism"}, nil},
		{"no mechanism", []string{"C: AUTH\r\n", "S: -ERR"}, nil},
		{"malformed response", []string{"C: AUTH PLAIN " + b64("x") + "\r\n", "S: -ERR malformed"}, nil},
		{"empty response", []string{"C: AUTH PLAIN =\r\n", "S: -ERR malformed"}, nil},
		{"not base64", []string{"C: AUTH PLAIN\r\n", "S: + ", "C: !!\r\n", "S: -ERR", "C: QUIT\r\n", "S: +OK", "S: EOF"}, nil},
		{"APOP", []string{"C: APOP alice c4c9334bac560ecc979e58001b3e22fb\r\n", "S: -ERR unknown"}, nil},
		{"PASS alone", []string{"C: PASS secret\r\n", "S: -ERR PASS follows USER"}, nil},
		{"PASS too late", []string{"C: USER alice\r\nCAPA\r\n", "S: +OK", "S: +OK", "S: TOP", "S: UIDL", "S: UTF8 USER", "S: PIPELINING", "S: RESP-CODES", "S: AUTH-RESP-CODE", "S: LANG", "S: USER", "S: SASL PLAIN", "S: .\r\n",
			"C: PASS secret\r\n", "S: -ERR PASS"}, nil},
		{"mail before login", []string{"C: STAT\r\n", "S: -ERR unknown"}, nil},
		{"three bad commands", []string{"C: FOO\r\nBAR\r\nSTLS x\r\nUSER alice\r\n", "S: -ERR", "S: -ERR", "S: -ERR", "S: EOF"}, nil},
		{"three failures", []string{strings.Repeat(login("alice"), 1), "S: -ERR [AUTH]", login("alice"), "S: -ERR [AUTH]", login("alice"), "S: -ERR [AUTH]", "S: EOF"},
			[]string{"verify alice x", "verify alice x", "verify alice x"}},
		{"browser", []string{"C: GET / HTTP/1.1\r\nHost: x\r\n\r\n", "S: EOF"}, nil},
		{"bare LF", []string{"C: NOOP\nUSER alice\r\n", "S: -ERR lines end in CRLF", "S: +OK"}, nil},
		{"command in a long line", []string{"C: USER " + strings.Repeat("x", 9000) + "\r\nAUTH PLAIN " + b64("\x00alice\x00secret") + "\r\n", "S: -ERR line too long", attached},
			[]string{"verify alice secret", "route alice@example.test", "attach alice@example.test pop tls=false utf8=false"}},
		{"endless line", []string{"C: " + strings.Repeat("x", 70<<10), "S: -ERR line too long", "S: EOF"}, nil},
		{"panic", []string{login("panic"), "S: -ERR [SYS/TEMP] internal error", "S: EOF"}, []string{"verify panic x"}},
		{"no STLS here", []string{"C: STLS\r\n", "S: -ERR"}, nil},
		{"quit", []string{"C: QUIT\r\n", "S: +OK bye", "S: EOF"}, nil},
		{"languages", []string{"C: LANG\r\n", "S: +OK", "S: i-default ", "S: en English", "S: .\r\n", "C: LANG en-GB\r\n", "S: +OK en ", "C: LANG *\r\n", "S: +OK i-default", "C: LANG tlh\r\n", "S: -ERR"}, nil},
		{"UTF8", []string{"C: UTF8\r\n", "S: +OK", "C: STLS\r\n", "S: -ERR", "C: USER alice\r\nPASS secret\r\n", "S: +OK", attached},
			[]string{"verify alice secret", "route alice@example.test", "attach alice@example.test pop tls=false utf8=true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{}
			conn := dial(t, start(t, mmp.FrontOptions{Failures: 3}, w, near))
			conn.dialogue("S: +OK")
			conn.dialogue(c.lines...)
			if diff := cmp.Diff(c.want, w.noted()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlaintextPasswordIsRefusedUnread(t *testing.T) {
	w := &world{}
	conn := dial(t, start(t, mmp.FrontOptions{TLS: serverTLS(t)}, w, far))
	conn.dialogue("S: +OK", "C: CAPA\r\n", "S: +OK", "S: TOP", "S: UIDL", "S: UTF8 USER", "S: PIPELINING", "S: RESP-CODES", "S: AUTH-RESP-CODE", "S: LANG", "S: STLS", "S: .\r\n",
		"C: USER alice\r\n", "S: -ERR use STLS first", "C: AUTH PLAIN\r\n", "S: -ERR use STLS first")
	if got := w.noted(); got != nil {
		t.Errorf("the directory was asked: %v", got)
	}
}

func TestSTLS(t *testing.T) {
	w := &world{}
	conn := dial(t, start(t, mmp.FrontOptions{TLS: serverTLS(t)}, w, far))
	conn.dialogue("S: +OK", "C: STLS\r\n", "S: +OK")
	conn.tls()
	conn.dialogue("C: STLS\r\n", "S: -ERR", "C: USER alice\r\nPASS secret\r\nQUIT\r\n", "S: +OK", "S: +OK logged in", "S: +OK store says bye", "S: EOF")
	want := []string{"verify alice secret", "route alice@example.test", "attach alice@example.test pop tls=true utf8=false"}
	if diff := cmp.Diff(want, w.noted()); diff != "" {
		t.Error(diff)
	}
}

// TestSTLSInjection: what is sent in plain text behind STLS never counts, and a
// failed handshake ends the connection (hardening row S3, the EAST cases).
func TestSTLSInjection(t *testing.T) {
	for _, behind := range []string{"CAPA\r\n", "USER alice\r\n", "QUIT\r\n", "x", "\r\n", "USER alice\r\nPASS secret\r\n"} {
		w := &world{}
		conn := dial(t, start(t, mmp.FrontOptions{TLS: serverTLS(t)}, w, far))
		conn.dialogue("S: +OK", "C: STLS\r\n"+behind, "S: -ERR plaintext after STLS", "S: EOF")
	}
	w := &world{}
	conn := dial(t, start(t, mmp.FrontOptions{TLS: serverTLS(t)}, w, far))
	conn.dialogue("S: +OK", "C: USER alice\r\n", "S: -ERR", "C: STLS\r\n", "S: +OK", "C: USER alice\r\nPASS secret\r\n")
	rest, _ := io.ReadAll(conn.r)
	if strings.Contains(string(rest), "+OK") || strings.Contains(string(rest), "-ERR") || w.noted() != nil {
		t.Errorf("went on in plain text: %q, %v", rest, w.noted())
	}
}

// TestImplicitTLS: TLS from the first byte is another service, and a client of another protocol is refused before it can speak
// (hardening row W1).
func TestImplicitTLS(t *testing.T) {
	config := serverTLS(t)
	w := &world{}
	addr := start(t, mmp.FrontOptions{TLS: config}, w, func(c net.Conn) net.Conn { return tls.Server(remote{c}, config) })
	conn := dial(t, addr)
	conn.tls()
	conn.dialogue("S: +OK", "C: AUTH PLAIN "+b64("\x00alice\x00secret")+"\r\n", "S: +OK logged in", "C: QUIT\r\n", "S: +OK")
	if got := w.noted(); len(got) != 3 || got[2] != "attach alice@example.test pops tls=true utf8=false" {
		t.Errorf("noted %v", got)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}); err == nil {
		c.Close()
		t.Error("a browser was let in")
	}
}

func TestStoreRefuses(t *testing.T) {
	for want, refuse := range map[string]error{
		"S: -ERR [SYS/TEMP] later\r\n":   &mmp.RefusedError{Unavailable: true, Text: "later"},
		"S: -ERR [SYS/PERM] never\r\n":   &mmp.RefusedError{Text: "never"},
		"S: -ERR [LOGIN-DELAY] wait\r\n": &mmp.RefusedError{Unavailable: true, Code: "LOGIN-DELAY", Text: "wait"},
	} {
		w := &world{refuse: refuse}
		conn := dial(t, start(t, mmp.FrontOptions{}, w, near))
		conn.dialogue("S: +OK", "C: USER alice\r\nPASS secret\r\nNOPE\r\n", "S: +OK", want, "S: -ERR unknown")
		w.mu.Lock()
		w.refuse = nil
		w.mu.Unlock()
		conn.dialogue("C: USER alice\r\nPASS secret\r\n", "S: +OK", "S: +OK logged in")
	}
}

func TestLoginTakesTooLong(t *testing.T) {
	conn := dial(t, start(t, mmp.FrontOptions{PreLogin: 50 * time.Millisecond}, &world{}, near))
	conn.dialogue("S: +OK", "S: -ERR login took too long", "S: EOF")
}

// TestForeignClients logs in with curl and Python's poplib.
func TestForeignClients(t *testing.T) {
	addr := start(t, mmp.FrontOptions{TLS: serverTLS(t)}, &world{}, far)
	host, port, _ := net.SplitHostPort(addr)
	for name, args := range map[string][]string{
		"curl":    {"-sS", "-k", "--ssl-reqd", "-m", "10", "--user", "alice:secret", "-X", "NOOP", "--head", "pop3://" + addr},
		"python3": {"-c", fmt.Sprintf("import poplib,ssl\np=poplib.POP3(%q,%s,timeout=10)\np.stls(ssl._create_unverified_context())\np.user('alice')\nprint(p.pass_('secret'),p.noop(),p.quit())", host, port)},
	} {
		t.Run(name, func(t *testing.T) {
			peertest.Client(t, "", peertest.Program(t, name, name), args...)
		})
	}
}
