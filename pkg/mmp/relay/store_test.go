package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
)

const popLogin = "AUTH PLAIN "

func popProxyLogin() string { return popLogin + b64("alice@example.test\x00mmp\x00s3cret") + "\r\n" }

// refusedBy waits for Attach to refuse.
func refusedBy(t *testing.T, done <-chan error) *mmp.RefusedError {
	t.Helper()
	refused := (*mmp.RefusedError)(nil)
	if err := <-done; !errors.As(err, &refused) {
		t.Fatalf("got %v, want it refused", err)
	}
	return refused
}

func TestPOP3Session(t *testing.T) {
	addr := store(t, func(s *script) {
		s.send("+OK [XCLIENT] ready\r\n")
		s.expect("XCLIENT SESSION=")
		s.send("+OK\r\n")
		s.expect("UTF8\r\n")
		s.send("+OK\r\n")
		s.expect(popProxyLogin())
		s.send("+OK 3 messages\r\n")
		s.expect("STAT\r\n")
		s.send("+OK 3 99\r\n")
		s.expect("QUIT\r\n")
		s.send("+OK bye\r\n")
	})
	client, done := attachTo(t, t.Context(), New(Options{Protocol: directory.ServicePOP3, Address: addr, Authcid: "mmp", Secret: "s3cret"}), func(h *mmp.Handover) {
		h.UTF8, h.ReadAhead = true, []byte("STAT\r\n")
	})
	client.expect("+OK 3 messages\r\n")
	client.expect("+OK 3 99\r\n")
	client.send("QUIT\r\n")
	client.expect("+OK bye\r\n")
	client.expect("EOF")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestHostilePOP3Stores: whatever a store does before its +OK, the client is
// untouched and hears none of its words.
func TestHostilePOP3Stores(t *testing.T) {
	login := func(s *script, answer string) {
		s.send("+OK hi\r\n")
		s.expect(popLogin)
		s.send(answer)
	}
	for _, c := range []struct {
		name  string
		serve func(*script)
		mode  TLSMode
		want  mmp.RefusedError
	}{
		{name: "silent", serve: func(s *script) { s.expect("EOF") }},
		{name: "garbage", serve: func(s *script) { s.send("\x00\xff 220 smtp\r\n") }},
		{name: "refuses everybody", serve: func(s *script) { s.send("-ERR full\r\n") }},
		{name: "endless line", serve: func(s *script) { s.send("+OK " + strings.Repeat("x", 1<<20)) }},
		{name: "closes after the login", serve: func(s *script) { login(s, "") }},
		{name: "asks for more", serve: func(s *script) { login(s, "+ \r\n"); s.expect("EOF") }},
		{name: "our password is wrong", serve: func(s *script) { login(s, "-ERR [AUTH] no\r\n") }},
		{name: "account refused", serve: func(s *script) { login(s, "-ERR [SYS/PERM] no\r\n") }, want: mmp.RefusedError{Text: "This account may not log in"}},
		{name: "login delay", serve: func(s *script) { login(s, "-ERR [LOGIN-DELAY] wait\r\n") }, want: mmp.RefusedError{Unavailable: true, Code: "LOGIN-DELAY", Text: "wait"}},
		{name: "STLS stripped", serve: func(s *script) { s.send("+OK hi\r\n"); s.expect("STLS"); s.send("-ERR what\r\n") }, mode: StartTLS},
		{name: "plain text behind STLS", serve: func(s *script) { s.send("+OK hi\r\n"); s.expect("STLS"); s.send("+OK go\r\n+OK logged in\r\n") }, mode: StartTLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Protocol: directory.ServicePOP3, Address: store(t, c.serve), TLSMode: c.mode, Authcid: "mmp", Secret: "s3cret", Timeout: 200 * time.Millisecond}
			client, done := attachTo(t, t.Context(), New(o), nil)
			got := refusedBy(t, done)
			if c.want.Text == "" {
				c.want = mmp.RefusedError{Unavailable: true, Text: "Your mailbox cannot be reached now, try again later"}
			}
			if got.Unavailable != c.want.Unavailable || got.Code != c.want.Code || got.Text != c.want.Text {
				t.Errorf("refused as %+v, want %+v", got, c.want)
			}
			_ = client.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if n, err := client.Read(make([]byte, 1)); n > 0 || errors.Is(err, io.EOF) {
				t.Errorf("the client was touched: %d %v", n, err)
			}
		})
	}
}

func TestReplay(t *testing.T) {
	for protocol, answers := range map[directory.Service][2]string{
		directory.ServiceIMAP: {"a NO [AUTHENTICATIONFAILED] no\r\n", "a OK in\r\n"},
		directory.ServicePOP3: {"-ERR [AUTH] no\r\n", "+OK in\r\n"},
	} {
		for i, answer := range answers {
			addr := store(t, func(s *script) {
				want := "AUTH PLAIN "
				if protocol == directory.ServiceIMAP {
					s.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
					want = "a AUTHENTICATE PLAIN "
				} else {
					s.send("+OK ready\r\n")
				}
				s.expect(want + b64("\x00alice\x00own password") + "\r\n")
				s.send(answer)
				s.expect("EOF")
			})
			client, done := attachTo(t, t.Context(), New(Options{Protocol: protocol, Address: addr, Authcid: "mmp", Secret: "s3cret"}), func(h *mmp.Handover) {
				h.Identity.Replay = "own password"
				h.Identity.User.Replay = directory.Replay{Password: true, Login: "%U"}
			})
			if i == 0 {
				if r := refusedBy(t, done); !r.Credentials || r.Unavailable {
					t.Errorf("%s: refused as %+v", protocol, r)
				}
				continue
			}
			if line, err := client.r.ReadString('\n'); err != nil || !strings.Contains(line, "OK") {
				t.Errorf("%s: %q %v", protocol, line, err)
			}
		}
	}
}

func TestLoopEnds(t *testing.T) {
	r := New(Options{Address: "127.0.0.1:1"})
	_, done := attachTo(t, t.Context(), r, func(h *mmp.Handover) { h.Hops = mmp.MaxHops - 1 })
	if got := refusedBy(t, done); !got.Unavailable || !strings.Contains(got.Error(), "loop") {
		t.Errorf("%v", got)
	}
}

// TestDeadStoreCostsNothing: after a few failures its users are refused without
// a connection, and a probe brings it back.
func TestDeadStoreCostsNothing(t *testing.T) {
	var seen atomic.Int32
	var well atomic.Bool
	addr := store(t, func(s *script) {
		seen.Add(1)
		if !well.Load() {
			return
		}
		s.send("* OK [CAPABILITY IMAP4REV1 SASL-IR ID AUTH=PLAIN IDLE MOVE] ready\r\n")
		s.expect("z LOGOUT\r\n")
	})
	var told []bool
	r := New(Options{Address: addr, Authcid: "mmp", Secret: "s3cret", Health: func(up bool) { told = append(told, up) }})
	for range tolerated + 10 {
		_, done := attachTo(t, t.Context(), r, nil)
		if got := refusedBy(t, done); !got.Unavailable || !errors.Is(got, mmp.ErrUnavailable) {
			t.Fatal(got)
		}
	}
	if n := seen.Load(); n != tolerated {
		t.Errorf("the dead store saw %d connections, want %d", n, tolerated)
	}
	if r.Capabilities() != nil {
		t.Errorf("capabilities of a store that never spoke: %v", r.Capabilities())
	}
	well.Store(true)
	if err := r.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.Capabilities(); !slices.Equal(got, []string{"IMAP4rev1", "IDLE", "MOVE"}) {
		t.Errorf("capabilities %v", got)
	}
	if !slices.Equal(told, []bool{false, true}) {
		t.Errorf("health told as %v", told)
	}
}

func TestPOP3Probe(t *testing.T) {
	addr := store(t, func(s *script) {
		s.send("+OK ready\r\n")
		s.expect("CAPA\r\n")
		s.send("+OK\r\nTOP\r\nUIDL\r\nUTF8 USER\r\nSASL PLAIN\r\nSTLS\r\nUSER\r\n.\r\n")
		s.expect("QUIT\r\n")
	})
	r := New(Options{Protocol: directory.ServicePOP3, Address: addr})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	for r.Capabilities() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := r.Capabilities(); !slices.Equal(got, []string{"TOP", "UIDL", "UTF8 USER"}) {
		t.Errorf("capabilities %q", got)
	}
}

// TestRefusalsLeaveNothing: 10,000 logins that fail, against stores that fail in
// different ways, leave no goroutine and no descriptor.
func TestRefusalsLeaveNothing(t *testing.T) {
	descriptors := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		return len(files)
	}
	now := time.Unix(0, 0)
	var stores []*Relay
	for _, answer := range []string{"", "* BYE full\r\n", "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\na NO [UNAVAILABLE] no\r\n", "\xff\xff\r\n"} {
		addr := store(t, func(s *script) { s.send(answer) })
		stores = append(stores, New(Options{Address: addr, Authcid: "mmp", Secret: "s3cret", Now: func() time.Time { now = now.Add(time.Minute); return now }}))
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	attach := func(n int) {
		for i := range n {
			h := &mmp.Handover{Conn: far, Tag: "a", Trace: mail.NewTraceID(), Identity: auth.Identity{User: directory.User{UID: "alice", Domain: "example.test"}}}
			refused := (*mmp.RefusedError)(nil)
			if err := stores[i%len(stores)].Attach(context.Background(), h); !errors.As(err, &refused) || !refused.Unavailable {
				t.Fatalf("got %v", err)
			}
		}
	}
	attach(100)
	goroutines, files := runtime.NumGoroutine(), descriptors()
	attach(10_000)
	for range 100 {
		if runtime.NumGoroutine() <= goroutines+10 && descriptors() <= files+10 {
			return
		}
		time.Sleep(10 * time.Millisecond) // the stores' own ends close
	}
	t.Errorf("%d goroutines and %d descriptors before, %d and %d after", goroutines, files, runtime.NumGoroutine(), descriptors())
}

// TestPOP3Drain: when the server stops, an answer under way comes whole, and a
// session at rest ends without a word.
func TestPOP3Drain(t *testing.T) {
	message := bytes.Repeat([]byte("line\r\n"), 50_000)
	release := make(chan struct{})
	addr := store(t, func(s *script) {
		s.send("+OK ready\r\n")
		s.expect(popLogin)
		s.send("+OK in\r\n")
		s.expect("RETR 1\r\n")
		s.send("+OK\r\n" + string(message[:100]))
		<-release
		s.send(string(message[100:]) + ".\r\n")
		s.expect("EOF")
	})
	ctx, cancel := context.WithCancel(t.Context())
	client, done := attachTo(t, ctx, New(Options{Protocol: directory.ServicePOP3, Address: addr, Authcid: "mmp", Secret: "s3cret"}), nil)
	client.expect("+OK in")
	client.send("RETR 1\r\n")
	client.expect("+OK")
	client.expect("line")
	cancel()
	close(release)
	rest, err := io.ReadAll(client.r)
	if err != nil || !bytes.HasSuffix(rest, []byte("line\r\n.\r\n")) || len(rest) != len(message)-len("line\r\n")+len(".\r\n") {
		t.Errorf("%d octets %v", len(rest), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFailover(t *testing.T) {
	dead := New(Options{Address: "127.0.0.1:1", Authcid: "mmp", Secret: "s3cret"})
	well := New(Options{Authcid: "mmp", Secret: "s3cret", Address: store(t, func(s *script) { s.accept(); s.expect("EOF") })})
	router := mmp.NewRouter(mmp.RouterOptions{Remote: func(host string) (mmp.Backend, bool) {
		b, ok := map[string]mmp.Backend{"dead": dead, "well": well}[host]
		return b, ok
	}})
	b, name, err := router.Route(t.Context(), directory.User{MailHost: "dead", FailoverHosts: []string{"unknown", "well"}})
	if err != nil || name != "dead,well" {
		t.Fatalf("%q %v", name, err)
	}
	client, _ := attachTo(t, t.Context(), b, nil)
	client.expect("t1 OK [CAPABILITY IMAP4rev1 IDLE MOVE] Logged in")
	b, _, err = router.Route(t.Context(), directory.User{MailHost: "dead", FailoverHosts: []string{"dead"}})
	if err != nil {
		t.Fatal(err)
	}
	_, done := attachTo(t, t.Context(), b, nil)
	if got := refusedBy(t, done); !got.Unavailable || strings.Count(fmt.Sprint(got), "127.0.0.1:1") < 2 {
		t.Errorf("%v", got)
	}
}
