package lmtpclient_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/lmtpclient"
	"mailsrv/pkg/store/lmtpserver"
)

// memory is a store that remembers what was delivered.
type memory struct {
	store.Store
	mu        sync.Mutex
	delivered []delivery
	fail      map[string]error // by account
}

type delivery struct {
	Trace  mail.TraceID
	Text   string
	Target store.Target
}

func (m *memory) Deliver(_ context.Context, trace mail.TraceID, body mail.Body, targets []store.Target) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := body.Open()
	if err != nil {
		return mail.All(len(targets), err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return mail.All(len(targets), err)
	}
	errs := make([]error, len(targets))
	for i, t := range targets {
		if errs[i] = m.fail[t.Account]; errs[i] == nil {
			m.delivered = append(m.delivered, delivery{trace, string(b), t})
		}
	}
	return errs
}

func (m *memory) all() []delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]delivery(nil), m.delivered...)
}

// people is a directory of the users alice, bob and the like.
type people struct {
	directory.Directory
	status map[string]directory.Status
	err    error
}

func (p people) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	if p.err != nil {
		return directory.Recipient{}, p.err
	}
	if a.Domain != "example.test" || strings.HasPrefix(a.Local, "no") {
		return directory.Recipient{}, directory.ErrNotFound
	}
	u := &directory.User{UID: a.Key().Local, Domain: a.Domain, Status: directory.Active, Quota: directory.QuotaUnlimited, MessageQuota: directory.QuotaUnlimited}
	if s, ok := p.status[u.UID]; ok {
		u.Status = s
	}
	return directory.Recipient{User: u}, nil
}

// listen accepts connections for serve until the test ends; it waits for all.
func listen(t testing.TB, serve func(context.Context, net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(ctx, conn) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	return l.Addr().String()
}

func storeAt(t testing.TB, m *memory, p people) string {
	s := lmtpserver.New(lmtpserver.Options{
		Deliverer: store.NewDeliverer(m, p, store.NoQuota()), Hostname: "store.test", SpoolDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
	})
	return listen(t, s.ServeConn)
}

func client(t testing.TB, o lmtpclient.Options) *lmtpclient.Client {
	o.Hostname, o.Log = "mta.test", slog.New(slog.DiscardHandler)
	c := lmtpclient.New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func to(locals ...string) []mail.Recipient {
	var out []mail.Recipient
	for _, l := range locals {
		out = append(out, mail.Recipient{Address: mail.Address{Local: l, Domain: "example.test"}})
	}
	return out
}

// replies are what the recipients heard; "" for success.
func replies(errs []error) []string {
	out := make([]string, len(errs))
	for i, err := range errs {
		if err != nil {
			out[i] = mail.StatusOf(err).Reply()
		}
	}
	return out
}

func TestDeliverToOurStore(t *testing.T) {
	m := &memory{fail: map[string]error{"full@example.test": store.ErrOverQuota, "broken@example.test": errors.New("disk on fire")}}
	p := people{status: map[string]directory.Status{"gone": directory.Deleted, "away": directory.Inactive, "shut": directory.Disabled}}
	c := client(t, lmtpclient.Options{Addr: storeAt(t, m, p)})
	env := mail.Envelope{From: mail.Address{Local: "a b", Domain: "sender.test"}, Trace: mail.NewTraceID(), EightBit: true, SMTPUTF8: true,
		To: to("Alice", "nobody", "full", "gone", "away", "shut", "bob", "broken", "jürgen")}
	env.To[6].Mailbox, env.To[6].Flags, env.To[6].SentCopy = "Größe/Sent + more", []string{`\Seen`, "$Label"}, true
	text := "Subject: x\r\n\r\n.dot\r\n\x00\xff\r\nlast"
	got := replies(c.Deliver(t.Context(), env, mail.Bytes(text)))
	want := []string{"", "550 5.1.1 no such user here", "452 4.2.2 mailbox full", "550 5.2.1 mailbox is closed",
		"451 4.2.1 mailbox is inactive for now", "550 5.2.1 user disabled; cannot receive new mail", "",
		"451 4.3.0 temporary failure, try again later", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("replies (-want +got):\n" + diff)
	}
	stored := text + "\r\n"
	wantStored := []delivery{
		{env.Trace, stored, store.Target{Account: "alice@example.test", ReturnPath: env.From, Recipient: env.To[0].Address, Quota: store.NoQuota()}},
		{env.Trace, stored, store.Target{Account: "bob@example.test", Mailbox: "Größe/Sent + more", SentCopy: true, ReturnPath: env.From,
			Flags: store.Flags{System: store.Seen, Keywords: []string{"$Label"}}, Quota: store.NoQuota()}},
		{env.Trace, stored, store.Target{Account: "jürgen@example.test", ReturnPath: env.From, Recipient: env.To[8].Address, Quota: store.NoQuota()}},
	}
	if diff := cmp.Diff(wantStored, m.all()); diff != "" {
		t.Error("stored (-want +got):\n" + diff)
	}
}

func TestDeliverReusesConnection(t *testing.T) {
	m := &memory{}
	addr := storeAt(t, m, people{})
	dials := 0
	c := client(t, lmtpclient.Options{Addr: addr, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	for _, local := range []string{"alice", "nobody", "bob"} {
		c.Deliver(t.Context(), mail.Envelope{To: to(local), Trace: mail.NewTraceID()}, mail.Bytes("x\r\n"))
	}
	if dials != 1 || len(m.all()) != 2 {
		t.Errorf("%d connections, %d deliveries; want 1 and 2", dials, len(m.all()))
	}
}

func TestDeliverManyRecipients(t *testing.T) {
	m := &memory{}
	c := client(t, lmtpclient.Options{Addr: storeAt(t, m, people{})})
	env := mail.Envelope{Trace: mail.NewTraceID()}
	for range 450 {
		env.To = append(env.To, to("alice", "nobody")...)
	}
	for i, err := range c.Deliver(t.Context(), env, mail.Bytes("x\r\n")) {
		if (err != nil) != (i%2 == 1) {
			t.Fatalf("recipient %d: %v", i, err)
		}
	}
}

func TestDeliverOutage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := client(t, lmtpclient.Options{Addr: addr})
	want := []string{"451 4.4.1 mailbox store cannot be reached, try again later", "451 4.4.1 mailbox store cannot be reached, try again later"}
	errs := c.Deliver(t.Context(), mail.Envelope{To: to("a", "b")}, mail.Bytes("x\r\n"))
	if diff := cmp.Diff(want, replies(errs)); diff != "" || !errors.Is(errs[0], mail.ErrOutage) {
		t.Error(diff, errs)
	}
}

func TestDeliverDirectoryOutage(t *testing.T) {
	c := client(t, lmtpclient.Options{Addr: storeAt(t, &memory{}, people{err: directory.ErrUnavailable})})
	want := []string{"451 4.4.3 directory unavailable, try again later"}
	if diff := cmp.Diff(want, replies(c.Deliver(t.Context(), mail.Envelope{To: to("a")}, mail.Bytes("x\r\n")))); diff != "" {
		t.Error(diff)
	}
}

// TestDeliverAfterStoreRestart: the idle connection heard 421 meanwhile.
func TestDeliverAfterStoreRestart(t *testing.T) {
	m := &memory{}
	s := lmtpserver.New(lmtpserver.Options{Deliverer: store.NewDeliverer(m, people{}, store.NoQuota()), Hostname: "store.test", SpoolDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	drain := make(chan struct{})
	ended := make(chan struct{}, 1)
	first := true
	var mu sync.Mutex
	addr := listen(t, func(ctx context.Context, conn net.Conn) {
		mu.Lock()
		mine := first
		first = false
		mu.Unlock()
		if !mine {
			s.ServeConn(ctx, conn)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-drain:
				cancel()
			case <-ctx.Done():
			}
		}()
		s.ServeConn(ctx, conn)
		ended <- struct{}{}
	})
	c := client(t, lmtpclient.Options{Addr: addr})
	send := func() {
		t.Helper()
		if errs := c.Deliver(t.Context(), mail.Envelope{To: to("a"), Trace: mail.NewTraceID()}, mail.Bytes("x\r\n")); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	send()
	close(drain)
	<-ended
	send()
	if len(m.all()) != 2 {
		t.Errorf("%d deliveries, want 2", len(m.all()))
	}
}

// foreign is a store that answers from a list, whatever it is asked.
func foreign(t testing.TB, heard chan<- string, answers ...string) string {
	return listen(t, func(ctx context.Context, conn net.Conn) {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		for _, a := range answers {
			if a == "-" { // await the client's next write
				b := make([]byte, 4096)
				n, err := conn.Read(b)
				if err != nil {
					return
				}
				heard <- string(b[:n])
				continue
			}
			_, _ = io.WriteString(conn, a)
		}
	})
}

func TestDeliverToForeignStore(t *testing.T) {
	heard := make(chan string, 20)
	addr := foreign(t, heard, "220 x\r\n", "-", "250-x\r\n250 SIZE\r\n", "-", "250 ok\r\n", "-", "250 ok\r\n", "-", "550 5.1.1 Unknown\r\n", "-", "354 go\r\n", "-", "250 2.0.0 saved\r\n", "-")
	c := client(t, lmtpclient.Options{Addr: addr})
	env := mail.Envelope{From: mail.Address{Local: `a> SIZE=1`, Domain: "x.test"}, To: to("alice", "bob", "jürgen"), Trace: mail.NewTraceID(), EightBit: true}
	env.To[0].Mailbox, env.To[0].Flags = "Sent Mail", []string{`\Seen`}
	got := replies(c.Deliver(t.Context(), env, mail.Bytes("x\r\n")))
	want := []string{"", "550 5.1.1 Unknown", "553 5.6.7 the store takes no such address (SMTPUTF8)"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("replies (-want +got):\n" + diff)
	}
	c.Close()
	wantHeard := []string{"LHLO mta.test\r\n", "MAIL FROM:<\"a> SIZE=1\"@x.test> SIZE=3\r\n", "RCPT TO:<\"alice+Sent Mail\"@example.test>\r\n",
		"RCPT TO:<bob@example.test>\r\n", "DATA\r\n", "x\r\n.\r\n", "QUIT\r\n"}
	for _, w := range wantHeard {
		if got := <-heard; got != w {
			t.Errorf("store heard %q, want %q", got, w)
		}
	}
}

func TestDeliverFailures(t *testing.T) {
	const hello = "250-x\r\n250 PIPELINING\r\n"
	tests := []struct {
		name    string
		answers []string
		body    string
		want    string
	}{
		{"refused greeting", []string{"554 no\r\n"}, "", "451 4.4.1"},
		{"garbage greeting", []string{"SSH-2.0-x\r\n"}, "", "451 4.4.1"},
		{"endless greeting", []string{strings.Repeat("220-x\r\n", 1000)}, "", "451 4.4.1"},
		{"MAIL refused", []string{"220 x\r\n", "-", hello, "-", "550 5.7.1 not you\r\n503 x\r\n", "-", "250 ok\r\n"}, "", "550 5.7.1 not you"},
		{"MAIL transient", []string{"220 x\r\n", "-", hello, "-", "451 busy\r\n503 x\r\n", "-", "250 ok\r\n"}, "", "451 4.0.0 busy"},
		{"MAIL 421", []string{"220 x\r\n", "-", hello, "-", "421 bye\r\n"}, "", "451 4.4.1"},
		{"cut after RCPT", []string{"220 x\r\n", "-", hello, "-", "250 ok\r\n250 ok\r\n", "-"}, "", "451 4.4.1"},
		{"cut after dot", []string{"220 x\r\n", "-", hello, "-", "250 ok\r\n250 ok\r\n", "-", "354 x\r\n", "-"}, "", "451 4.4.1"},
		{"no reply after dot", []string{"220 x\r\n", "-", hello, "-", "250 ok\r\n250 ok\r\n", "-", "354 x\r\n", "-", "-"}, "", "451 4.4.1"},
		{"DATA refused", []string{"220 x\r\n", "-", hello, "-", "250 ok\r\n250 ok\r\n", "-", "452 4.3.1 full\r\n", "-", "250 ok\r\n"}, "", "452 4.3.1 full"},
		{"bare CR in the message", []string{"220 x\r\n", "-", hello, "-", "250 ok\r\n250 ok\r\n", "-", "354 x\r\n", "-"}, "x\r.\r\nMAIL FROM:<v>\r\n", "554 5.6.0"},
		{"too large", []string{"220 x\r\n", "-", "250-x\r\n250 SIZE 2\r\n"}, "", "552 5.3.4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			heard := make(chan string, 100)
			c := client(t, lmtpclient.Options{Addr: foreign(t, heard, tt.answers...), Final: 50 * time.Millisecond})
			body := tt.body
			if body == "" {
				body = "hello\r\n"
			}
			got := replies(c.Deliver(t.Context(), mail.Envelope{To: to("alice")}, mail.Bytes(body)))[0]
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDeliverWithoutTLSIsRefused(t *testing.T) {
	c := client(t, lmtpclient.Options{Addr: storeAt(t, &memory{}, people{}), TLS: testTLS(t).client})
	got := replies(c.Deliver(t.Context(), mail.Envelope{To: to("alice")}, mail.Bytes("x\r\n")))
	if diff := cmp.Diff([]string{"451 4.4.1 mailbox store cannot be reached, try again later"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestDeliverInjectedReply: bytes that came before TLS are no replies (S4).
func TestDeliverInjectedReply(t *testing.T) {
	heard := make(chan string, 10)
	addr := foreign(t, heard, "220 x\r\n", "-", "250-x\r\n250 STARTTLS\r\n", "-", "220 go\r\n250 injected\r\n", "-")
	c := client(t, lmtpclient.Options{Addr: addr, TLS: testTLS(t).client})
	got := replies(c.Deliver(t.Context(), mail.Envelope{To: to("alice")}, mail.Bytes("x\r\n")))
	if !strings.HasPrefix(got[0], "451 4.4.1") {
		t.Error(got)
	}
	if first, second := <-heard, <-heard; first != "LHLO mta.test\r\n" || second != "STARTTLS\r\n" {
		t.Errorf("store heard %q, %q", first, second)
	}
}

// TestIdleConnectionExpires: the store hears QUIT without a further delivery.
func TestIdleConnectionExpires(t *testing.T) {
	heard := make(chan string, 20)
	addr := foreign(t, heard, "220 x\r\n", "-", "250-x\r\n250 PIPELINING\r\n", "-", "250 ok\r\n250 ok\r\n", "-", "354 go\r\n", "-", "250 ok\r\n", "-")
	c := client(t, lmtpclient.Options{Addr: addr, Idle: 10 * time.Millisecond})
	if errs := c.Deliver(t.Context(), mail.Envelope{To: to("alice")}, mail.Bytes("x\r\n")); errs[0] != nil {
		t.Fatal(errs[0])
	}
	for got := range heard {
		if got == "QUIT\r\n" {
			break
		}
	}
}

func TestDeliverOverTLS(t *testing.T) {
	pair := testTLS(t)
	m := &memory{}
	s := lmtpserver.New(lmtpserver.Options{Deliverer: store.NewDeliverer(m, people{}, store.NoQuota()), Hostname: "store.test", TLS: pair.server,
		SpoolDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	c := client(t, lmtpclient.Options{Addr: listen(t, s.ServeConn), TLS: pair.client})
	if errs := c.Deliver(t.Context(), mail.Envelope{To: to("alice"), Trace: mail.NewTraceID()}, mail.Bytes("x\r\n")); errs[0] != nil {
		t.Fatal(errs[0])
	}
}

func TestDeliverCancelled(t *testing.T) {
	heard := make(chan string, 10)
	addr := foreign(t, heard, "220 x\r\n", "-", "-")
	c := client(t, lmtpclient.Options{Addr: addr})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-heard
		cancel()
	}()
	if got := replies(c.Deliver(ctx, mail.Envelope{To: to("alice")}, mail.Bytes("x\r\n"))); !strings.HasPrefix(got[0], "451 4.4.1") {
		t.Error(got)
	}
}
