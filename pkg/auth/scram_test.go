package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

// vault is people with SCRAM secrets.
type vault struct {
	people
	secret password.SCRAM
	err    error
}

func (v *vault) SCRAM(_ context.Context, login string) (directory.User, password.SCRAM, error) {
	if v.err != nil {
		return directory.User{}, password.SCRAM{}, v.err
	}
	if login != "user" && login != "us,=er" {
		return directory.User{}, password.SCRAM{}, directory.ErrNotFound
	}
	return directory.User{UID: login, Domain: "x", Status: directory.Active}, v.secret, nil
}

func newVault(t testing.TB) *vault {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	return &vault{people: people{status: directory.Active}, secret: password.DeriveSCRAM("pencil", salt, 4096)}
}

// TestSCRAMExample is the exchange of RFC 7677 §3, octet by octet.
func TestSCRAMExample(t *testing.T) {
	l := New(Options{Directory: newVault(t)})
	l.nonce = func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }
	x, err := l.Start("SCRAM-SHA-256", client("127.0.0.1", false))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ say, want string }{
		{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
		{"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		got, done, err := x.Next(t.Context(), []byte(step.say))
		if err != nil || done || string(got) != step.want {
			t.Fatalf("%q: got %q %v %v, want %q", step.say, got, done, err, step.want)
		}
	}
	if _, done, err := x.Next(t.Context(), []byte{}); err != nil || !done || x.Identity().User.UID != "user" || x.Identity().Mechanism != "SCRAM-SHA-256" {
		t.Errorf("%+v %v", x.Identity(), err)
	}
}

// scramClient is the client's side (RFC 5802 §3), with what a test bends.
type scramClient struct {
	gs2, name, password string
	binding             []byte
	bend                func(final string) string
}

// run carries an exchange to its end.
func (s scramClient) run(ctx context.Context, x Exchange) error {
	bare := "n=" + s.name + ",r=clientnonce"
	server, _, err := x.Next(ctx, []byte(s.gs2+bare))
	if err != nil {
		return err
	}
	parts := strings.Split(string(server), ",")
	salt, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(parts[1], "s="))
	if err != nil {
		return err
	}
	secret := password.DeriveSCRAM(s.password, salt, 4096)
	final := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.gs2), s.binding...)) + "," + parts[0]
	said := bare + "," + string(server) + "," + final
	proof := clientKey(s.password, salt)
	subtle.XORBytes(proof, proof, sum(secret.StoredKey, said))
	message := final + ",p=" + base64.StdEncoding.EncodeToString(proof)
	if s.bend != nil {
		message = s.bend(message)
	}
	verifier, _, err := x.Next(ctx, []byte(message))
	if err != nil {
		return err
	}
	if want := "v=" + base64.StdEncoding.EncodeToString(sum(secret.ServerKey, said)); string(verifier) != want {
		return fmt.Errorf("the server proved nothing: %q", verifier)
	}
	_, done, err := x.Next(ctx, []byte{})
	if err == nil && !done {
		err = errors.New("not done")
	}
	return err
}

// clientKey is what only who has the password can derive.
func clientKey(password string, salt []byte) []byte {
	u := sum([]byte(password), string(salt)+"\x00\x00\x00\x01")
	key := slices.Clone(u)
	for range 4095 {
		u = sum([]byte(password), string(u))
		subtle.XORBytes(key, key, u)
	}
	return sum(key, "Client Key")
}

func TestSCRAM(t *testing.T) {
	near, far := tlsPair(t, nil)
	exporter, err := near.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mechanism string
		client    scramClient
		want      error
	}{
		"plain":                 {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencil"}, nil},
		"own authzid":           {"SCRAM-SHA-256", scramClient{gs2: "n,a=user,", name: "user", password: "pencil"}, nil},
		"escaped name":          {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "us=2C=3Der", password: "pencil"}, nil},
		"wrong password":        {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencils"}, ErrBadCredentials},
		"unknown user":          {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "nobody", password: "pencil"}, ErrBadCredentials},
		"foreign authzid":       {"SCRAM-SHA-256", scramClient{gs2: "n,a=root,", name: "user", password: "pencil"}, ErrBadCredentials},
		"bad escape":            {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "us=2cer", password: "pencil"}, ErrMalformed},
		"no name":               {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "", password: "pencil"}, ErrMalformed},
		"unknown extension":     {"SCRAM-SHA-256", scramClient{gs2: "n,,m=x,", name: "user", password: "pencil"}, ErrMalformed},
		"bad flag":              {"SCRAM-SHA-256", scramClient{gs2: "z,,", name: "user", password: "pencil"}, ErrMalformed},
		"PLUS":                  {"SCRAM-SHA-256-PLUS", scramClient{gs2: "p=tls-exporter,,", name: "user", password: "pencil", binding: exporter}, nil},
		"PLUS of another TLS":   {"SCRAM-SHA-256-PLUS", scramClient{gs2: "p=tls-exporter,,", name: "user", password: "pencil", binding: bytes.Repeat([]byte{1}, 32)}, ErrBadCredentials},
		"PLUS without binding":  {"SCRAM-SHA-256-PLUS", scramClient{gs2: "n,,", name: "user", password: "pencil"}, ErrMalformed},
		"PLUS, unknown binding": {"SCRAM-SHA-256-PLUS", scramClient{gs2: "p=tls-magic,,", name: "user", password: "pencil"}, ErrMalformed},
		"PLUS was stripped":     {"SCRAM-SHA-256", scramClient{gs2: "y,,", name: "user", password: "pencil"}, ErrMalformed},
		"binding without PLUS":  {"SCRAM-SHA-256", scramClient{gs2: "p=tls-exporter,,", name: "user", password: "pencil", binding: exporter}, ErrMalformed},
		"no proof":              {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencil", bend: func(s string) string { return s[:strings.Index(s, ",p=")] }}, ErrMalformed},
		"short proof":           {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencil", bend: func(s string) string { return s[:len(s)-8] }}, ErrMalformed},
		"other nonce":           {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencil", bend: func(s string) string { return strings.Replace(s, "clientnonce", "clientnoncE", 1) }}, ErrMalformed},
		"other header":          {"SCRAM-SHA-256", scramClient{gs2: "n,,", name: "user", password: "pencil", bend: func(s string) string { return strings.Replace(s, "c=biws", "c=eSws", 1) }}, ErrBadCredentials},
	} {
		t.Run(name, func(t *testing.T) {
			from := client("192.0.2.1", true)
			from.Session = &far
			x, err := New(Options{Directory: newVault(t)}).Start(c.mechanism, from)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.client.run(t.Context(), x); !errors.Is(err, c.want) || err != nil && c.want == nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestSCRAMTellsNobodyApart: who does not exist gets a salt too, the same each time.
func TestSCRAMTellsNobodyApart(t *testing.T) {
	l := New(Options{Directory: newVault(t)})
	salt := func(name string) string {
		x, _ := l.Start("SCRAM-SHA-256", client("192.0.2.1", true))
		first, _, err := x.Next(t.Context(), []byte("n,,n="+name+",r=clientnonce"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(string(first), ",")[1]
	}
	if a, b := salt("nobody"), salt("nobody"); a != b || len(a) != len(salt("user")) || a == salt("somebody") {
		t.Errorf("salts %q and %q", a, b)
	}
}

func TestSCRAMOutageAndThrottle(t *testing.T) {
	v := newVault(t)
	l := New(Options{Directory: v})
	try := func() error {
		x, err := l.Start("SCRAM-SHA-256", client("192.0.2.1", true))
		if err != nil {
			t.Fatal(err)
		}
		return scramClient{gs2: "n,,", name: "nobody", password: "x"}.run(t.Context(), x)
	}
	v.err = directory.ErrUnavailable
	if err := try(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("directory down: %v", err)
	}
	v.err = directory.ErrAmbiguous
	if err := try(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("ambiguous entries: %v", err)
	}
	v.err = nil
	for range perMinute {
		l.throttle.sources.add(source(client("192.0.2.1", true).Addr.Addr()), time.Now())
	}
	if err := try(); !errors.Is(err, ErrThrottled) {
		t.Errorf("after many failures: %v", err)
	}
}

func TestMechanisms(t *testing.T) {
	_, far := tlsPair(t, nil)
	over := client("192.0.2.1", true)
	over.Session = &far
	for _, c := range []struct {
		name string
		dir  directory.Directory
		from Client
		want string
	}{
		{"in the clear", newVault(t), client("192.0.2.1", false), ""},
		{"TLS elsewhere", newVault(t), client("192.0.2.1", true), "SCRAM-SHA-256 PLAIN LOGIN"},
		{"TLS here", newVault(t), over, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{"no secrets", &people{}, over, "PLAIN LOGIN"},
	} {
		if got := strings.Join(New(Options{Directory: c.dir}).Mechanisms(c.from), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestExternal(t *testing.T) {
	for _, c := range []struct {
		name, certificate, common, authzid string
		want                               error
	}{
		{"address", "alice", "", "", nil},
		{"common name", "", "alice", "", nil},
		{"own authzid", "alice", "", "ALICE", nil},
		{"foreign authzid", "alice", "", "bob", ErrBadCredentials},
		{"unknown person", "bob", "", "", ErrBadCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			template := &x509.Certificate{Subject: pkix.Name{CommonName: c.common}}
			if c.certificate != "" {
				template.EmailAddresses = []string{c.certificate}
			}
			_, far := tlsPair(t, template)
			from := client("192.0.2.1", true)
			from.Session = &far
			l := New(Options{Directory: &people{status: directory.Active}})
			if got := l.Mechanisms(from); got[0] != "EXTERNAL" {
				t.Fatalf("offered %v", got)
			}
			x, err := l.Start("EXTERNAL", from)
			if err != nil {
				t.Fatal(err)
			}
			if challenge, done, err := x.Next(t.Context(), nil); err != nil || done || len(challenge) > 0 {
				t.Fatal(challenge, done, err)
			}
			if _, done, err := x.Next(t.Context(), []byte(c.authzid)); !errors.Is(err, c.want) || done != (c.want == nil) {
				t.Errorf("done %v, %v", done, err)
			}
		})
	}
	_, far := tlsPair(t, nil)
	from := client("192.0.2.1", true)
	from.Session = &far
	if _, err := New(Options{Directory: &people{}}).Start("EXTERNAL", from); !errors.Is(err, ErrMechanism) {
		t.Errorf("without a certificate: %v", err)
	}
}

// tlsPair is a handshake over loopback, with a client certificate if there is a
// template: the client's state, then the server's.
func tlsPair(t *testing.T, template *x509.Certificate) (near, far tls.ConnectionState) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certify := func(c *x509.Certificate) (tls.Certificate, *x509.CertPool) {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(parsed)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
	}
	own, roots := certify(&x509.Certificate{DNSNames: []string{"localhost"}})
	server := &tls.Config{Certificates: []tls.Certificate{own}}
	dial := &tls.Config{RootCAs: roots, ServerName: "localhost"}
	if template != nil {
		var theirs tls.Certificate
		theirs, server.ClientCAs = certify(template)
		server.ClientAuth, dial.Certificates = tls.VerifyClientCertIfGiven, []tls.Certificate{theirs}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	accepted := tls.Server(b, server)
	failed := make(chan error, 1)
	go func() { failed <- accepted.Handshake() }()
	dialled := tls.Client(a, dial)
	if err := dialled.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = a.Read(make([]byte, 1<<10)) }() // takes the session tickets
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return dialled.ConnectionState(), accepted.ConnectionState()
}

// FuzzSCRAM lets a client say anything: nobody gets in without the password.
func FuzzSCRAM(f *testing.F) {
	f.Add("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,r=rOprNGfwEbeRWgbNEkqO,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	f.Add("p=tls-exporter,a=x,n==2C,r=", ",p=")
	f.Add("y,,m=1,n=user,r=abcdefghij", "c=,r=,p=")
	l := New(Options{Directory: newVault(f)})
	l.nonce = func() string { return "servernonce" }
	f.Fuzz(func(t *testing.T, first, final string) {
		x, err := l.Start("SCRAM-SHA-256", client("127.0.0.1", false))
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range []string{first, final, ""} {
			_, done, err := x.Next(t.Context(), []byte(message))
			if done {
				t.Fatalf("%q then %q logged %+v in", first, final, x.Identity())
			}
			if err != nil {
				return
			}
		}
	})
}
