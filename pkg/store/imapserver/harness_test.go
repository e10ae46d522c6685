package imapserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/imapserver"
	"mailsrv/pkg/store/sqlstore"
)

// oneUser is a Directory that knows alice, and whoever is among others.
type oneUser struct {
	directory.Directory
	user   directory.User
	others []directory.User
	err    error
}

func (d *oneUser) User(_ context.Context, login string) (directory.User, error) {
	for _, u := range d.others {
		if login == u.UID || login == u.Account() {
			return u, d.err
		}
	}
	return d.user, d.err
}

func (d *oneUser) Domain(context.Context, string) (directory.Domain, error) {
	return directory.Domain{}, directory.ErrNotFound
}

func (d *oneUser) Recipient(context.Context, mail.Address) (directory.Recipient, error) {
	return directory.Recipient{}, directory.ErrNotFound
}

func alice() directory.User {
	return directory.User{UID: "alice", Domain: "example.test", Status: directory.Active, Quota: -1, MessageQuota: -1}
}

// peer is a server with a store of its own, and whoever talks to it.
type peer struct {
	tb     testing.TB
	store  store.Store
	dir    *oneUser
	server *imapserver.Server
	done   chan error
}

func newPeer(tb testing.TB, change func(*imapserver.Options)) *peer {
	tb.Helper()
	s, err := sqlstore.Open(context.Background(), sqlstore.Options{Dir: tb.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	p := &peer{tb: tb, store: s, dir: &oneUser{user: alice()}, done: make(chan error, 16)}
	o := imapserver.Options{
		Store: s, Directory: p.dir, MaxMessage: 1 << 20, SpoolDir: tb.TempDir(), Quota: store.NoQuota(), ID: []string{"name", "mailsrv"},
	}
	if change != nil {
		change(&o)
	}
	p.server = imapserver.New(o)
	return p
}

func (p *peer) account() store.Account {
	p.tb.Helper()
	a, err := p.store.Account(context.Background(), p.dir.user.Account())
	if err != nil {
		p.tb.Fatal(err)
	}
	return a
}

// put stores a message without IMAP.
func (p *peer) put(mailbox string, message []byte, names ...string) store.UID {
	p.tb.Helper()
	box, err := p.account().Open(context.Background(), mailbox)
	if err != nil {
		p.tb.Fatal(err)
	}
	flags, err := store.ParseFlags(names)
	if err != nil {
		p.tb.Fatal(err)
	}
	date := time.Date(2026, time.March, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	uid, err := box.Append(context.Background(), mail.Bytes(message), flags, date, store.NoQuota())
	if err != nil {
		p.tb.Fatal(err)
	}
	return uid
}

// connect attaches a new client, logged in by the command with the tag "in".
func (p *peer) connect(ctx context.Context) net.Conn {
	p.tb.Helper()
	return p.connectAs(ctx, p.dir.user)
}

func (p *peer) connectAs(ctx context.Context, u directory.User) net.Conn {
	p.tb.Helper()
	client, server := tcpPair(p.tb)
	h := &mmp.Handover{
		Conn: server, Protocol: directory.ServiceIMAP, Tag: "in", Identity: auth.Identity{User: u, Login: u.UID},
		Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), TLS: true, Service: directory.ServiceIMAP},
		Log:    slog.New(slog.DiscardHandler),
	}
	go func() { p.done <- p.server.Attach(ctx, h) }()
	p.tb.Cleanup(func() {
		client.Close()
		if err := <-p.done; err != nil {
			p.tb.Errorf("Attach: %v", err)
		}
	})
	return client
}

func tcpPair(tb testing.TB) (client, server net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := ln.Accept()
		accepted <- c
	}()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		tb.Fatal(err)
	}
	return client, <-accepted
}

// chat is a client that reads and writes lines.
type chat struct {
	tb   testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (p *peer) chat(ctx context.Context) *chat {
	p.tb.Helper()
	return p.chatAs(ctx, p.dir.user)
}

func (p *peer) chatAs(ctx context.Context, u directory.User) *chat {
	p.tb.Helper()
	c := &chat{tb: p.tb, conn: p.connectAs(ctx, u)}
	c.r = bufio.NewReader(c.conn)
	if line := c.line(); !strings.HasPrefix(line, "in OK [CAPABILITY IMAP4rev1 ") {
		p.tb.Fatalf("login answered with %q", line)
	}
	return c
}

func (c *chat) send(s string) {
	c.tb.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.tb.Fatalf("sending %.80q: %v", s, err)
	}
}

// line reads one line without its CRLF; "(closed)" at the end.
func (c *chat) line() string {
	c.tb.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := c.r.ReadString('\n')
	switch {
	case err == io.EOF && line == "":
		return "(closed)"
	case err != nil:
		c.tb.Fatalf("reading after %q: %v", line, err)
	case !strings.HasSuffix(line, "\r\n"):
		c.tb.Fatalf("line %q does not end in CRLF", line)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// do sends a command and returns all lines up to its answer.
func (c *chat) do(command string) []string {
	c.tb.Helper()
	c.send("t " + command + "\r\n")
	var lines []string
	for {
		lines = append(lines, c.line())
		if last := lines[len(lines)-1]; strings.HasPrefix(last, "t ") || last == "(closed)" {
			return lines
		}
	}
}

// ok is do for a command that must succeed.
func (c *chat) ok(command string) []string {
	c.tb.Helper()
	lines := c.do(command)
	if !strings.HasPrefix(lines[len(lines)-1], "t OK") {
		c.tb.Fatalf("%s: %q", command, lines)
	}
	return lines
}

// readMail reads a message of testdata/mail with CRLF line ends.
func readMail(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "mail", name))
	if err != nil {
		tb.Fatal(err)
	}
	return []byte(strings.ReplaceAll(string(b), "\n", "\r\n"))
}

func simpleMail(n int) []byte {
	return fmt.Appendf(nil, "From: Sender %d <s%d@example.test>\r\nTo: alice@example.test\r\nSubject: message %d\r\n"+
		"Date: Tue, 03 Mar 2026 10:00:00 +0000\r\nMessage-ID: <%d@example.test>\r\n\r\nBody of message %d.\r\n", n, n, n, n, n)
}

// greeted puts a greeting before what the server sends.
type greeted struct {
	net.Conn
	greeting []byte
}

func (g *greeted) Read(b []byte) (int, error) {
	if len(g.greeting) > 0 {
		n := copy(b, g.greeting)
		g.greeting = g.greeting[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}
