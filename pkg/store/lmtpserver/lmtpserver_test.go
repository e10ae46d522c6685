package lmtpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// memory is a store that remembers the targets of deliveries, and in which
// every account holds 900 bytes in 9 messages.
type memory struct {
	store.Store
	mu      sync.Mutex
	targets []store.Target
}

type account struct{ store.Account }

func (account) Usage(context.Context) (store.Usage, error) {
	return store.Usage{Bytes: 900, Messages: 9}, nil
}

func (m *memory) Account(_ context.Context, name string) (store.Account, error) {
	if strings.HasPrefix(name, "broken") {
		return nil, store.ErrUnavailable
	}
	return account{}, nil
}

func (m *memory) Deliver(_ context.Context, _ mail.TraceID, _ mail.Body, targets []store.Target) []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := make([]error, len(targets))
	for i, t := range targets {
		switch {
		case strings.HasPrefix(t.Account, "panic"):
			panic("boom")
		case strings.HasPrefix(t.Account, "late"):
			errs[i] = store.ErrOverQuota
		case strings.HasPrefix(t.Account, "many"):
			errs[i] = store.ErrTooMany
		case strings.HasPrefix(t.Mailbox, "bad"):
			errs[i] = store.ErrBadName
		case strings.HasPrefix(t.Account, "fsync"):
			errs[i] = errors.New("fsync: I/O error")
		default:
			m.targets = append(m.targets, t)
		}
	}
	return errs
}

// people has a user for whatever its local part says.
type people struct{ directory.Directory }

func (people) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	u := &directory.User{UID: a.Local, Domain: a.Domain, Status: directory.Active, Quota: directory.QuotaDefault, MessageQuota: directory.QuotaUnlimited}
	name, value, _ := strings.Cut(a.Local, "-")
	switch name {
	case "nobody":
		return directory.Recipient{}, directory.ErrNotFound
	case "twice":
		return directory.Recipient{}, directory.ErrAmbiguous
	case "outage":
		return directory.Recipient{}, directory.ErrUnavailable
	case "group":
		return directory.Recipient{Group: &directory.Group{}}, nil
	case "status":
		u.Status = directory.Status(value)
	case "quota", "broken":
		u.Quota = map[string]int64{"none": 0, "1000": 1000, "500": 500, "": 1 << 20}[value]
	case "messages":
		u.MessageQuota = map[string]int64{"none": 0, "9": 9, "10": 10}[value]
	}
	return directory.Recipient{User: u}, nil
}

func start(t testing.TB, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Hostname, o.SpoolDir = "store.test", t.TempDir()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.ServeConn(ctx, conn) })
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); wg.Wait() })
	return l.Addr().String()
}

// chat plays a dialogue: "C: text" is sent with CRLF; "S: prefix" wants a line
// that begins so; "S: EOF" the end of the connection.
func chat(t testing.TB, addr, script string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if kind == "C" {
			_, _ = io.WriteString(conn, text+"\r\n")
			continue
		}
		got, err := r.ReadString('\n')
		if text == "EOF" {
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("want the end of the connection, got %q, %v", got, err)
			}
		} else if err != nil || !strings.HasPrefix(got, text) {
			t.Fatalf("want %q, got %q, %v", text, got, err)
		}
	}
}

const hello = "S: 220 store.test LMTP\nC: LHLO mta.test\nS: 250-store.test\nS: 250-PIPELINING\nS: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250-ENHANCEDSTATUSCODES\nS: 250-SIZE\nS: 250-XTRACE\nS: 250 XDELIVER\n"

func TestRecipients(t *testing.T) {
	addr := start(t, Options{Deliverer: store.NewDeliverer(&memory{}, people{}, store.NoQuota())})
	tests := []struct{ local, want string }{
		{"alice", "250 2.1.5"},
		{"nobody", "550 5.1.1"},
		{"group", "550 5.1.1"},
		{"twice", "451 4.3.5"},
		{"outage", "451 4.4.3"},
		{"broken", "451 4.3.0"},
		{"status-active", "250 2.1.5"},
		{"status-inactive", "451 4.2.1"},
		{"status-disabled", "550 5.2.1"},
		{"status-deleted", "550 5.2.1"},
		{"status-removed", "550 5.2.1"},
		{"status-hold", "451 4.2.1"},
		{"status-overquota", "452 4.2.2"},
		{"status-strange", "451 4.2.1"},
		{"quota-none", "552 5.2.2"},
		{"quota-1000", "250 2.1.5"},
		{"quota-500", "452 4.2.2"},
		{"messages-none", "552 5.2.2"},
		{"messages-9", "452 4.2.2"},
		{"messages-10", "250 2.1.5"},
	}
	for _, tt := range tests {
		t.Run(tt.local, func(t *testing.T) {
			chat(t, addr, hello+"C: MAIL FROM:<a@b.test> SIZE=100\nS: 250\nC: RCPT TO:<"+tt.local+"@example.test>\nS: "+tt.want)
		})
	}
	t.Run("too large for now, and for ever", func(t *testing.T) {
		chat(t, addr, hello+"C: MAIL FROM:<a@b.test> SIZE=101\nS: 250\nC: RCPT TO:<quota-1000@example.test>\nS: 452 4.2.2\n"+
			"C: RSET\nS: 250\nC: MAIL FROM:<a@b.test> SIZE=1001\nS: 250\nC: RCPT TO:<quota-1000@example.test>\nS: 552 5.2.2")
	})
}

func TestRepliesPerRecipient(t *testing.T) {
	var log bytes.Buffer
	m := &memory{}
	addr := start(t, Options{Deliverer: store.NewDeliverer(m, people{}, store.NoQuota()), Log: slog.New(slog.NewTextHandler(&log, nil))})
	trace := string(mail.NewTraceID())
	chat(t, addr, hello+`C: MAIL FROM:<a@b.test> XTRACE=`+trace+`
		S: 250 2.1.0
		C: RCPT TO:<alice@example.test>
		S: 250 2.1.5
		C: RCPT TO:<nobody@example.test>
		S: 550 5.1.1
		C: RCPT TO:<late@example.test>
		S: 250
		C: RCPT TO:<many@example.test>
		S: 250
		C: RCPT TO:<fsync@example.test>
		S: 250
		C: RCPT TO:<bob@example.test> XMAILBOX=bad XSENTCOPY
		S: 250
		C: RCPT TO:<carol@example.test> XMAILBOX=Sent XFLAGS=\Seen XSENTCOPY
		S: 250
		C: RCPT TO:<carol@example.test> XFLAGS=\Nonsense
		S: 501 5.5.4
		C: DATA
		S: 354
		C: x
		C: .
		S: 250 2.0.0 stored as `+trace+`
		S: 452 4.2.2 mailbox full
		S: 452 4.2.2 mailbox full
		S: 451 4.3.0 temporary failure, try again later
		S: 550 5.2.0 mailbox name is not allowed
		S: 250 2.0.0
		C: RCPT TO:<alice@example.test>
		S: 503
		C: AUTH PLAIN
		S: 502
		C: QUIT
		S: 221
		S: EOF`)
	from := mail.Address{Local: "a", Domain: "b.test"}
	want := []store.Target{
		{Account: "alice@example.test", ReturnPath: from, Recipient: mail.Address{Local: "alice", Domain: "example.test"}, Quota: store.NoQuota()},
		{Account: "carol@example.test", Mailbox: "Sent", Flags: store.Flags{System: store.Seen}, ReturnPath: from, SentCopy: true, Quota: store.NoQuota()},
	}
	if diff := cmp.Diff(want, m.targets); diff != "" {
		t.Error("stored (-want +got):\n" + diff)
	}
	if got := strings.Count(log.String(), `msg="message delivered"`); got != 2 || !strings.Contains(log.String(), "trace="+trace) {
		t.Errorf("%d deliveries in the log:\n%s", got, log.String())
	}
}

// TestRefusedText: a message that is refused is refused for each recipient.
func TestRefusedText(t *testing.T) {
	addr := start(t, Options{Deliverer: store.NewDeliverer(&memory{}, people{}, store.NoQuota()), MaxSize: 1000})
	two := hello + "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<a@example.test>\nS: 250\nC: RCPT TO:<b@example.test>\nS: 250\nC: DATA\nS: 354\n"
	chat(t, addr, two+"C: x\ry\nC: .\nS: 550 5.5.2\nS: 550 5.5.2\nS: EOF")
	chat(t, addr, two+"C: "+strings.Repeat("x", 2000)+"\nC: .\nS: 552 5.3.4\nS: 552 5.3.4\nC: NOOP\nS: 250")
}

func TestPanicEndsOneSession(t *testing.T) {
	addr := start(t, Options{Deliverer: store.NewDeliverer(&memory{}, people{}, store.NoQuota())})
	chat(t, addr, hello+"C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<panic@example.test>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 421 4.3.0\nS: EOF")
	chat(t, addr, hello)
}

// TestPeerGoSMTP speaks with emersion's LMTP client.
func TestPeerGoSMTP(t *testing.T) {
	conn, err := net.Dial("tcp", start(t, Options{Deliverer: store.NewDeliverer(&memory{}, people{}, store.NoQuota())}))
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClientLMTP(conn)
	defer c.Close()
	if err := c.Hello("mta.test"); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("a@b.test", nil); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"alice@example.test", "late@example.test"} {
		if err := c.Rcpt(to, nil); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "Subject: x\r\n\r\n.\r\n")
	resp, err := w.CloseWithLMTPResponse()
	if len(resp) != 1 || err == nil || !strings.Contains(err.Error(), "mailbox full") {
		t.Errorf("replies %v, %v", resp, err)
	}
}
