package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"mailsrv/pkg/directory"
)

// Longest login and password, in bytes.
const (
	maxLogin    = 255
	maxPassword = 1024
)

// Proxy is an MMP that may log users in without their passwords.
type Proxy struct {
	// Name is its authentication identity, Secret its password.
	Name, Secret string
	// Networks it may come from.
	Networks []netip.Prefix
	// Certificate is the common name or host name that its verified certificate
	// must have beside; empty: it needs none.
	Certificate string
}

// Options of New. Directory is required.
type Options struct {
	Directory directory.Directory
	Proxies   []Proxy
	// Store: logins are a store's, whose Proxies also move accounts
	// (CarrierName), and at which certificates are those of proxies, not of people.
	Store bool
	// Separators are characters that stand for @ in a login without one.
	Separators string
	// NoSCRAM keeps SCRAM back, for a directory that has no secrets of it: a
	// client would choose it and not fall back.
	NoSCRAM bool
	// Replay obeys domains whose stores verify passwords themselves: for MMPs
	// alone. Else all passwords are verified here.
	Replay bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Observe is told of each login: its mechanism and "ok", "refused",
	// "unavailable", "throttled" or "malformed".
	Observe func(mechanism, outcome string)
	Log     *slog.Logger
}

// Logins is the Authenticator over a Directory.
type Logins struct {
	o        Options
	throttle *throttle
	scram    directory.SCRAMSecrets // nil: the directory has none
	nonce    func() string
	salt     [32]byte // of the secrets of people who do not exist
}

var _ Authenticator = (*Logins)(nil)

// New returns an Authenticator.
func New(o Options) *Logins {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Logins{o: o, throttle: newThrottle(o.Now), nonce: rand.Text}
	if !o.NoSCRAM {
		l.scram, _ = o.Directory.(directory.SCRAMSecrets)
	}
	_, _ = rand.Read(l.salt[:]) // never fails since Go 1.24
	return l
}

// Login implements Authenticator.
func (l *Logins) Login(ctx context.Context, c Client, login, password string) (Identity, error) {
	return l.login(ctx, c, "LOGIN", "", login, password)
}

// login verifies authcid and password, and lets a trusted proxy act for authzid.
func (l *Logins) login(ctx context.Context, c Client, mechanism, authzid, authcid, password string) (Identity, error) {
	carrier := l.o.Store && authzid == CarrierName
	if !carrier {
		authzid = l.qualified(c, authzid)
	}
	authcid = l.qualified(c, authcid)
	return l.judge(ctx, c, mechanism, authcid, func(id *Identity) error {
		if len(authzid) > maxLogin || len(password) > maxPassword || !utf8.ValidString(authzid) {
			return ErrBadCredentials
		}
		p, trusted := l.proxy(authcid, c.hop())
		switch {
		case authzid == "" || authzid == authcid:
			return l.password(ctx, id, c.Service, authcid, password)
		case !trusted:
			return fmt.Errorf("%w: %q may not act for %q", ErrBadCredentials, authcid, authzid)
		case !p.certified(c):
			return fmt.Errorf("%w: the proxy %q shows no certificate of %q", ErrBadCredentials, authcid, p.Certificate)
		}
		id.Login, id.Proxy = authzid, p.Name
		// Digests first: the comparison tells not even the secret's length.
		want, got := sha256.Sum256([]byte(p.Secret)), sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || p.Secret == "" {
			return ErrBadCredentials
		}
		if id.Carrier = carrier; carrier {
			return nil
		}
		return l.known(ctx, id, authzid)
	})
}

// known is the user of a login that is proved already.
func (l *Logins) known(ctx context.Context, id *Identity, login string) (err error) {
	if id.User, err = l.o.Directory.User(ctx, login); errors.Is(err, directory.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrBadCredentials, err)
	}
	return err
}

// judge decides on a login: prove says who it is, and every mechanism is under
// the same throttle and the same rules about accounts. It logs and counts.
func (l *Logins) judge(ctx context.Context, c Client, mechanism, authcid string, prove func(*Identity) error) (Identity, error) {
	id := Identity{Login: authcid, Mechanism: mechanism}
	err := l.verify(ctx, c, &id, authcid, prove)
	outcome := "ok"
	switch {
	case errors.Is(err, ErrUnavailable):
		outcome = "unavailable"
	case errors.Is(err, ErrThrottled):
		outcome = "throttled"
	case err != nil:
		outcome = "refused"
	}
	l.o.Observe(mechanism, outcome)
	log := l.o.Log.With("account", authcid, "peer", c.Addr.String(), "mech", mechanism, "tls", c.TLS)
	if err != nil {
		log.Info("login refused", "outcome", outcome, "err", err)
		return Identity{}, err
	}
	user := id.User.Account()
	if id.Carrier {
		user = ""
	}
	log.Info("login", "user", user, "proxy", id.Proxy)
	return id, nil
}

func (l *Logins) verify(ctx context.Context, c Client, id *Identity, authcid string, prove func(*Identity) error) error {
	addr := c.Addr.Addr().Unmap()
	free := l.unthrottled(addr, c.hop(), authcid)
	err := l.admit(c, authcid, free)
	if err != nil {
		return err
	}
	if err = prove(id); errors.Is(err, ErrBadCredentials) {
		if !free {
			l.throttle.failed(ctx, addr, authcid)
		}
		return err
	}
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err) // ambiguous entries and the like: nobody's wrong password
		}
		return err
	}
	if id.Carrier {
		return nil
	}
	if !id.User.Status.MayLogin() {
		return fmt.Errorf("%w: status of %s is %s", ErrRefused, id.User.DN, id.User.Status)
	}
	if c.Service != "" && !id.User.Allows(c.Service, addr) {
		return fmt.Errorf("%w: %s has no access to %s from %s", ErrRefused, id.User.DN, c.Service, addr)
	}
	if id.Replay == "" {
		l.throttle.succeeded(addr, authcid)
	} else if !free {
		id.Refused = func(ctx context.Context) { l.throttle.failed(ctx, addr, authcid) }
	}
	return nil
}

// Guard puts a proof of a password, by another way than Login, under the same
// throttle: a source that failed often is refused with ErrThrottled, and a wrong
// password for an account that is being guessed is answered late.
func (l *Logins) Guard(ctx context.Context, c Client, account string, prove func() error) error {
	addr := c.Addr.Addr().Unmap()
	if l.unthrottled(addr, c.hop(), account) {
		return prove()
	}
	if err := l.throttle.check(addr); err != nil {
		return err
	}
	err := prove()
	switch {
	case err == nil:
		l.throttle.succeeded(addr, account)
	case errors.Is(err, ErrBadCredentials):
		l.throttle.failed(ctx, addr, account)
	}
	return err
}

// admit refuses before anything is asked of the directory.
func (l *Logins) admit(c Client, authcid string, free bool) error {
	switch {
	case !c.Private():
		return fmt.Errorf("%w without TLS", ErrMechanism)
	case authcid == "" || len(authcid) > maxLogin || !utf8.ValidString(authcid):
		return ErrBadCredentials
	case free:
		return nil
	}
	return l.throttle.check(c.Addr.Addr().Unmap())
}

// qualified is login with an @ for another separator, or with the domain of
// where the client came. A proxy's own name stays as it is.
func (l *Logins) qualified(c Client, login string) string {
	if _, ok := l.proxy(login, c.hop()); ok || login == "" || strings.Contains(login, "@") {
		return login
	}
	if i := strings.LastIndexAny(login, l.o.Separators); i > 0 && i < len(login)-1 {
		return login[:i] + "@" + login[i+1:]
	}
	if c.Domain != "" {
		return login + "@" + c.Domain
	}
	return login
}

// unthrottled reports whether failures are not held against addr: it is
// loopback or a proxy's own, or a proxy logs in on behalf of clients there, whom
// it slows down itself. Many users fail through one proxy.
func (l *Logins) unthrottled(addr, hop netip.Addr, authcid string) bool {
	if addr.IsLoopback() || !addr.IsValid() {
		return true
	}
	if _, ok := l.proxy(authcid, hop); ok {
		return true
	}
	return slices.ContainsFunc(l.o.Proxies, func(p Proxy) bool { return p.from(addr) })
}

// from reports whether addr is in the proxy's networks.
func (p Proxy) from(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// certified reports whether the connection has the certificate that the proxy needs.
func (p Proxy) certified(c Client) bool {
	if p.Certificate == "" {
		return true
	}
	if c.Session == nil || len(c.Session.VerifiedChains) == 0 {
		return false
	}
	leaf := c.Session.VerifiedChains[0][0]
	return leaf.Subject.CommonName == p.Certificate || slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, p.Certificate) })
}

func (l *Logins) proxy(name string, addr netip.Addr) (Proxy, bool) {
	for _, p := range l.o.Proxies {
		if p.Name == name && p.from(addr) {
			return p, true
		}
	}
	return Proxy{}, false
}

// Mechanisms implements Authenticator.
func (l *Logins) Mechanisms(c Client) []string {
	if !c.Private() {
		return nil
	}
	var list []string
	if l.scram != nil {
		if c.channelBinding("tls-exporter") != nil {
			list = append(list, scramPlus)
		}
		list = append(list, scramName)
	}
	if len(c.certified()) > 0 && !l.o.Store {
		list = append(list, "EXTERNAL")
	}
	return append(list, "PLAIN", "LOGIN")
}

// Start implements Authenticator.
func (l *Logins) Start(mechanism string, c Client) (Exchange, error) {
	if !slices.Contains(l.Mechanisms(c), mechanism) {
		return nil, fmt.Errorf("%w: %.20q", ErrMechanism, mechanism)
	}
	switch mechanism {
	case scramName, scramPlus:
		return &scramExchange{l: l, c: c, mechanism: mechanism}, nil
	case "EXTERNAL":
		return &externalExchange{l: l, c: c}, nil
	case "LOGIN":
		return &loginExchange{l: l, c: c}, nil
	}
	return &plainExchange{l: l, c: c}, nil
}
