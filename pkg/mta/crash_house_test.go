package mta_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/mta/smtpclient"
	"mailsrv/pkg/mta/smtpserver"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// crashHouse is the MTA with all its engines and doors, as the daemon wires
// them: SMTP in, directory, store and queue on disk, SMTP out to one sink that
// is every other host. It is told where it passes by, and can die there.
type crashHouse struct {
	tree    *sqldir.Dir
	store   *sqlstore.Store
	queue   *queue.Queue
	client  *smtpclient.Client
	door    *smtpserver.Server
	settled chan struct{}
}

// at is called with the name of each point that the house comes to.
type at func(point string)

func crashOptions() (directory.ViewOptions, error) {
	base, err := directory.ParseDN("o=isp")
	return directory.ViewOptions{Base: base, DefaultDomain: "us.example", MailHost: "a.us.example"}, err
}

// openCrashHouse opens the house in dir, in the life of that number, which it
// says in EHLO. The sink listens on port of 127.0.0.1. A store that is flaky says at times that it could not be reached, before or
// after it took the message.
func openCrashHouse(ctx context.Context, dir string, port, life int, flaky bool, at at) (h *crashHouse, err error) {
	h = &crashHouse{settled: make(chan struct{}, 1)}
	log := slog.New(logPoints{at})
	o, err := crashOptions()
	if err != nil {
		return nil, err
	}
	if h.tree, err = sqldir.Open(ctx, filepath.Join(dir, "directory.db"), sqldir.Options{Log: log}); err != nil {
		return nil, err
	}
	view := directory.NewView(h.tree, o)
	if h.store, err = sqlstore.Open(ctx, sqlstore.Options{Dir: filepath.Join(dir, "store"), Mailboxes: sqlstore.DefaultMailboxes(), Log: log}); err != nil {
		return nil, err
	}
	local := passing{store.NewDeliverer(h.store, view, store.NoQuota()), "through", at, flaky}
	stores := func(string) (mail.Deliverer, error) { return local, nil }
	r := &mta.Resolver{Directory: passingView{view, at}, Lists: view, Hosts: []string{"mx.us.example"}, SRS: mta.NewSRS([]byte("key"))}
	h.client = smtpclient.New(smtpclient.Options{Hostname: fmt.Sprintf("life%d.us.example", life), Resolver: oneHost{}, Port: port, AllowLoopback: true, Log: log})
	router := passing{mta.NewRouter(r, mta.Ways{Stores: stores, Remotes: h.client.Via}), "attempt", at, false}
	h.queue, err = queue.Open(ctx, queue.Options{Dir: filepath.Join(dir, "queue"), Next: router, Hostname: "mx.us.example", Log: log,
		Destination: mta.Destination, MaxPerDestination: 1, Backoff: []time.Duration{20 * time.Millisecond}, DelayWarning: -1,
		Attempted: func(o queue.Outcome) {
			if o.Failed > 0 {
				at("dsn: written")
			}
			at("settled")
			select {
			case h.settled <- struct{}{}:
			default:
			}
		}})
	if err != nil {
		return nil, err
	}
	agent := mta.New(mta.Options{Hostname: "mx.us.example", Resolver: r, Stores: stores, Queue: passing{h.queue, "queue", at, false},
		DefaultDomain: "us.example", SentMailbox: "Sent", Log: log, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	alice, err := view.User(ctx, "alice")
	if err != nil {
		return nil, err
	}
	h.door = smtpserver.New(smtpserver.Options{Intake: crashIntake{agent, alice, at}, Hostname: "mx.us.example", SpoolDir: dir, Log: log})
	return h, nil
}

func (h *crashHouse) close() error {
	return errors.Join(h.client.Close(), h.queue.Close(), h.store.Close(), h.tree.Close())
}

// logPoints makes each event of the log a point: the queue says what it does
// while it does it.
type logPoints struct{ at at }

func (l logPoints) Enabled(context.Context, slog.Level) bool { return true }
func (l logPoints) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logPoints) WithGroup(string) slog.Handler            { return l }
func (l logPoints) Handle(_ context.Context, r slog.Record) error {
	l.at("log: " + r.Message)
	return nil
}

// passing is a Deliverer with a point before and after.
type passing struct {
	mail.Deliverer
	name  string
	at    at
	flaky bool
}

func (p passing) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	p.at(p.name + ": before")
	away := mail.All(len(env.To), errors.New("away"))
	mood := 0
	if p.flaky {
		mood = rand.IntN(6)
	}
	if mood == 1 {
		return away
	}
	errs := p.Deliverer.Deliver(ctx, env, body)
	for _, err := range errs {
		if mail.IsPermanent(err) {
			p.at(p.name + ": refused")
		}
	}
	p.at(p.name + ": after")
	if mood == 2 {
		return away
	}
	return errs
}

type passingView struct {
	*directory.View
	at at
}

func (v passingView) Recipient(ctx context.Context, a mail.Address) (directory.Recipient, error) {
	v.at("resolve: before")
	r, err := v.View.Recipient(ctx, a)
	v.at("resolve: after")
	return r, err
}

// oneHost is a DNS in which every domain is on this machine.
type oneHost struct{}

func (oneHost) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mx." + name, Pref: 10}}, nil
}

func (oneHost) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
}

// crashIntake takes what comes from our own domain as alice's submission.
type crashIntake struct {
	*mta.Agent
	alice directory.User
	at    at
}

func (i crashIntake) Begin(ctx context.Context, s *mta.Session, m mta.Sender) (mta.Transaction, error) {
	if m.From.Domain == "us.example" {
		login := *s
		login.Submission, login.Identity = true, &auth.Identity{User: i.alice, Login: "alice"}
		s = &login
	}
	t, err := i.Agent.Begin(ctx, s, m)
	return crashTransaction{t, i.at}, err
}

type crashTransaction struct {
	mta.Transaction
	at at
}

func (t crashTransaction) Data(ctx context.Context, body mail.Body) error {
	t.at("accept: taken")
	err := t.Transaction.Data(ctx, body)
	t.at("accept: before the reply")
	return err
}

// crashChild serves the house until it is killed, or comes to the point for
// the nth time; it leaves when its parent does.
func crashChild(dir string, port, life int, point string, nth int) error {
	var passed atomic.Int64
	h, err := openCrashHouse(context.Background(), dir, port, life, true, func(p string) {
		if p == point && passed.Add(1) == int64(nth) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = h.queue.Serve(context.Background()) }()
	fmt.Println("ready", l.Addr())
	go func() {
		for bufio.NewScanner(os.Stdin).Scan() {
		}
		os.Exit(0)
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go h.door.ServeConn(context.Background(), conn)
	}
}

// farHost is the independent sink: an SMTP server in the test's own process,
// which writes down what it took before it says so. Recipients named "no" are
// refused for good, every seventh other for now.
type farHost struct {
	net.Listener
	// at is called with what a client has come to.
	at func(point string)

	mu    sync.Mutex
	asked int
	taken []farMessage
}

type farMessage struct {
	life int    // of the client
	to   string // one recipient
	text string
}

func newFarHost() (*farHost, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	f := &farHost{Listener: l, at: func(string) {}}
	if err == nil {
		go f.serve()
	}
	return f, err
}

func (f *farHost) port() int { return f.Addr().(*net.TCPAddr).Port }

func (f *farHost) serve() {
	for {
		conn, err := f.Accept()
		if err != nil {
			return
		}
		go f.session(conn)
	}
}

func (f *farHost) session(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(s string) { _, _ = conn.Write([]byte(s + "\r\n")) }
	say("220 far.test")
	var to []string
	life := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch verb = strings.ToUpper(verb); {
		case verb == "MAIL FROM":
			f.at("relay: MAIL")
			to = nil
			say("250 ok")
		case verb == "RCPT TO":
			f.at("relay: RCPT")
			address, _, _ := strings.Cut(strings.TrimPrefix(arg, "<"), ">")
			say(f.judge(address, &to))
		case verb == "DATA" && len(to) == 0:
			say("503 no recipient")
		case verb == "DATA":
			say("354 go")
			text, err := readDots(r)
			if err != nil {
				return
			}
			f.at("relay: dot")
			f.mu.Lock()
			for _, a := range to {
				f.taken = append(f.taken, farMessage{life, a, text})
			}
			f.mu.Unlock()
			f.at("relay: taken")
			say("250 taken")
			f.at("relay: told")
		case strings.HasPrefix(verb, "EHLO LIFE"):
			_, _ = fmt.Sscanf(verb, "EHLO LIFE%d", &life)
			say("250 ok")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (f *farHost) judge(address string, to *[]string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	switch {
	case strings.HasPrefix(address, "no@"):
		return "550 5.1.1 no such user"
	case f.asked%7 == 0:
		return "451 4.7.1 come again"
	}
	*to = append(*to, address)
	return "250 ok"
}

// readDots reads a message up to its final dot.
func readDots(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}
