package smtpclient_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

// zone is what the DNS knows of a name.
type zone struct {
	mx  []*net.MX
	ips []string
	err error
}

// world is a DNS (it is the Resolver) and the hosts behind its addresses.
type world struct {
	zones map[string]zone // by name with its final dot
	mu    sync.Mutex
	hosts map[string]func(net.Conn) // by ip:port
	dials []string
	wg    sync.WaitGroup
}

func newWorld(t *testing.T) *world {
	w := &world{zones: map[string]zone{}, hosts: map[string]func(net.Conn){}}
	t.Cleanup(w.wg.Wait)
	return w
}

// LookupMX implements smtpclient.Resolver.
func (w *world) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	z, ok := w.zones[name]
	if z.err != nil {
		return nil, z.err
	}
	if !ok || len(z.mx) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return z.mx, nil
}

// LookupIPAddr implements smtpclient.Resolver.
func (w *world) LookupIPAddr(_ context.Context, host string) ([]net.IPAddr, error) {
	z, ok := w.zones[host]
	if z.err != nil {
		return nil, z.err
	}
	if !ok || len(z.ips) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []net.IPAddr
	for _, ip := range z.ips {
		out = append(out, net.IPAddr{IP: net.ParseIP(ip)})
	}
	return out, nil
}

// domain adds a domain with these MX, the first of them preferred.
func (w *world) domain(name string, mxs ...string) {
	var z zone
	for i, mx := range mxs {
		z.mx = append(z.mx, &net.MX{Host: mx, Pref: uint16(10 * (i + 1))})
	}
	w.zones[name+"."] = z
}

func (w *world) address(host string, ips ...string) {
	z := w.zones[host+"."]
	z.ips = append(z.ips, ips...)
	w.zones[host+"."] = z
}

// serve makes f answer each connection to addr.
func (w *world) serve(addr string, f func(net.Conn)) { w.hosts[addr] = f }

func (w *world) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials = append(w.dials, addr)
	f := w.hosts[addr]
	if f == nil {
		return nil, errors.New("connection refused")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := ln.Accept()
	if err != nil {
		return nil, err
	}
	w.wg.Go(func() {
		defer server.Close()
		f(server)
	})
	return client, nil
}

func (w *world) options() smtpclient.Options {
	return smtpclient.Options{Hostname: "mx.us.example", Resolver: w, Dial: w.dial,
		TLS: &tls.Config{RootCAs: authority.pool}, Log: slog.New(slog.DiscardHandler),
		Timeouts: smtpclient.Timeouts{Connect: 5 * time.Second, Command: 5 * time.Second, Data: 5 * time.Second, Block: 5 * time.Second, Final: 5 * time.Second}}
}

// once is a delivery by a client that is closed then.
func once(o smtpclient.Options, ctx context.Context, env mail.Envelope, body mail.Body) []error {
	c := smtpclient.New(o)
	defer c.Close()
	return c.Deliver(ctx, env, body)
}

func envelope(t testing.TB, from string, to ...string) mail.Envelope {
	t.Helper()
	env := mail.Envelope{Trace: mail.NewTraceID()}
	parse := func(s string) mail.Address {
		a, err := mail.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if from != "" {
		env.From = parse(from)
	}
	for _, s := range to {
		env.To = append(env.To, mail.Recipient{Address: parse(s)})
	}
	return env
}

func replies(errs []error) []string {
	var out []string
	for _, err := range errs {
		if err == nil {
			out = append(out, "ok")
		} else {
			out = append(out, mail.StatusOf(err).Reply())
		}
	}
	return out
}

// chat plays a dialogue: lines that begin with "S: " are sent, those with
// "C: " expected; "C: ..." swallows a message up to its final dot, and "TLS"
// goes on over TLS. It reports what did not happen as said.
func chat(t *testing.T, dialogue string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(conn)
		for step := range strings.Lines(dialogue) {
			step = strings.TrimSpace(step)
			switch {
			case step == "":
			case step == "TLS":
				secure := tls.Server(conn, authority.server)
				if err := secure.Handshake(); err != nil {
					t.Errorf("handshake: %v", err)
					return
				}
				conn, r = secure, bufio.NewReader(secure)
			case strings.HasPrefix(step, "S: "):
				if _, err := conn.Write([]byte(step[3:] + "\r\n")); err != nil {
					t.Errorf("sending %q: %v", step, err)
					return
				}
			case step == "C: ...":
				for line := ""; line != ".\r\n"; {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						t.Errorf("reading a message: %v", err)
						return
					}
				}
			default:
				line, err := r.ReadString('\n')
				if want := strings.TrimSpace(strings.TrimPrefix(step, "C:")); strings.TrimSpace(line) != want {
					t.Errorf("got %q, %v; want %q", line, err, want)
					return
				}
			}
		}
	}
}

// certificates is an authority and a server certificate for *.test.
type certificates struct {
	pool   *x509.CertPool
	server *tls.Config
}

var authority = func() certificates {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.far.test", "relay.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return certificates{pool, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
}()
