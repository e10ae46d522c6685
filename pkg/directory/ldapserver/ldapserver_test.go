package ldapserver_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/wire/ldapwire"
)

const secret = "of the admin"

func base() directory.DN  { return directory.MustParseDN("o=mail") }
func admin() directory.DN { return base().Child("cn", "admin") }
func user(i int) directory.DN {
	return base().Child("uid", "u"+strconv.Itoa(i))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// saltedSHA512 is a hash that costs little, so that tests measure LDAP.
func saltedSHA512(password string) string {
	const salt = "salt"
	sum := sha512.Sum512([]byte(password + salt))
	return "{SSHA512}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}

// filled returns a tree of n users u0, u1, ... with the passwords p0, p1, ...
func filled(t testing.TB, n int) directory.Editor {
	t.Helper()
	tree, err := sqldir.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), sqldir.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	must(t, tree.Add(t.Context(), directory.Entry{DN: base(), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 64 { // together they share commits
		wg.Go(func() {
			for i := range next {
				name := strconv.Itoa(i)
				if err := tree.Add(t.Context(), directory.Entry{DN: user(i), Attributes: []directory.Attribute{
					{Name: "objectClass", Values: []string{"inetOrgPerson", "inetMailUser"}},
					{Name: "mail", Values: []string{"u" + name + "@example.com"}},
					{Name: "cn", Values: []string{"User " + name}}, {Name: "sn", Values: []string{"User"}},
					{Name: "mailQuota", Values: []string{"1000"}},
					{Name: "userPassword", Values: []string{saltedSHA512("p" + name)}},
				}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return tree
}

func options(tree directory.Tree) ldapserver.Options {
	rules, err := schema.Load()
	if err != nil {
		panic(err)
	}
	return ldapserver.Options{
		Schema:         rules,
		Tree:           tree,
		Access:         directory.Access{Admins: []directory.DN{admin()}},
		Accounts:       []ldapserver.Account{{DN: admin(), Password: secret}},
		Peers:          map[uint32]directory.DN{uint32(os.Getuid()): admin()},
		NamingContexts: []directory.DN{base()},
		Version:        "1.0",
	}
}

// serve runs a server until the test ends or stop, which drains it, is called.
func serve(t testing.TB, l net.Listener, o ldapserver.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	srv := ldapserver.New(o)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { srv.ServeConn(ctx, conn) })
		}
	})
	stop = sync.OnceFunc(func() {
		_ = l.Close()
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	must(t, err)
	return l
}

// certificate makes a self-signed one for localhost (the tools of OpenLDAP want
// a common name), and who trusts it.
func certificate(t testing.TB) (server, client *tls.Config, pem []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots, ServerName: "localhost"}, der
}

// raw is a client that says exactly what it is told.
type raw struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dialRaw(t testing.TB, l net.Listener) *raw {
	t.Helper()
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return rawOf(t, conn)
}

func rawOf(t testing.TB, conn net.Conn) *raw {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &raw{t, conn, bufio.NewReader(conn)}
}

// startTLS is a connection that is to go on in TLS.
func startTLS(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c := dialRaw(t, l)
	if res, _ := c.ask(1, &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}); res.Code != 0 {
		t.Fatalf("StartTLS: %+v", res)
	}
	return c.conn
}

// say sends messages in one write.
func (c *raw) say(messages ...ldapwire.Message) {
	c.t.Helper()
	var b []byte
	for _, m := range messages {
		b = ldapwire.AppendMessage(b, m)
	}
	_, err := c.conn.Write(b)
	must(c.t, err)
}

// hear returns the next message.
func (c *raw) hear() ldapwire.Message {
	c.t.Helper()
	pdu, err := ldapwire.ReadPDU(c.r, 1<<20)
	must(c.t, err)
	m, err := ldapwire.Decode(pdu)
	must(c.t, err)
	return m
}

// ask sends a request and returns its last answer's result and how many
// entries came before it.
func (c *raw) ask(id int, op ldapwire.Op, controls ...ldapwire.Control) (res ldapwire.Result, entries []*ldapwire.SearchEntry) {
	c.t.Helper()
	c.say(ldapwire.Message{ID: id, Op: op, Controls: controls})
	for {
		m := c.hear()
		if m.ID != id {
			c.t.Fatalf("answer %T to %d, not %d", m.Op, m.ID, id)
		}
		switch op := m.Op.(type) {
		case *ldapwire.SearchEntry:
			entries = append(entries, op)
		case *ldapwire.Done:
			return op.Result, entries
		case *ldapwire.BindResponse:
			return op.Result, nil
		case *ldapwire.ExtendedResponse:
			return op.Result, nil
		}
	}
}

func (c *raw) bind(dn directory.DN, password string) directory.ResultCode {
	c.t.Helper()
	res, _ := c.ask(1, simple(dn.String(), password))
	return directory.ResultCode(res.Code)
}

// ended reports whether the server closed without another word.
func (c *raw) ended() bool {
	_, err := c.r.ReadByte()
	return err != nil
}

func simple(name, password string) *ldapwire.BindRequest {
	return &ldapwire.BindRequest{Version: 3, Name: name, Auth: ldapwire.AuthSimple, Password: password}
}

func everything() *ldapwire.SearchRequest {
	return &ldapwire.SearchRequest{Base: "o=mail", Scope: 2, Filter: ldapwire.Filter{Kind: ldapwire.Present, Attribute: "objectClass"}}
}

func find(f ldapwire.Filter) *ldapwire.SearchRequest {
	req := everything()
	req.Filter = f
	return req
}

func equal(name, value string) ldapwire.Filter {
	return ldapwire.Filter{Kind: ldapwire.Equality, Attribute: name, Value: value}
}
