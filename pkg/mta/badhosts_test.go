package mta_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/mta/smtpclient"
)

// badHost is how a next hop misbehaves: what it does at a step of the dialogue
// ("" is the greeting) in the place of its reply; false: it goes on.
type badHost func(conn net.Conn, step string) bool

func says(at, reply string) badHost {
	return func(conn net.Conn, step string) bool {
		if step != at {
			return false
		}
		_, _ = io.WriteString(conn, reply)
		return true
	}
}

func goes(at string) badHost {
	return func(conn net.Conn, step string) bool {
		if step == at {
			conn.Close()
		}
		return step == at
	}
}

// drips says a byte each ten seconds, for ever.
func drips(at, line string) badHost {
	return func(conn net.Conn, step string) bool {
		for step == at {
			for _, b := range []byte(line) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return true
				}
				time.Sleep(10 * time.Second)
			}
		}
		return false
	}
}

// floods says the same without end.
func floods(at, line string) badHost {
	return func(conn net.Conn, step string) bool {
		for step == at {
			if _, err := io.WriteString(conn, strings.Repeat(line, 100)); err != nil {
				return true
			}
		}
		return false
	}
}

func silent(at string) badHost {
	return func(conn net.Conn, step string) bool {
		if step == at {
			_, _ = io.Copy(io.Discard, conn)
		}
		return step == at
	}
}

// badHosts are the ways of hardening.md section 2 in which a next hop can fail.
var badHosts = map[string]badHost{
	"4xx greeting":                 says("", "450 4.3.2 not now\r\n"),
	"5xx greeting":                 says("", "554 5.3.2 no service\r\n"),
	"4xx at MAIL":                  says("MAIL", "451 4.3.0 trouble\r\n"),
	"4xx at RCPT":                  says("RCPT", "450 4.7.1 greylisted\r\n"),
	"421 at RCPT":                  says("RCPT", "421 4.3.2 going down\r\n"),
	"4xx at the dot":               says(".", "452 4.3.1 disk full\r\n"),
	"silent":                       silent(""),
	"silent at the dot":            silent("."),
	"greeting, a byte each 10 s":   drips("", "220-welcome\r\n"),
	"the dot's, a byte each 10 s":  drips(".", "250-welcome\r\n"),
	"never-ending greeting":        floods("", "220-welcome\r\n"),
	"never-ending EHLO":            floods("EHLO", "250-X\r\n"),
	"garbage":                      floods("", "\x00\xff\x13garbage\r\n"),
	"gone at EHLO":                 goes("EHLO"),
	"gone at DATA":                 goes("DATA"),
	"gone at the dot, not a word":  goes("."),
	"another reply than was asked": says("DATA", "220 hello again\r\n"),
	"not SMTP at all":              says("", "HTTP/1.1 400 Bad Request\r\n\r\n"),
}

// farHosts are all other hosts, on pipes: bad.test misbehaves while bad is set.
type farHosts struct {
	bad     atomic.Pointer[badHost]
	refuses atomic.Bool // bad.test takes no connection
	mu      sync.Mutex
	took    map[string]time.Time // by recipient, for the first time
}

func (f *farHosts) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return []*net.MX{{Host: "mx." + name}}, nil
}

func (f *farHosts) LookupIPAddr(_ context.Context, host string) ([]net.IPAddr, error) {
	ip := net.IPv4(198, 51, 100, 1)
	if host == "mx.bad.test." {
		ip = net.IPv4(198, 51, 100, 2)
	}
	return []net.IPAddr{{IP: ip}}, nil
}

// at is when the recipient's message was taken.
func (f *farHosts) at(recipient string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.took[recipient]
}

func (f *farHosts) dial(_ context.Context, _, addr string) (net.Conn, error) {
	var bad badHost
	if strings.HasPrefix(addr, "198.51.100.2:") {
		if f.refuses.Load() {
			return nil, errors.New("connection refused")
		}
		if b := f.bad.Load(); b != nil {
			bad = *b
		}
	}
	near, far := net.Pipe()
	go f.serve(far, bad)
	return near, nil
}

func (f *farHosts) serve(conn net.Conn, bad badHost) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	reply := func(step, text string) {
		if bad == nil || !bad(conn, step) {
			_, _ = io.WriteString(conn, text+"\r\n")
		}
	}
	var to []string
	reply("", "220 far")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "MAIL":
			to = nil
			reply(verb, "250 ok")
		case "RCPT":
			to = append(to, strings.Trim(strings.TrimPrefix(arg, "TO:"), "<>"))
			reply(verb, "250 ok")
		case "DATA":
			reply(verb, "354 go")
		case ".":
			f.mu.Lock()
			for _, a := range to {
				if bad == nil && f.took[a].IsZero() {
					f.took[a] = time.Now()
				}
			}
			f.mu.Unlock()
			reply(verb, "250 taken")
		case "QUIT":
			_, _ = io.WriteString(conn, "221 bye\r\n")
			return
		case "EHLO", "RSET":
			reply(verb, "250 ok")
		default: // a line of the message
		}
	}
}

// TestBadNextHops: a host that misbehaves, in whatever way, has its mail
// deferred and nobody else's; nothing is refused for good or bounced by it; and
// once it behaves the first attempt that finds out brings all of it, within
// five seconds. The timeouts are those of the product, the clock is not.
func TestBadNextHops(t *testing.T) {
	refuses := badHost(nil)
	all := map[string]*badHost{"connection refused": &refuses}
	for name, b := range badHosts {
		all[name] = &b
	}
	for name, b := range all {
		alone := map[string]bool{"4xx at MAIL": true, "4xx at RCPT": true} // may be meant for this message alone
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { oneBadHost(t, dir, b, alone[name]) })
		})
	}
}

func oneBadHost(t *testing.T, dir string, bad *badHost, alone bool) {
	f := &farHosts{took: map[string]time.Time{}}
	f.bad.Store(bad)
	f.refuses.Store(*bad == nil)
	client := smtpclient.New(smtpclient.Options{Hostname: "mx.us.example", Resolver: f, Dial: f.dial, Log: slog.New(slog.DiscardHandler)})
	var failed atomic.Int64
	q, err := queue.Open(t.Context(), queue.Options{Dir: dir, Next: client, Destination: mta.Destination, Hostname: "mx.us.example", Log: slog.New(slog.DiscardHandler),
		DelayWarning: -1, Attempted: func(o queue.Outcome) { failed.Add(int64(o.Failed)) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- q.Serve(ctx) }()
	send := func(to string) {
		env := mail.Envelope{From: mail.Address{Local: "s", Domain: "us.example"}, Proof: mail.LoggedIn, Trace: mail.NewTraceID(), To: []mail.Recipient{{Address: addr(t, to)}}}
		if err := q.Deliver(ctx, env, mail.Bytes("Subject: x\r\n\r\nhello\r\n"))[0]; err != nil {
			t.Fatal(err)
		}
	}
	const n = 30
	start := time.Now()
	for i := range n {
		send(fmt.Sprintf("u%d@bad.test", i))
		send(fmt.Sprintf("u%d@good.test", i))
	}
	time.Sleep(2 * time.Hour)
	for i := range n {
		if at := f.at(fmt.Sprintf("u%d@good.test", i)); at.IsZero() || at.Sub(start) > 5*time.Second {
			t.Errorf("a good host's mail was taken at %v, %v after it was sent", at, at.Sub(start))
		}
	}
	entries, err := q.List(ctx, queue.Filter{})
	if err != nil || len(entries) != n || failed.Load() > 0 {
		t.Errorf("%d of %d wait, %d failed, %v", len(entries), n, failed.Load(), err)
	}
	for _, e := range entries {
		if r := e.Recipients[0]; r.Attempts > 0 && !strings.HasPrefix(r.Status, "4") {
			t.Errorf("%s: %s", r.Address, r.Status)
		}
	}
	f.bad.Store(nil)
	f.refuses.Store(false)
	time.Sleep(3 * time.Hour)
	var first, last time.Time
	for i := range n {
		at := f.at(fmt.Sprintf("u%d@bad.test", i))
		if at.IsZero() {
			t.Errorf("u%d@bad.test still waits", i)
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	if took := last.Sub(first); took > 5*time.Second && !alone {
		t.Errorf("the backlog took %v from its first message on", took)
	}
	cancel()
	if err := errors.Join(<-served, client.Close(), q.Close()); err != nil {
		t.Error(err)
	}
}
