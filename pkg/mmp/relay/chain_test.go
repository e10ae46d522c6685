package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mmp/imapfront"
	"mailsrv/pkg/mmp/pop3front"
)

// people is a directory of one user.
type people struct{ directory.Directory }

var alice = directory.User{UID: "alice", Domain: "example.test", Status: directory.Active, MailHost: "store.example.test"}

func (people) User(_ context.Context, login string) (directory.User, error) {
	if login != "alice@example.test" && login != "alice" {
		return directory.User{}, directory.ErrNotFound
	}
	return alice, nil
}

func (p people) Verify(ctx context.Context, login, password string) (directory.User, error) {
	if u, err := p.User(ctx, login); err == nil && password == "secret" {
		return u, nil
	}
	return directory.User{}, directory.ErrBadCredentials
}

// inbox is a store's door: it says who came and answers every command.
type inbox struct{ came chan *mmp.Handover }

func (b inbox) Attach(_ context.Context, h *mmp.Handover) error {
	defer h.Conn.Close()
	b.came <- h
	if h.Protocol == directory.ServicePOP3 {
		_, _ = io.WriteString(h.Conn, "+OK Logged in\r\n")
	} else {
		_, _ = fmt.Fprintf(h.Conn, "%s OK [CAPABILITY IMAP4rev1 MOVE] Logged in\r\n", h.Tag)
	}
	lines := bufio.NewScanner(io.MultiReader(strings.NewReader(string(h.ReadAhead)), h.Conn))
	for lines.Scan() {
		if h.Protocol == directory.ServicePOP3 {
			_, _ = fmt.Fprintf(h.Conn, "+OK did %s\r\n", lines.Text())
			continue
		}
		tag, rest, _ := strings.Cut(lines.Text(), " ")
		_, _ = fmt.Fprintf(h.Conn, "%s OK did %s\r\n", tag, rest)
	}
	return nil
}

// elsewhere makes a loopback client one of the wide world.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 5), Port: 50000}
}

// TestChain runs a client through an MMP's front, the relay and STARTTLS, and
// the store's own front with a proxy login. The store learns who the client is
// by the PROXY protocol, or by ID and XCLIENT, and from a trusted MMP alone.
func TestChain(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, c := range []struct {
		name     string
		protocol directory.Service
		proxyV2  bool
		trusted  []netip.Prefix
	}{
		{"IMAP with PROXY", directory.ServiceIMAP, true, nil},
		{"IMAP with ID", directory.ServiceIMAP, false, loopback},
		{"IMAP not trusted", directory.ServiceIMAP, false, nil},
		{"POP3 with PROXY", directory.ServicePOP3, true, nil},
		{"POP3 with XCLIENT", directory.ServicePOP3, false, loopback},
		{"POP3 not trusted", directory.ServicePOP3, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, roots := certificate(t)
			came := make(chan *mmp.Handover, 1)
			door := func(o mmp.FrontOptions) func(context.Context, net.Conn) {
				if c.protocol == directory.ServicePOP3 {
					return pop3front.New(pop3front.Options{FrontOptions: o}).ServeConn
				}
				return imapfront.New(imapfront.Options{FrontOptions: o}).ServeConn
			}
			var proxyFrom []netip.Prefix
			if c.proxyV2 {
				proxyFrom = loopback
			}
			storeAddr := serve(t, listen.Options{ProxyFrom: proxyFrom}, door(mmp.FrontOptions{
				Authenticator: auth.New(auth.Options{Directory: people{}, Proxies: []auth.Proxy{{Name: "mmp", Secret: "s3cret", Networks: loopback}}}),
				Router:        mmp.NewRouter(mmp.RouterOptions{Local: inbox{came}, LocalHosts: []string{"store.example.test"}}),
				TLS:           server, Trusted: c.trusted,
			}))
			relay := New(Options{
				Protocol: c.protocol, Address: storeAddr, TLSMode: StartTLS, TLS: &tls.Config{RootCAs: roots},
				Authcid: "mmp", Secret: "s3cret", ProxyV2: c.proxyV2,
			})
			front := door(mmp.FrontOptions{
				Authenticator: auth.New(auth.Options{Directory: people{}}),
				Router: mmp.NewRouter(mmp.RouterOptions{Remote: func(host string) (mmp.Backend, bool) {
					return relay, host == "store.example.test"
				}}),
			})
			addr := serve(t, listen.Options{}, func(ctx context.Context, conn net.Conn) { front(ctx, tls.Server(elsewhere{conn}, server)) })

			conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots})
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			defer conn.Close()
			client := newScript(t, conn)
			if c.protocol == directory.ServicePOP3 {
				client.expect("+OK")
				client.send("USER alice\r\nPASS secret\r\nNOOP\r\n")
				client.expect("+OK send the password")
				client.expect("+OK Logged in")
				client.expect("+OK did NOOP")
			} else {
				client.expect("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=")
				client.send("a LOGIN alice secret\r\nb NOOP\r\n")
				client.expect("a OK [CAPABILITY IMAP4rev1 MOVE] Logged in\r\n")
				client.expect("b OK did NOOP\r\n")
			}
			h := <-came
			if h.Identity.Proxy != "mmp" || h.Identity.User.Account() != "alice@example.test" || h.Hops != 1 {
				t.Errorf("the store saw %+v after %d hops", h.Identity, h.Hops)
			}
			if !c.proxyV2 && c.trusted == nil {
				if !h.Client.Addr.Addr().IsLoopback() || h.Client.Service != c.protocol {
					t.Errorf("the store believed %+v", h.Client)
				}
			} else if h.Client.Addr.String() != "203.0.113.5:50000" || !h.Client.TLS || h.Client.Service != c.protocol.OverTLS() || !h.Client.Peer.Addr().IsLoopback() {
				t.Errorf("the store saw %+v", h.Client)
			}
		})
	}
}

// serve listens until the test ends.
func serve(t *testing.T, o listen.Options, door func(context.Context, net.Conn)) string {
	t.Helper()
	ln, err := listen.Open(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- listen.Serve(ctx, ln, o, door) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// certificate makes one for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}
