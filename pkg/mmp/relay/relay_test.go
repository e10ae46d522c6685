package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
)

// store is a scripted store: each connection is given to serve.
func store(t *testing.T, serve func(c *script)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				serve(newScript(t, conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// script is one end of a dialogue.
type script struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func newScript(t *testing.T, conn net.Conn) *script { return &script{t, conn, bufio.NewReader(conn)} }

func (s *script) send(text string) { _, _ = io.WriteString(s.Conn, text) }

// expect reads one line; "EOF" is the end.
func (s *script) expect(want string) {
	s.t.Helper()
	line, err := s.r.ReadString('\n')
	if want == "EOF" {
		if err == nil || line != "" {
			s.t.Errorf("got %q, want the end", line)
		}
		return
	}
	if err != nil || !strings.HasPrefix(line, want) {
		s.t.Errorf("got %q %v, want %q", line, err, want)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

var proxyLogin = "a AUTHENTICATE PLAIN " + b64("alice@example.test\x00mmp\x00s3cret") + "\r\n"

// accept serves a login and returns with the session begun.
func (s *script) accept() {
	s.t.Helper()
	s.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
	s.expect(proxyLogin)
	s.send("a OK [CAPABILITY IMAP4rev1 IDLE MOVE] done\r\n")
}

// attach gives a client to a relay with those options; done yields what Attach
// returned.
func attach(t *testing.T, ctx context.Context, o Options, readAhead string) (client *script, done <-chan error) {
	t.Helper()
	o.Authcid, o.Secret = "mmp", "s3cret"
	return attachTo(t, ctx, New(o), func(h *mmp.Handover) { h.ReadAhead = []byte(readAhead) })
}

// attachTo gives a client to a backend.
func attachTo(t *testing.T, ctx context.Context, b mmp.Backend, change func(*mmp.Handover)) (client *script, done <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))
	h := &mmp.Handover{
		Conn: far, Protocol: directory.ServiceIMAP, Tag: "t1", Trace: mail.NewTraceID(),
		Identity: auth.Identity{User: directory.User{UID: "alice", Domain: "example.test"}},
		Client:   auth.Client{Addr: netip.MustParseAddrPort("192.0.2.7:4711"), TLS: true, Service: directory.ServiceIMAPS},
	}
	if change != nil {
		change(h)
	}
	result := make(chan error, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		result <- b.Attach(ctx, h)
	}()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
		<-finished // nothing of a session may outlive it
	})
	return newScript(t, near), result
}

func TestSession(t *testing.T) {
	addr := store(t, func(s *script) {
		s.send("* OK hello\r\n")
		s.expect("c CAPABILITY\r\n")
		s.send("* CAPABILITY IMAP4rev1 AUTH=PLAIN ID\r\nc OK done\r\n")
		s.expect(`i ID ("name" "mailsrv" "x-session-ext-id" "`)
		s.send("* ID NIL\r\ni OK done\r\n")
		s.expect("a AUTHENTICATE PLAIN\r\n")
		s.send("+ \r\n")
		s.expect(b64("alice@example.test\x00mmp\x00s3cret"))
		s.send("* CAPABILITY IMAP4rev1 IDLE\r\na OK done\r\n* 3 EXISTS\r\n")
		s.expect("t2 SELECT INBOX\r\n")
		s.send("t2 OK selected\r\n")
		s.expect("t3 LOGOUT\r\n")
		s.send("* BYE\r\nt3 OK bye\r\n")
	})
	c, done := attach(t, t.Context(), Options{Address: addr}, "t2 SELECT INBOX\r\n")
	c.expect("t1 OK [CAPABILITY IMAP4rev1 IDLE] Logged in\r\n")
	c.expect("* 3 EXISTS\r\n")
	c.expect("t2 OK selected\r\n")
	c.send("t3 LOGOUT\r\n")
	c.expect("* BYE\r\n")
	c.expect("t3 OK bye\r\n")
	c.expect("EOF")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestHostileStores: whatever a store does before its OK, the client is not
// touched, and the time is bounded.
func TestHostileStores(t *testing.T) {
	const greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"
	for _, c := range []struct {
		name    string
		serve   func(s *script)
		mode    TLSMode
		account bool // the refusal is the account's matter
	}{
		{name: "closes at once", serve: func(s *script) {}},
		{name: "silent", serve: func(s *script) { s.expect("EOF") }},
		{name: "garbage", serve: func(s *script) { s.send("\x00\xff\x80 220 smtp here\r\n"); s.expect("EOF") }},
		{name: "BYE", serve: func(s *script) { s.send("* BYE full\r\n") }},
		{name: "PREAUTH", serve: func(s *script) { s.send("* PREAUTH welcome\r\n"); s.expect("EOF") }},
		{name: "endless line", serve: func(s *script) { s.send("* OK " + strings.Repeat("x", 1<<20)) }},
		{name: "endless untagged", serve: func(s *script) {
			s.send(greeting)
			s.expect(proxyLogin)
			s.send(strings.Repeat("* OK still here\r\n", 10_000))
		}},
		{name: "half a greeting", serve: func(s *script) { s.send("* OK"); s.expect("EOF") }},
		{name: "closes after the login", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin) }},
		{name: "silent after the login", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin); s.expect("EOF") }},
		{name: "foreign tag", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin); s.send("t1 OK done\r\n") }},
		{name: "no PLAIN", serve: func(s *script) { s.send("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n"); s.expect("EOF") }},
		{name: "proxy refused", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin); s.send("a NO [AUTHENTICATIONFAILED] no\r\n") }},
		{name: "store down behind", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin); s.send("a NO [UNAVAILABLE] no\r\n") }},
		{name: "account refused", serve: func(s *script) { s.send(greeting); s.expect(proxyLogin); s.send("a NO [AUTHORIZATIONFAILED] no\r\n") }, account: true},
		{name: "STARTTLS stripped", serve: func(s *script) { s.send(greeting); s.expect("EOF") }, mode: StartTLS},
		{name: "STARTTLS with plain text behind", mode: StartTLS, serve: func(s *script) {
			s.send("* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")
			s.expect("s STARTTLS\r\n")
			s.send("s OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n")
			s.expect("EOF")
		}},
		{name: "no TLS at all", mode: Implicit, serve: func(s *script) { s.send(greeting) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := store(t, c.serve)
			client, done := attach(t, t.Context(), Options{Address: addr, TLSMode: c.mode, TLS: &tls.Config{}, Timeout: 200 * time.Millisecond}, "")
			refused := (*mmp.RefusedError)(nil)
			if err := <-done; !errors.As(err, &refused) {
				t.Fatalf("got %v, want it refused", err)
			}
			if refused.Unavailable == c.account {
				t.Errorf("unavailable %v: %v", refused.Unavailable, refused)
			}
			if strings.Contains(refused.Text, "no\r") {
				t.Errorf("the store's words reach the client: %q", refused.Text)
			}
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, err := client.Read(make([]byte, 1)); n > 0 || errors.Is(err, io.EOF) {
				t.Errorf("the client was touched: %d %v", n, err)
			}
		})
	}
}

func TestUnreachableStore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, done := attach(t, t.Context(), Options{Address: addr}, "")
	refused := (*mmp.RefusedError)(nil)
	if err := <-done; !errors.As(err, &refused) || !refused.Unavailable || !errors.Is(err, mmp.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
}

func TestStoreDies(t *testing.T) {
	for _, c := range []struct {
		name, last string
		want       []string
	}{
		{"between responses", "* 1 EXISTS\r\n", []string{"* 1 EXISTS\r\n", "* BYE the mailbox became unavailable", "EOF"}},
		{"within a line", "* 1 EXI", []string{"EOF"}},
		{"within a literal", "* 1 FETCH (BODY[] {100}\r\nabc\r\n", []string{"* 1 FETCH", "abc\r\n", "EOF"}},
		{"after a literal", "* 1 FETCH (BODY[] {5}\r\nabc\r\n", []string{"* 1 FETCH", "abc\r\n", "EOF"}},
		{"after a response with a literal", "* 1 FETCH (BODY[] {5}\r\nabc\r\n)\r\n", []string{"* 1 FETCH", "abc\r\n", ")", "* BYE", "EOF"}},
		{"after its own BYE", "* BYE shutting down\r\n", []string{"* BYE shutting down", "EOF"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := store(t, func(s *script) { s.accept(); s.send(c.last) })
			client, _ := attach(t, t.Context(), Options{Address: addr}, "")
			client.expect("t1 OK [CAPABILITY IMAP4rev1 IDLE MOVE] Logged in\r\n")
			for i, want := range c.want {
				if want == "EOF" && i == 0 || strings.HasSuffix(c.last, "EXI") {
					rest, _ := io.ReadAll(client.r)
					if strings.Contains(string(rest), "BYE") {
						t.Errorf("a response was cut by %q", rest)
					}
					return
				}
				client.expect(want)
			}
		})
	}
}

func TestClientCloses(t *testing.T) {
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("half=%v", half), func(t *testing.T) {
			addr := store(t, func(s *script) {
				s.accept()
				s.expect("t2 NOOP\r\n")
				s.expect("EOF")
				s.send("t2 OK late\r\n")
			})
			client, done := attach(t, t.Context(), Options{Address: addr}, "")
			client.expect("t1 OK")
			client.send("t2 NOOP\r\n")
			if half {
				_ = client.Conn.(*net.TCPConn).CloseWrite()
				client.expect("t2 OK late\r\n")
				client.expect("EOF")
			} else {
				_ = client.Close()
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestStoreIgnoresClose: a store that does not end after its client did is
// left after the linger time.
func TestStoreIgnoresClose(t *testing.T) {
	release := make(chan struct{})
	addr := store(t, func(s *script) { s.accept(); <-release })
	client, done := attach(t, t.Context(), Options{Address: addr, Linger: 20 * time.Millisecond}, "")
	client.expect("t1 OK")
	_ = client.Close()
	err := <-done
	close(release)
	if err != nil {
		t.Fatal(err)
	}
}

func TestDrainEndsAtABorder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	finish := make(chan struct{})
	addr := store(t, func(s *script) {
		s.accept()
		s.send("* 1 FETCH (BODY[] {5}\r\nab")
		<-finish
		s.send("c\r\n)\r\n")
		_, _ = s.r.ReadByte()
	})
	client, done := attach(t, ctx, Options{Address: addr}, "")
	client.expect("t1 OK")
	client.expect("* 1 FETCH")
	cancel()
	close(finish)
	client.expect("abc\r\n")
	client.expect(")\r\n")
	client.expect("* BYE server is shutting down\r\n")
	client.expect("EOF")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestLargeMessagesPass(t *testing.T) {
	const size = 8 << 20
	addr := store(t, func(s *script) {
		s.accept()
		if n, err := io.CopyN(io.Discard, s.r, size); err != nil {
			s.t.Errorf("took %d octets: %v", n, err)
		}
		s.send(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", size))
		s.send(strings.Repeat("x", size))
		s.send(")\r\n")
	})
	client, _ := attach(t, t.Context(), Options{Address: addr}, "")
	client.expect("t1 OK")
	client.send(strings.Repeat("y", size))
	client.expect("* 1 FETCH")
	if _, err := io.CopyN(io.Discard, client.r, size); err != nil {
		t.Fatal(err)
	}
	client.expect(")\r\n")
	client.expect("* BYE")
}

func TestProxyHeaderAndMasterUser(t *testing.T) {
	addr := store(t, func(s *script) {
		header, err := proxyproto.Read(s.r)
		if err != nil {
			s.t.Errorf("reading header: %v", err)
			return
		}
		if got := header.SourceAddr.String(); got != "192.0.2.7:4711" {
			s.t.Errorf("source %s", got)
		}
		tlvs, err := header.TLVs()
		if err != nil || len(tlvs) != 4 || tlvs[0].Type != listen.TraceTLV || len(tlvs[0].Value) != 26 ||
			tlvs[1].Type != listen.ServiceTLV || string(tlvs[1].Value) != "imaps" || tlvs[2].Type != listen.HopsTLV || tlvs[2].Value[0] != 1 || tlvs[3].Type != proxyproto.PP2_TYPE_SSL {
			s.t.Errorf("TLVs %v %v", tlvs, err)
		}
		s.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
		s.expect("a AUTHENTICATE PLAIN " + b64("\x00alice@example.test*mmp\x00s3cret") + "\r\n")
		s.send("a OK done\r\n")
	})
	client, _ := attach(t, t.Context(), Options{Address: addr, ProxyV2: true, MasterUser: true}, "")
	client.expect("t1 OK Logged in\r\n")
	client.expect("* BYE")
}

func TestTLSModes(t *testing.T) {
	server, roots := certificate(t)
	for mode, name := range map[TLSMode]string{StartTLS: "starttls", Implicit: "implicit"} {
		t.Run(name, func(t *testing.T) {
			addr := store(t, func(s *script) {
				if mode == StartTLS {
					s.send("* OK hi\r\n")
					s.expect("c CAPABILITY\r\n")
					s.send("* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\nc OK\r\n")
					s.expect("s STARTTLS\r\n")
					s.send("s OK go\r\n")
				}
				up := newScript(s.t, tls.Server(s.Conn, server))
				if mode == StartTLS {
					up.expect("c CAPABILITY\r\n")
					up.send("* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\nc OK done\r\n")
					up.expect(proxyLogin)
					up.send("a OK [CAPABILITY IMAP4rev1 IDLE MOVE] done\r\n")
				} else {
					up.accept()
				}
				up.expect("t2 NOOP\r\n")
				up.send("t2 OK done\r\n")
				up.expect("EOF")
				_ = up.Close()
			})
			client, done := attach(t, t.Context(), Options{Address: addr, TLSMode: mode, TLS: &tls.Config{RootCAs: roots}}, "")
			client.expect("t1 OK [CAPABILITY IMAP4rev1 IDLE MOVE]")
			client.send("t2 NOOP\r\n")
			client.expect("t2 OK done\r\n")
			_ = client.Close()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}
