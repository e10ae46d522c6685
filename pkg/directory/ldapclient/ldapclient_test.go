package ldapclient_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/directory/ldapserver"
	"mailsrv/pkg/directory/sqldir"
)

var (
	admin   = directory.MustParseDN("cn=admin,o=mail")
	service = directory.MustParseDN("cn=mmp,o=mail")
)

const password = "of the service"

// certificate makes a self-signed one for localhost, and who trusts it.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openTree(t testing.TB) directory.Editor {
	t.Helper()
	tree, err := sqldir.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), sqldir.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, tree.Close()) })
	return tree
}

// options are those of a server with an admin and a service.
func options(tree directory.Tree) ldapserver.Options {
	return ldapserver.Options{
		Tree:   tree,
		Access: directory.Access{Admins: []directory.DN{admin}, Services: []directory.DN{service}},
		Accounts: []ldapserver.Account{
			{DN: admin, Password: password},
			{DN: service, Password: password},
		},
		NamingContexts: []directory.DN{directorytest.Base()},
	}
}

// serve runs a server on the listener until the test ends or stop is called.
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

func dial(t testing.TB, o ldapclient.Options) *ldapclient.Client {
	t.Helper()
	c, err := ldapclient.Dial(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// TestSuites proves the split directory equal to the joined one, over every
// kind of connection.
func TestSuites(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	for name, connect := range map[string]func(t *testing.T) directory.Editor{
		"tcp": func(t *testing.T) directory.Editor {
			l := listen(t, "tcp", "127.0.0.1:0")
			serve(t, l, options(openTree(t)))
			return dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: admin, Password: password, Probe: true})
		},
		"starttls": func(t *testing.T) directory.Editor {
			l := listen(t, "tcp", "127.0.0.1:0")
			o := options(openTree(t))
			o.TLS = serverTLS
			serve(t, l, o)
			return dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, StartTLS: true, TLS: clientTLS, BindDN: admin, Password: password})
		},
		"ldaps": func(t *testing.T) directory.Editor {
			l := listen(t, "tcp", "127.0.0.1:0")
			serve(t, tls.NewListener(l, serverTLS), options(openTree(t)))
			return dial(t, ldapclient.Options{URLs: []string{"ldaps://" + l.Addr().String()}, TLS: clientTLS, BindDN: admin, Password: password})
		},
		"ldapi": func(t *testing.T) directory.Editor {
			l := listen(t, "unix", filepath.Join(t.TempDir(), "s"))
			o := options(openTree(t))
			o.Peers = map[uint32]directory.DN{uint32(os.Getuid()): admin}
			serve(t, l, o)
			return dial(t, ldapclient.Options{URLs: []string{"ldapi://" + l.Addr().String()}, External: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("tree", func(t *testing.T) {
				directorytest.RunTree(t, func(t *testing.T) directory.Editor { return connect(t) })
			})
			t.Run("view", func(t *testing.T) {
				directorytest.Run(t, func(t *testing.T) directory.Editor { return connect(t) })
				directorytest.RunSecrets(t, func(t *testing.T) directory.Editor { return connect(t) })
				directorytest.RunAppPasswords(t, func(t *testing.T) directory.Editor { return connect(t) })
			})
		})
	}
}

// TestDownAtStart: roles start in any order.
func TestDownAtStart(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	must(t, l.Close())
	o := ldapclient.Options{URLs: []string{"ldap://" + address}, BindDN: service, Password: password}
	c := dial(t, o)
	if _, err := names(t, c, directory.Filter{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("search with no server: %v", err)
	}
	if err := c.Bind(t.Context(), admin, "x"); !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, directory.ErrBadCredentials) {
		t.Errorf("bind with no server: %v", err)
	}
	o.Probe = true
	if _, err := ldapclient.Dial(t.Context(), o); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("probing no server: %v", err)
	}
	serve(t, listen(t, "tcp", address), options(filled(t, 3)))
	if got, err := names(t, c, directory.Equal("objectClass", "person")); err != nil || len(got) != 3 {
		t.Errorf("after the server came: %v %v", got, err)
	}
}

// TestRestart: connections that died while idle are replaced unseen, for
// edits too, and drained ones leave nothing behind.
func TestRestart(t *testing.T) {
	tree := filled(t, 3)
	l := listen(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	stop := serve(t, l, options(tree))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + address}, BindDN: admin, Password: password})
	for range 3 {
		if got, err := names(t, c, directory.Filter{}); err != nil || len(got) != 4 {
			t.Fatalf("%v %v", got, err)
		}
		must(t, c.Bind(t.Context(), person(1), "p1"))
		stop()
		stop = serve(t, listen(t, "tcp", address), options(tree))
		must(t, c.Modify(t.Context(), person(2), []directory.Change{{Kind: directory.ReplaceValues,
			Attribute: directory.Attribute{Name: "sn", Values: []string{rand.Text()}}}}))
	}
}

// TestBadServicePassword is an outage, and never a user's wrong password.
func TestBadServicePassword(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 1)))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: "wrong"})
	_, err := names(t, c, directory.Filter{})
	if !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, directory.ErrBadCredentials) {
		t.Error(err)
	}
}

// TestBindsDoNotMix: searches keep the service's rights however many users
// bind, and a password is right or wrong for each by itself.
func TestBindsDoNotMix(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 4)))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password, Connections: 2, Binders: 2})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 10 {
				pw, want := "p"+string(rune('0'+i)), error(nil)
				if n%2 == 1 {
					pw, want = "wrong", directory.ErrBadCredentials
				}
				if err := c.Bind(t.Context(), person(i), pw); !errors.Is(err, want) {
					t.Errorf("user %d, password %q: %v", i, pw, err)
				}
				if got, err := names(t, c, directory.Filter{Attribute: "description"}); err != nil || len(got) != 4 {
					t.Errorf("search: %v %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestEmptyPassword never reaches a server that would take it for anonymous.
func TestEmptyPassword(t *testing.T) {
	asked := make(chan struct{}, 1)
	l := listen(t, "tcp", "127.0.0.1:0")
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			asked <- struct{}{}
			_ = conn.Close()
		}
	}()
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}})
	for _, dn := range []directory.DN{person(1), {}} {
		if err := c.Bind(t.Context(), dn, ""); !errors.Is(err, directory.ErrBadCredentials) {
			t.Errorf("%v: %v", dn, err)
		}
	}
	if err := c.Bind(t.Context(), directory.DN{}, "x"); !errors.Is(err, directory.ErrBadCredentials) {
		t.Errorf("root: %v", err)
	}
	select {
	case <-asked:
		t.Error("the server was asked")
	default:
	}
}

// TestManyEntries: results beyond a batch stream, nested searches during them
// need no luck, and one may stop early.
func TestManyEntries(t *testing.T) {
	const n = 2500
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, n)))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password, Connections: 2})
	got, err := names(t, c, directory.Equal("objectClass", "person"))
	if err != nil || len(got) != n {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for range 3 {
		for _, err := range c.Search(t.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree}) {
			must(t, err)
			if _, err := names(t, c, directory.Equal("uid", "u7")); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	for e, err := range c.Search(t.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, SizeLimit: 2}) {
		if r, ok := errors.AsType[*directory.ResultError](err); err != nil && (!ok || r.Code != directory.SizeLimitExceeded) {
			t.Errorf("%v %v", e, err)
		}
	}
}

// TestLeavesNoGoroutines after all of it.
func TestLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("work", func(t *testing.T) {
		l := listen(t, "tcp", "127.0.0.1:0")
		serve(t, l, options(filled(t, 10)))
		c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, _ = names(t, c, directory.Filter{})
				_ = c.Bind(t.Context(), person(1), "p1")
			})
		}
		wg.Wait()
	})
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestDialRefuses(t *testing.T) {
	for name, o := range map[string]ldapclient.Options{
		"nothing":           {},
		"no scheme":         {URLs: []string{"localhost"}},
		"http":              {URLs: []string{"http://localhost"}},
		"no host":           {URLs: []string{"ldap://"}},
		"search in the URL": {URLs: []string{"ldap://localhost/o=mail"}},
		"no socket":         {URLs: []string{"ldapi://"}},
		"clear text":        {URLs: []string{"ldap://ldap.example.com"}},
		"no password":       {URLs: []string{"ldap://localhost"}, BindDN: admin},
	} {
		if c, err := ldapclient.Dial(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
			_ = c.Close()
		}
	}
	for _, o := range []ldapclient.Options{
		{URLs: []string{"ldap://ldap.example.com"}, StartTLS: true},
		{URLs: []string{"ldap://ldap.example.com"}, Plaintext: true},
		{URLs: []string{"ldaps://ldap.example.com:1636/"}},
		{URLs: []string{"ldap://[::1]:10389", "ldapi://%2Frun%2Fldapi", "ldapi:///run/ldapi"}},
	} {
		dial(t, o)
	}
}

func itoa(i int) string { return strconv.Itoa(i) }

func person(i int) directory.DN {
	return directorytest.Base().Child("uid", "u"+itoa(i))
}

// filled returns a tree of n people below the base.
func filled(t testing.TB, n int) directory.Editor {
	t.Helper()
	tree := openTree(t)
	must(t, tree.Add(t.Context(), directory.Entry{DN: directorytest.Base(), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 64 { // together they share commits
		wg.Go(func() {
			for i := range next {
				password := saltedSHA512("p" + itoa(i))
				if err := tree.Add(t.Context(), directory.Entry{DN: person(i), Attributes: []directory.Attribute{
					{Name: "objectClass", Values: []string{"inetOrgPerson", "inetMailUser"}},
					{Name: "mail", Values: []string{"u" + itoa(i) + "@example.com"}},
					{Name: "cn", Values: []string{"User " + itoa(i)}}, {Name: "sn", Values: []string{"User"}},
					{Name: "description", Values: []string{"nobody else's"}},
					{Name: "userPassword", Values: []string{password}},
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

func names(t testing.TB, tree directory.Tree, f directory.Filter) (names []string, err error) {
	for e, err := range tree.Search(t.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, Filter: f}) {
		if err != nil {
			return names, err
		}
		names = append(names, e.DN.RDNs[0].String())
	}
	slices.Sort(names)
	return names, nil
}

// saltedSHA512 is a hash that costs little, so that tests measure LDAP.
func saltedSHA512(password string) string {
	const salt = "salt"
	sum := sha512.Sum512([]byte(password + salt))
	return "{SSHA512}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}

// TestClosed: a closed client is an outage, not a panic.
func TestClosed(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 1)))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password, Probe: true})
	must(t, c.Close())
	if _, err := names(t, c, directory.Filter{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
}
