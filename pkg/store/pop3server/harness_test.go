package pop3server_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/pop3server"
	"mailsrv/pkg/store/sqlstore"
)

// oneUser is a Directory that knows alice.
type oneUser struct {
	directory.Directory
	user directory.User
	err  error
}

func (d *oneUser) User(context.Context, string) (directory.User, error) { return d.user, d.err }

// peer is a server with a store of its own, and whoever talks to it.
type peer struct {
	tb      testing.TB
	dataDir string
	engine  store.Store
	dir     *oneUser
	o       pop3server.Options
	server  *pop3server.Server
}

func newPeer(tb testing.TB, o pop3server.Options) *peer {
	tb.Helper()
	p := &peer{tb: tb, dataDir: tb.TempDir(), o: o, dir: &oneUser{user: directory.User{UID: "alice", Domain: "example.test", Status: directory.Active}}}
	p.open()
	tb.Cleanup(func() { _ = p.engine.Close() })
	return p
}

// open opens the store, again after it was closed.
func (p *peer) open() {
	p.tb.Helper()
	var err error
	if p.engine, err = sqlstore.Open(context.Background(), sqlstore.Options{Dir: p.dataDir, Log: slog.New(slog.DiscardHandler)}); err != nil {
		p.tb.Fatal(err)
	}
	o := p.o
	if o.Store == nil {
		o.Store = p.engine
	}
	o.Directory = p.dir
	p.server = pop3server.New(o)
}

// inbox is what an IMAP session would see.
func (p *peer) inbox() store.Mailbox {
	p.tb.Helper()
	a, err := p.engine.Account(context.Background(), p.dir.user.Account())
	if err != nil {
		p.tb.Fatal(err)
	}
	box, err := a.Open(context.Background(), "INBOX")
	if err != nil {
		p.tb.Fatal(err)
	}
	return box
}

func (p *peer) put(messages ...string) {
	p.tb.Helper()
	for _, m := range messages {
		if _, err := p.inbox().Append(context.Background(), mail.Bytes(m), store.Flags{}, time.Now(), store.NoQuota()); err != nil {
			p.tb.Fatal(err)
		}
	}
}

func (p *peer) handover(conn net.Conn, readAhead string) *mmp.Handover {
	return &mmp.Handover{
		Conn: conn, ReadAhead: []byte(readAhead), Protocol: directory.ServicePOP3, Identity: auth.Identity{User: p.dir.user, Login: "alice"},
		Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), TLS: true, Service: directory.ServicePOP3},
		Log:    slog.New(slog.DiscardHandler),
	}
}

// chat is a client that reads and writes lines.
type chat struct {
	tb   testing.TB
	conn net.Conn
	r    *bufio.Reader
	done chan error
}

// login attaches a client and reads the answer to its login.
func (p *peer) login(ctx context.Context, change func(*mmp.Handover)) *chat {
	p.tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.tb.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		p.tb.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		p.tb.Fatal(err)
	}
	h := p.handover(far, "")
	if change != nil {
		change(h)
	}
	_ = near.SetDeadline(time.Now().Add(60 * time.Second))
	c := &chat{tb: p.tb, conn: near, r: bufio.NewReader(near), done: make(chan error, 1)}
	go func() { c.done <- p.server.Attach(ctx, h) }()
	p.tb.Cleanup(c.hangUp)
	if line := c.line(); !strings.HasPrefix(line, "+OK ") {
		p.tb.Fatalf("login answered with %q", line)
	}
	return c
}

// hangUp closes without QUIT, and waits for the session to end.
func (c *chat) hangUp() {
	c.conn.Close()
	if c.done != nil {
		if err := <-c.done; err != nil {
			c.tb.Errorf("Attach: %v", err)
		}
		c.done = nil
	}
}

func (c *chat) line() string {
	c.tb.Helper()
	line, err := c.r.ReadString('\n')
	if err == io.EOF && line == "" {
		return "(closed)"
	}
	if err != nil {
		c.tb.Fatalf("reading after %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// do sends a command and returns its answer's first line.
func (c *chat) do(command string) string {
	c.tb.Helper()
	if _, err := io.WriteString(c.conn, command+"\r\n"); err != nil {
		c.tb.Fatal(err)
	}
	return c.line()
}

// text is do for a command with a multi-line answer, of which it returns all
// but the first and the last line.
func (c *chat) text(command string) string {
	c.tb.Helper()
	if line := c.do(command); !strings.HasPrefix(line, "+OK") {
		c.tb.Fatalf("%s: %q", command, line)
	}
	var b strings.Builder
	for {
		line := c.line()
		if line == "." {
			return b.String()
		}
		b.WriteString(line + "\r\n")
	}
}
