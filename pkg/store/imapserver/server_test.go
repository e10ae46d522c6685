package imapserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/imapserver"
)

func TestServerRefusesBeforeItWrites(t *testing.T) {
	tests := []struct {
		name        string
		change      func(*oneUser)
		unavailable bool
	}{
		{"directory down", func(d *oneUser) { d.err = fmt.Errorf("dialing: %w", directory.ErrUnavailable) }, true},
		{"no such user", func(d *oneUser) { d.err = directory.ErrNotFound }, false},
		{"inactive", func(d *oneUser) { d.user.Status = directory.Inactive }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t, nil)
			tt.change(p.dir)
			h := &mmp.Handover{Tag: "a", Identity: auth.Identity{User: alice()}, Log: slog.New(slog.DiscardHandler),
				Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:1"), Service: directory.ServiceIMAP}}
			refused, ok := errors.AsType[*mmp.RefusedError](p.server.Attach(t.Context(), h)) // a nil Conn: not to be touched
			if !ok || refused.Unavailable != tt.unavailable {
				t.Errorf("got %+v", refused)
			}
		})
	}
}

func TestServerReadsWhatTheFrontHadRead(t *testing.T) {
	p := newPeer(t, nil)
	client, server := tcpPair(t)
	h := &mmp.Handover{Conn: server, ReadAhead: []byte("b NOOP\r\nc LOGOUT\r\n"), Tag: "a", Identity: auth.Identity{User: alice()},
		Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:1"), Service: directory.ServiceIMAP}, Log: slog.New(slog.DiscardHandler)}
	if err := p.server.Attach(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, _ := client.Read(b)
	client.Close()
	if got := string(b[:n]); !strings.HasSuffix(got, "b OK NOOP completed\r\n* BYE logging out\r\nc OK LOGOUT completed\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestServerDrains(t *testing.T) {
	p := newPeer(t, nil)
	for _, command := range []string{"", "a IDLE\r\n"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := p.chat(ctx)
		c.ok("SELECT INBOX")
		if command != "" {
			c.send(command)
			c.line()
		}
		cancel()
		if got := c.line(); got != "* BYE [UNAVAILABLE] server is shutting down" {
			t.Errorf("after %q: %q", command, got)
		}
		c.conn.Close()
	}
}

func TestServerEndsIdleSessions(t *testing.T) {
	p := newPeer(t, func(o *imapserver.Options) {
		o.IdleTimeout = 300 * time.Millisecond
		o.KeepAlive = 50 * time.Millisecond
	})
	c := p.chat(t.Context())
	if got := c.line(); got != "* BYE idle for too long" {
		t.Errorf("without IDLE: %q", got)
	}
	c = p.chat(t.Context())
	c.send("a IDLE\r\n")
	c.line()
	for range 3 {
		if got := c.line(); got != "* OK still here" {
			t.Fatalf("keep-alive: %q", got)
		}
	}
	for got := ""; got != "* BYE idle for too long"; got = c.line() {
		if got != "" && got != "* OK still here" {
			t.Fatalf("in IDLE: %q", got)
		}
	}
}

// broken is a Store whose accounts fail in one way.
type broken struct {
	store.Store
	fail func()
}

func (b broken) Account(ctx context.Context, name string) (store.Account, error) {
	a, err := b.Store.Account(ctx, name)
	return brokenAccount{a, b.fail}, err
}

type brokenAccount struct {
	store.Account
	fail func()
}

func (a brokenAccount) Subscribe(context.Context, string, bool) error {
	a.fail()
	return errors.New("open /var/secret/path: disk on fire")
}

func (a brokenAccount) Usage(context.Context) (store.Usage, error) {
	return store.Usage{}, fmt.Errorf("asking: %w", store.ErrUnavailable)
}

func TestServerSurvivesPanics(t *testing.T) {
	p := newPeer(t, nil)
	q := newPeer(t, func(o *imapserver.Options) { o.Store = broken{p.store, func() { panic("at the disco") }} })
	other := q.chat(t.Context())
	c := q.chat(t.Context())
	c.send("a SUBSCRIBE x\r\n")
	if got := c.line() + c.line(); got != "* BYE [SERVERBUG] internal error(closed)" {
		t.Errorf("got %q", got)
	}
	other.ok("NOOP")
}

func TestServerKeepsItsOwnErrors(t *testing.T) {
	p := newPeer(t, nil)
	q := newPeer(t, func(o *imapserver.Options) { o.Store = broken{p.store, func() {}} })
	c := q.chat(t.Context())
	if got := c.do("SUBSCRIBE x"); got[0] != "t NO [SERVERBUG] internal error, try again later" {
		t.Errorf("got %q", got)
	}
	q.dir.user.Quota = 1000
	c = q.chat(t.Context())
	if got := c.do("APPEND INBOX {30}"); got[0] != "t NO [UNAVAILABLE] mail store is temporarily unavailable" {
		t.Errorf("got %q", got)
	}
}

func TestServerHoldsQuota(t *testing.T) {
	p := newPeer(t, nil)
	p.dir.user.Quota, p.dir.user.MessageQuota = 400, 2
	c := p.chat(t.Context())
	if got := c.do("APPEND INBOX {401}"); got[0] != "t NO [OVERQUOTA] quota exceeded" {
		t.Errorf("by size: %q", got)
	}
	p.put("INBOX", simpleMail(1))
	c.ok("SELECT INBOX")
	if got := c.do("COPY 1 INBOX"); !strings.HasPrefix(got[len(got)-1], "t OK") {
		t.Errorf("second message: %q", got)
	}
	if got := c.do("COPY 1 INBOX"); got[len(got)-1] != "t NO [OVERQUOTA] quota exceeded" {
		t.Errorf("third message: %q", got)
	}
	if got := c.do("APPEND INBOX {5}"); got[0] != "t NO [OVERQUOTA] quota exceeded" {
		t.Errorf("by number: %q", got)
	}
}

// TestFetchOfMuch crosses the batches of all three ways to answer FETCH.
func TestFetchOfMuch(t *testing.T) {
	p := newPeer(t, nil)
	const n = 600
	for i := 1; i <= n; i++ {
		p.put("INBOX", simpleMail(i))
	}
	c := p.chat(t.Context())
	c.ok("SELECT INBOX")
	c.ok("STORE 5:7,300 +FLAGS.SILENT \\Deleted")
	c.ok("EXPUNGE")
	for _, items := range []string{"(UID FLAGS)", "(UID ENVELOPE BODYSTRUCTURE)", "(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "(UID BODY.PEEK[1])", "(UID ENVELOPE BODY[TEXT])"} {
		var uids, want []string
		for _, line := range c.ok("FETCH 1:* " + items) {
			if i := strings.Index(line, " FETCH (UID "); i >= 0 {
				uids = append(uids, line[2:i]+"="+strings.Trim(strings.Fields(line[i+12:])[0], ")"))
			}
		}
		for seq, uid := 1, 1; uid <= n; uid++ {
			if uid < 5 || uid > 7 && uid != 300 {
				want = append(want, fmt.Sprintf("%d=%d", seq, uid))
				seq++
			}
		}
		if !slices.Equal(uids, want) {
			t.Errorf("%s: %d messages, want %d: %v", items, len(uids), len(want), uids)
		}
	}
	unseen := c.ok("SEARCH UNSEEN")
	if unseen[0] != "* SEARCH" {
		t.Errorf("unseen after FETCH BODY[TEXT]: %q", unseen[0])
	}
	if got := c.ok("SEARCH RETURN (COUNT MIN MAX) BODY \"of message 59\""); got[0] != `* ESEARCH (TAG "t") MIN 56 MAX 595 COUNT 11` {
		t.Errorf("SEARCH BODY: %q", got[0])
	}
}

// TestIdleOverTLS: waking a reader goes through its read deadline, which must
// not break the TLS connection.
func TestIdleOverTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	p := newPeer(t, nil)
	raw, server := tcpPair(t)
	client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	h := &mmp.Handover{Conn: tls.Server(server, certified.TLS), Tag: "in", Identity: auth.Identity{User: alice()},
		Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:1"), Service: directory.ServiceIMAP, TLS: true}, Log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() { done <- p.server.Attach(t.Context(), h) }()
	c := &chat{tb: t, conn: client, r: bufio.NewReader(client)}
	c.line()
	c.ok("SELECT INBOX")
	for i := 1; i <= 3; i++ {
		c.send("t IDLE\r\n")
		c.line()
		for n := 2*i - 1; n <= 2*i; n++ {
			p.put("INBOX", simpleMail(n))
			if got, want := c.line()+c.line(), fmt.Sprintf("* %d EXISTS* %d RECENT", n, n); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		c.send("DONE\r\n")
		if got := c.line(); got != "t OK IDLE completed" {
			t.Fatalf("got %q", got)
		}
	}
	c.ok("LOGOUT")
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestQuotaTold is GETQUOTA and GETQUOTAROOT (RFC 9208).
func TestQuotaTold(t *testing.T) {
	p := newPeer(t, nil)
	c := p.chat(t.Context())
	if got := c.ok("GETQUOTAROOT INBOX"); got[0] != "* QUOTAROOT INBOX" || len(got) != 2 {
		t.Errorf("without limits: %q", got)
	}
	if got := c.do(`GETQUOTA ""`); got[0] != "t NO [NONEXISTENT] no such quota root" {
		t.Errorf("without limits: %q", got)
	}
	p.dir.user.Quota = 10 << 10
	p.put("INBOX", simpleMail(1), `\Deleted`)
	c = p.chat(t.Context())
	if got := c.ok("GETQUOTAROOT INBOX"); got[0] != `* QUOTAROOT INBOX ""` || got[1] != `* QUOTA "" (STORAGE 1 10)` {
		t.Errorf("of storage: %q", got)
	}
	p.dir.user.MessageQuota = 5
	c = p.chat(t.Context())
	if got := c.ok(`GETQUOTA ""`); got[0] != `* QUOTA "" (STORAGE 1 10 MESSAGE 1 5)` {
		t.Errorf("of both: %q", got)
	}
	if got, want := c.ok("STATUS INBOX (DELETED DELETED-STORAGE)")[0], fmt.Sprintf("* STATUS INBOX (DELETED 1 DELETED-STORAGE %d)", len(simpleMail(1))); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for command, want := range map[string]string{"GETQUOTA other": "NONEXISTENT", "GETQUOTAROOT Nowhere": "NONEXISTENT"} {
		if got := c.do(command); !strings.HasPrefix(got[0], "t NO ["+want+"]") {
			t.Errorf("%s: %q", command, got)
		}
	}
}
