package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Pair names the files of a certificate chain and its key, PEM.
type Pair struct{ Cert, Key string }

// Certificate is one or more certificates in files that can be read again while
// servers run. It may be used from many goroutines.
type Certificate struct {
	pairs   []Pair
	current atomic.Pointer[[]tls.Certificate]
}

// LoadCertificate reads the certificate chain and key, PEM, from two files, and
// further ones for clients that ask for other names (SNI, RFC 6066 §3).
func LoadCertificate(cert, key string, further ...Pair) (*Certificate, error) {
	c := &Certificate{pairs: append([]Pair{{cert, key}}, further...)}
	return c, c.Reload()
}

// Reload reads the files again. After an error the old certificates stay.
func (c *Certificate) Reload() error {
	list := make([]tls.Certificate, len(c.pairs))
	for i, p := range c.pairs {
		var err error
		if list[i], err = tls.LoadX509KeyPair(p.Cert, p.Key); err != nil {
			return fmt.Errorf("loading certificate %s: %w", p.Cert, err)
		}
	}
	c.current.Store(&list)
	return nil
}

// choose finds the first certificate that is good for the name and the
// algorithms the client has; the first of all if none is.
func (c *Certificate) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := *c.current.Load()
	for i := range list {
		if len(list) == 1 || hello.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &list[0], nil
}

// Config is for a server of the named application protocols (RFC 7301); a
// client that offers only others is refused before it can speak.
func (c *Certificate) Config(protocols ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, GetCertificate: c.choose}
}

// SelfSigned makes cert.pem and key.pem in dir for those names and addresses,
// good for ten years, unless they are there, and returns their paths.
func SelfSigned(dir string, hosts ...string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := os.Stat(cert); err == nil {
		return cert, key, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return "", "", err
	}
	t := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, &private.PublicKey, private)
	if err != nil {
		return "", "", fmt.Errorf("making certificate: %w", err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", fmt.Errorf("making certificate: %w", err)
	}
	// The key first: a certificate without its key would be taken for whole.
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
