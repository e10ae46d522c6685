package listen

import (
	"crypto/tls"
	"os"
	"slices"
	"testing"
)

// TestCertificateByName: a client gets the certificate of the name it asks for,
// the first one otherwise, and the old ones if a file can no longer be read.
func TestCertificateByName(t *testing.T) {
	pair := func(names ...string) Pair {
		t.Helper()
		cert, key, err := SelfSigned(t.TempDir(), names...)
		if err != nil {
			t.Fatal(err)
		}
		return Pair{cert, key}
	}
	a, b := pair("mail.a.test"), pair("mail.b.test", "imap.b.test")
	c, err := LoadCertificate(a.Cert, a.Key, b)
	if err != nil {
		t.Fatal(err)
	}
	check := func(asked, want string) {
		t.Helper()
		ln, err := tls.Listen("tcp", "127.0.0.1:0", c.Config())
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			if conn, err := ln.Accept(); err == nil {
				_ = conn.(*tls.Conn).Handshake()
				conn.Close()
			}
		}()
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{ServerName: asked, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames; !slices.Contains(got, want) {
			t.Errorf("asked for %q: got %q", asked, got)
		}
	}
	for asked, want := range map[string]string{"mail.a.test": "mail.a.test", "imap.b.test": "mail.b.test", "": "mail.a.test", "mail.c.test": "mail.a.test"} {
		check(asked, want)
	}
	if err := os.WriteFile(b.Key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(); err == nil {
		t.Error("a broken key was loaded")
	}
	check("mail.b.test", "mail.b.test")
}
