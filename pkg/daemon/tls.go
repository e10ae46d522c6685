package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// tls is a server's configuration; nil without a certificate.
func (d *daemon) tls(protocols ...string) *tls.Config {
	if d.certificate == nil {
		return nil
	}
	return d.certificate.Config(protocols...)
}

// userTLS is tls for the doors of people, who may show a certificate.
func (d *daemon) userTLS(protocols ...string) *tls.Config {
	c := d.tls(protocols...)
	if c != nil && d.clientCAs != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, d.clientCAs
	}
	return c
}

// proxyTLS is tls for the store's doors, where MMPs may show a certificate: for
// STARTTLS, and from the first byte for IMAP and POP3.
func (d *daemon) proxyTLS() (starttls, imap, pop3 *tls.Config, err error) {
	list := []*tls.Config{d.tls(), d.tls("imap"), d.tls("pop3")}
	if path := d.cfg.Store.ProxyCA; path != "" && list[0] != nil {
		pool, err := certificates(path)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("reading store.proxy_ca: %w", err)
		}
		for _, c := range list {
			c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, pool
		}
	}
	return list[0], list[1], list[2], nil
}

// shown adds the certificate that a client shows; no files: none.
func shown(c *tls.Config, cert, key string) error {
	if cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("reading client_cert: %w", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return nil
}

// certificates reads the certificates of a PEM file.
func certificates(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading CA: no certificate in %s", path)
	}
	return pool, nil
}

// clientTLS trusts the CA in a PEM file, or the system's.
func clientTLS(ca, name string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name}
	if ca == "" {
		return c, nil
	}
	var err error
	c.RootCAs, err = certificates(ca)
	return c, err
}

// secret reads a password file, which nobody else may read.
func secret(path string) (string, error) {
	if path == "" {
		return "", errors.New("a password file is missing in the configuration")
	}
	st, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	if st.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("reading secret: %s can be read by everybody; run: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
