package dkim

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"mailsrv/pkg/mail"
)

// State is where a key is in its life; it is the ending of the key's file.
type State string

// The states of a key.
const (
	Waiting State = "new" // its record has to be published before it signs
	InUse   State = "pem" // it signs
	Retired State = "old" // it signs no more; its record stays while mail is on its way
)

// ErrNoKeys: the domain has no key in the state that is asked for.
var ErrNoKeys = errors.New("no such key")

// rsaBits is the size of our RSA keys (RFC 8301 §3.2).
const rsaBits = 2048

// Key is one key pair of a domain.
type Key struct {
	Domain, Selector string
	State            State
	// Algorithm is "rsa" or "ed25519".
	Algorithm string
	// Made is when the key was made.
	Made    time.Time
	private crypto.Signer
}

// Record is the TXT record that publishes the key: its name, and its value in
// one piece (RFC 6376 §3.6).
func (k Key) Record() (name, value string, err error) {
	var public []byte
	switch p := k.private.Public().(type) {
	case ed25519.PublicKey: // the bare key (RFC 8463 §3)
		public = p
	default:
		if public, err = x509.MarshalPKIXPublicKey(p); err != nil {
			return "", "", fmt.Errorf("encoding key %s: %w", k.Selector, err)
		}
	}
	return k.Selector + "._domainkey." + k.Domain, "v=DKIM1; k=" + k.Algorithm + "; p=" + base64.StdEncoding.EncodeToString(public), nil
}

// Keys are the keys of all our domains: one folder a domain, one file a key.
// It may be used from many goroutines, and several processes may use the same
// folder: files only ever appear whole and change their names.
type Keys struct {
	dir string

	mu    sync.Mutex
	cache map[string]cached // by domain
}

type cached struct {
	changed time.Time // of the domain's folder
	keys    []Key
}

// OpenKeys returns the keys in dir, which is made if it is missing.
func OpenKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening DKIM keys: %w", err)
	}
	return &Keys{dir: dir, cache: make(map[string]cached)}, nil
}

// Domains are the domains that have keys, in the order of their names.
func (k *Keys) Domains() ([]string, error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("listing DKIM keys: %w", err)
	}
	var domains []string
	for _, e := range entries {
		if e.IsDir() {
			domains = append(domains, e.Name())
		}
	}
	return domains, nil
}

// List returns the keys of a domain, newest first.
func (k *Keys) List(domain string) ([]Key, error) {
	dir, err := k.folder(domain)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing DKIM keys: %w", err)
	}
	var keys []Key
	for _, e := range entries {
		selector, state, _ := strings.Cut(e.Name(), ".")
		switch State(state) {
		case Waiting, InUse, Retired:
		default:
			continue
		}
		key, err := readKey(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		key.Domain, key.Selector, key.State = domain, selector, State(state)
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(a.Selector, b.Selector))
	})
	return keys, nil
}

// Make makes an RSA and an Ed25519 key for a domain. They wait: nothing is
// signed with them before Activate.
func (k *Keys) Make(domain string, now time.Time) ([]Key, error) {
	dir, err := k.folder(domain)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making DKIM keys: %w", err)
	}
	r, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, fmt.Errorf("making DKIM keys: %w", err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making DKIM keys: %w", err)
	}
	stamp := now.UTC().Format("20060102t150405")
	keys := []Key{
		{Domain: domain, Selector: "r" + stamp, State: Waiting, Algorithm: "rsa", Made: now, private: r},
		{Domain: domain, Selector: "e" + stamp, State: Waiting, Algorithm: "ed25519", Made: now, private: e},
	}
	for _, key := range keys {
		if err := writeKey(dir, key); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// Activate puts the waiting keys of a domain to use and retires those that
// were. ErrNoKeys if none waits.
func (k *Keys) Activate(domain string) error {
	keys, err := k.List(domain)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(key Key) bool { return key.State == Waiting }) {
		return fmt.Errorf("activating keys of %s: %w", domain, ErrNoKeys)
	}
	// New ones first: a kill in between leaves too many signatures, not none.
	for _, step := range []struct{ from, to State }{{Waiting, InUse}, {InUse, Retired}} {
		for _, key := range keys {
			if key.State != step.from {
				continue
			}
			if err := k.move(key, step.to); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove deletes a key for good. ErrNoKeys.
func (k *Keys) Remove(domain, selector string) error {
	keys, err := k.List(domain)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.Selector == selector {
			return os.Remove(k.path(key))
		}
	}
	return fmt.Errorf("removing key %s of %s: %w", selector, domain, ErrNoKeys)
}

func (k *Keys) move(key Key, to State) error {
	from := k.path(key)
	key.State = to
	if err := os.Rename(from, k.path(key)); err != nil {
		return fmt.Errorf("activating key %s: %w", key.Selector, err)
	}
	return nil
}

func (k *Keys) path(key Key) string {
	return filepath.Join(k.dir, key.Domain, key.Selector+"."+string(key.State))
}

// folder is where a domain's keys are. Only what is a domain becomes a path.
func (k *Keys) folder(domain string) (string, error) {
	d, err := mail.ParseDomain(domain)
	if err != nil || d != domain || strings.HasPrefix(d, "[") {
		return "", fmt.Errorf("finding DKIM keys: %q is no domain in lower-case A-labels", domain)
	}
	return filepath.Join(k.dir, domain), nil
}

// inUse are the keys that sign for domain; the folder's time tells when they
// have to be read again.
func (k *Keys) inUse(domain string) ([]Key, error) {
	dir, err := k.folder(domain)
	if err != nil {
		return nil, nil // an address literal has no keys
	}
	st, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading DKIM keys: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.cache[domain]; ok && c.changed.Equal(st.ModTime()) {
		return c.keys, nil
	}
	keys, err := k.List(domain)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(key Key) bool { return key.State != InUse })
	k.cache[domain] = cached{st.ModTime(), keys}
	return keys, nil
}

func readKey(path string) (Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("reading DKIM key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, fmt.Errorf("reading DKIM key: %s is no PEM file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("reading DKIM key %s: %w", path, err)
	}
	made, err := time.Parse(time.RFC3339, block.Headers["Made"])
	if err != nil {
		return Key{}, fmt.Errorf("reading DKIM key %s: %w", path, err)
	}
	switch p := parsed.(type) {
	case *rsa.PrivateKey:
		return Key{Algorithm: "rsa", Made: made, private: p}, nil
	case ed25519.PrivateKey:
		return Key{Algorithm: "ed25519", Made: made, private: p}, nil
	}
	return Key{}, fmt.Errorf("reading DKIM key: %s is neither RSA nor Ed25519", path)
}

// writeKey makes the key's file, whole or not at all.
func writeKey(dir string, key Key) error {
	der, err := x509.MarshalPKCS8PrivateKey(key.private)
	if err != nil {
		return fmt.Errorf("encoding key %s: %w", key.Selector, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"Made": key.Made.UTC().Format(time.RFC3339)}, Bytes: der})
	f, err := os.CreateTemp(dir, ".key-*")
	if err != nil {
		return fmt.Errorf("writing key %s: %w", key.Selector, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, key.Selector+"."+string(key.State)))
	}
	if err != nil {
		return fmt.Errorf("writing key %s: %w", key.Selector, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Published asks the DNS whether the key's record is there and says what it
// should.
func (k Key) Published(ctx context.Context, lookup LookupTXT) (bool, error) {
	name, value, err := k.Record()
	if err != nil {
		return false, err
	}
	texts, err := lookup(ctx, name)
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking up %s: %w", name, err)
	}
	bare := func(s string) string { return strings.Join(strings.Fields(s), "") }
	return slices.ContainsFunc(texts, func(t string) bool { return bare(t) == bare(value) }), nil
}
