package smtpserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// intake takes mail for us.test, and from users for everybody.
type intake struct {
	mu       sync.Mutex
	messages []message
	fail     error // of Data
}

type message struct {
	From  mail.Address
	To    []mail.Address
	Text  string
	Login string
	Helo  string
	TLS   bool
}

func (i *intake) Begin(_ context.Context, s *mta.Session, m mta.Sender) (mta.Transaction, error) {
	t := &transaction{intake: i, session: s, trace: m.Trace, message: message{From: m.From, Helo: s.Helo, TLS: s.TLS != nil}}
	if s.Identity != nil {
		t.message.Login = s.Identity.User.Account()
	}
	if t.trace == "" {
		t.trace = mail.NewTraceID()
	}
	return t, nil
}

func (i *intake) all() []message {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]message(nil), i.messages...)
}

type transaction struct {
	intake  *intake
	session *mta.Session
	trace   mail.TraceID
	message message
}

func (t *transaction) Trace() mail.TraceID { return t.trace }

func (t *transaction) Recipient(_ context.Context, r mail.Recipient) error {
	if d := r.Address.Domain; d != "us.test" && d != "" && t.session.Identity == nil {
		return mail.Refuse(7, 1, "relay denied")
	}
	if strings.ContainsAny(r.Address.Local, "%!@") {
		return mail.Refuse(7, 1, "relay denied")
	}
	t.message.To = append(t.message.To, r.Address)
	return nil
}

func (t *transaction) Data(_ context.Context, body mail.Body) error {
	if t.intake.fail != nil {
		return t.intake.fail
	}
	r, err := body.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	t.message.Text = string(b)
	t.intake.mu.Lock()
	defer t.intake.mu.Unlock()
	t.intake.messages = append(t.intake.messages, t.message)
	return nil
}

// logins knows alice with the password secret. Its mechanisms are as plain as
// can be: what package auth makes of them is tested there.
type logins struct{}

func (logins) Login(_ context.Context, _ auth.Client, login, password string) (auth.Identity, error) {
	switch {
	case login == "outage":
		return auth.Identity{}, auth.ErrUnavailable
	case login == "throttled":
		return auth.Identity{}, auth.ErrThrottled
	case login == "closed":
		return auth.Identity{}, auth.ErrRefused
	case login != "alice" || password != "secret":
		return auth.Identity{}, auth.ErrBadCredentials
	}
	return auth.Identity{Login: login, Mechanism: "PLAIN", User: directory.User{UID: login, Domain: "us.test"}}, nil
}

func (logins) Mechanisms(c auth.Client) []string {
	if !c.Private() {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

func (l logins) Start(mechanism string, c auth.Client) (auth.Exchange, error) {
	if mechanism != "PLAIN" && mechanism != "LOGIN" || !c.Private() {
		return nil, auth.ErrMechanism
	}
	return &exchangeFake{login: mechanism == "LOGIN"}, nil
}

type exchangeFake struct {
	logins
	login bool
	said  [][]byte
	id    auth.Identity
}

func (x *exchangeFake) Identity() auth.Identity { return x.id }

func (x *exchangeFake) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response != nil {
		x.said = append(x.said, response)
	}
	switch {
	case x.login && len(x.said) == 0:
		return []byte("Username:"), false, nil
	case x.login && len(x.said) == 1:
		return []byte("Password:"), false, nil
	case !x.login && len(x.said) == 0:
		return nil, false, nil
	case !x.login:
		x.said = bytes.Split(x.said[0], []byte{0})
		if len(x.said) != 3 {
			return nil, false, auth.ErrMalformed
		}
		if z := x.said[0]; len(z) > 0 && !bytes.Equal(z, x.said[1]) {
			return nil, false, auth.ErrBadCredentials
		}
		x.said = x.said[1:]
	}
	var err error
	x.id, err = x.Login(ctx, auth.Client{}, string(x.said[0]), string(x.said[1]))
	return nil, err == nil, err
}

// start serves connections on loopback until the test ends, and waits for all.
func start(t testing.TB, o Options) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Hostname, o.SpoolDir = "mx.us.test", t.TempDir()
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

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// chat plays a dialogue: "C: text" is sent with CRLF, "R: quoted" as it is;
// "S: prefix" wants a reply that begins so, with its lines parted by |; "S: EOF" wants
// the end of the connection.
func chat(t testing.TB, conn net.Conn, script string) {
	t.Helper()
	r := bufio.NewReader(conn)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		kind, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch kind {
		case "C":
			_, _ = io.WriteString(conn, text+"\r\n")
		case "R":
			var raw string
			if _, err := fmt.Sscanf(text, "%q", &raw); err != nil {
				t.Fatalf("bad script line %q: %v", line, err)
			}
			_, _ = io.WriteString(conn, raw)
		case "S":
			text = strings.ReplaceAll(text, "|", "\r\n")
			got, err := readReply(r)
			if text == "EOF" {
				if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("want the end of the connection, got %q, %v", got, err)
				}
			} else if err != nil || !strings.HasPrefix(got, text) {
				t.Fatalf("want %q, got %q, %v", text, got, err)
			}
		default:
			t.Fatalf("bad script line %q", line)
		}
	}
}

func readReply(r *bufio.Reader) (string, error) {
	var all string
	for {
		line, err := r.ReadString('\n')
		all += line
		if err != nil || len(line) < 4 || line[3] != '-' {
			return all, err
		}
	}
}
