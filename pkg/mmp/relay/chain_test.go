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
	_, _ = fmt.Fprintf(h.Conn, "%s OK [CAPABILITY IMAP4rev1 MOVE] Logged in\r\n", h.Tag)
	lines := bufio.NewScanner(io.MultiReader(strings.NewReader(string(h.ReadAhead)), h.Conn))
	for lines.Scan() {
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

// TestChain runs a client through an MMP's front, the relay, the PROXY
// protocol and STARTTLS, and the store's own front with a proxy login.
func TestChain(t *testing.T) {
	server, roots := certificate(t)
	came := make(chan *mmp.Handover, 1)
	store := imapfront.New(imapfront.Options{FrontOptions: mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: people{}, Proxies: []auth.Proxy{{
			Name: "mmp", Secret: "s3cret", Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		}}}),
		Router: mmp.NewRouter(mmp.RouterOptions{Local: inbox{came}, LocalHosts: []string{"store.example.test"}}), TLS: server,
	}})
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	storeAddr := serve(t, listen.Options{ProxyFrom: loopback}, store.ServeConn)

	relay := New(Options{Address: storeAddr, TLSMode: StartTLS, TLS: &tls.Config{RootCAs: roots}, Authcid: "mmp", Secret: "s3cret", ProxyV2: true})
	front := imapfront.New(imapfront.Options{FrontOptions: mmp.FrontOptions{
		Authenticator: auth.New(auth.Options{Directory: people{}}),
		Router: mmp.NewRouter(mmp.RouterOptions{Remote: func(host string) (mmp.Backend, bool) {
			return relay, host == "store.example.test"
		}}),
	}})
	addr := serve(t, listen.Options{}, func(ctx context.Context, conn net.Conn) {
		front.ServeConn(ctx, tls.Server(elsewhere{conn}, server))
	})

	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	defer conn.Close()
	c := newScript(t, conn)
	c.expect("* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN")
	c.send("a LOGIN alice secret\r\nb NOOP\r\n")
	c.expect("a OK [CAPABILITY IMAP4REV1 MOVE] Logged in\r\n")
	c.expect("b OK did NOOP\r\n")
	h := <-came
	if h.Client.Addr.String() != "203.0.113.5:50000" || !h.Client.TLS || h.Identity.Proxy != "mmp" || h.Identity.User.Account() != "alice@example.test" {
		t.Errorf("the store saw %+v %+v", h.Client, h.Identity)
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
