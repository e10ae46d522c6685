package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// errTemporary: a key could not be looked up now.
var errTemporary = errors.New("no answer from the DNS")

// publicKey finds the key that domain publishes under selector (RFC 6376 §3.6.2).
func publicKey(ctx context.Context, lookup LookupTXT, domain, selector string) (crypto.PublicKey, error) {
	name := selector + "._domainkey." + domain
	texts, err := lookup(ctx, name)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return nil, fmt.Errorf("no key at %s", name)
	}
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w: %w", name, errTemporary, err)
	}
	if len(texts) != 1 {
		return nil, fmt.Errorf("%d records at %s", len(texts), name)
	}
	key, err := parseKeyRecord(texts[0])
	if err != nil {
		return nil, fmt.Errorf("reading the key at %s: %w", name, err)
	}
	return key, nil
}

// minRSA is the size below which an RSA key proves nothing (RFC 8301 §3.2).
const minRSA = 1024

// parseKeyRecord reads the TXT record of a public key (RFC 6376 §3.6.1).
func parseKeyRecord(text string) (crypto.PublicKey, error) {
	t, ok := tags(text)
	if !ok {
		return nil, errors.New("malformed record")
	}
	if v, has := t["v"]; has && v != "DKIM1" {
		return nil, fmt.Errorf("version %.20q", v)
	}
	if h, has := t["h"]; has && !slices.Contains(list(h), "sha256") {
		return nil, errors.New("not for sha256")
	}
	if s, has := t["s"]; has && !slices.Contains(list(s), "*") && !slices.Contains(list(s), "email") {
		return nil, errors.New("not for mail")
	}
	der, err := base64.StdEncoding.DecodeString(bare(t["p"]))
	if err != nil {
		return nil, errors.New("malformed key")
	}
	if len(der) == 0 {
		return nil, errors.New("the key was revoked")
	}
	switch t["k"] {
	case "", "rsa":
		return parseRSA(der)
	case "ed25519":
		if len(der) != ed25519.PublicKeySize {
			return nil, errors.New("malformed key")
		}
		return ed25519.PublicKey(der), nil
	}
	return nil, fmt.Errorf("algorithm %.20q", t["k"])
}

func parseRSA(der []byte) (crypto.PublicKey, error) {
	var key *rsa.PublicKey
	if parsed, err := x509.ParsePKIXPublicKey(der); err == nil {
		key, _ = parsed.(*rsa.PublicKey)
	} else if key, err = x509.ParsePKCS1PublicKey(der); err != nil { // as RFC 6376 §3.6.1 has it too
		return nil, errors.New("malformed key")
	}
	if key == nil {
		return nil, errors.New("malformed key")
	}
	if key.N.BitLen() < minRSA {
		return nil, fmt.Errorf("the key has only %d bits", key.N.BitLen())
	}
	return key, nil
}

// verifySignature checks a signature of a SHA-256 sum under the algorithm that
// the tag a names.
func verifySignature(key crypto.PublicKey, algorithm string, sum []byte, signature string) error {
	b, err := base64.StdEncoding.DecodeString(bare(signature))
	if err != nil {
		return errors.New("malformed signature")
	}
	ok := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		ok = algorithm == "rsa-sha256" && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum, b) == nil
	case ed25519.PublicKey:
		ok = algorithm == "ed25519-sha256" && ed25519.Verify(k, sum, b)
	}
	if !ok {
		return errors.New("the signature does not match")
	}
	return nil
}

// list reads a value of words between colons.
func list(value string) []string {
	words := strings.Split(strings.ToLower(value), ":")
	for i, w := range words {
		words[i] = strings.TrimFunc(w, isSpace)
	}
	return words
}

// bare is a value without white space.
func bare(s string) string { return strings.Join(strings.FieldsFunc(s, isSpace), "") }
