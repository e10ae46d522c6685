package auth

import (
	"bytes"
	"context"
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
}

// Options of New. Directory is required.
type Options struct {
	Directory directory.Directory
	Proxies   []Proxy
	// Separators are characters that stand for @ in a login without one.
	Separators string
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
	return &Logins{o: o, throttle: newThrottle(o.Now)}
}

// Login implements Authenticator.
func (l *Logins) Login(ctx context.Context, c Client, login, password string) (Identity, error) {
	return l.login(ctx, c, "LOGIN", "", login, password)
}

// login verifies authcid and password, and lets a trusted proxy act for authzid.
func (l *Logins) login(ctx context.Context, c Client, mechanism, authzid, authcid, password string) (Identity, error) {
	id, err := l.verify(ctx, c, mechanism, authzid, authcid, password)
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
	log.Info("login", "user", id.User.Account(), "proxy", id.Proxy)
	return id, nil
}

func (l *Logins) verify(ctx context.Context, c Client, mechanism, authzid, authcid, password string) (Identity, error) {
	if !c.Private() {
		return Identity{}, fmt.Errorf("%w without TLS", ErrMechanism)
	}
	if authcid == "" || len(authcid) > maxLogin || len(authzid) > maxLogin || len(password) > maxPassword ||
		!utf8.ValidString(authcid) || !utf8.ValidString(authzid) {
		return Identity{}, ErrBadCredentials
	}
	authzid, authcid = l.qualified(c, authzid), l.qualified(c, authcid)
	addr := c.Addr.Addr().Unmap()
	free := l.unthrottled(addr, c.hop(), authcid)
	if !free {
		if err := l.throttle.check(addr); err != nil {
			return Identity{}, err
		}
	}
	id := Identity{Login: authcid, Mechanism: mechanism}
	var err error
	if p, ok := l.proxy(authcid, c.hop()); ok && authzid != "" && authzid != authcid {
		id.Login, id.Proxy = authzid, p.Name
		// Digests first: the comparison tells not even the secret's length.
		want, got := sha256.Sum256([]byte(p.Secret)), sha256.Sum256([]byte(password))
		if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || p.Secret == "" {
			err = ErrBadCredentials
		} else if id.User, err = l.o.Directory.User(ctx, authzid); errors.Is(err, directory.ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrBadCredentials, err)
		}
	} else if authzid != "" && authzid != authcid {
		err = fmt.Errorf("%w: %q may not act for %q", ErrBadCredentials, authcid, authzid)
	} else {
		err = l.password(ctx, &id, authcid, password)
	}
	if errors.Is(err, ErrBadCredentials) {
		if !free {
			l.throttle.failed(ctx, addr, authcid)
		}
		return Identity{}, err
	}
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err) // ambiguous entries and the like: nobody's wrong password
		}
		return Identity{}, err
	}
	if !id.User.Status.MayLogin() {
		return Identity{}, fmt.Errorf("%w: status of %s is %s", ErrRefused, id.User.DN, id.User.Status)
	}
	if c.Service != "" && !id.User.Allows(c.Service, addr) {
		return Identity{}, fmt.Errorf("%w: %s has no access to %s from %s", ErrRefused, id.User.DN, c.Service, addr)
	}
	if id.Replay != "" {
		id.Refused = func(ctx context.Context) {
			if !free {
				l.throttle.failed(ctx, addr, authcid)
			}
		}
		return id, nil
	}
	l.throttle.succeeded(authcid)
	return id, nil
}

// password verifies a user's own password, or leaves that to the user's store.
func (l *Logins) password(ctx context.Context, id *Identity, login, password string) (err error) {
	if l.o.Replay && password != "" {
		if id.User, err = l.o.Directory.User(ctx, login); err == nil && id.User.Replay.Password {
			id.Replay = password
			return nil
		} else if err != nil && !errors.Is(err, directory.ErrNotFound) {
			return err
		}
	}
	id.User, err = l.o.Directory.Verify(ctx, login, password)
	return err
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
	return []string{"PLAIN", "LOGIN"}
}

// Start implements Authenticator.
func (l *Logins) Start(mechanism string, c Client) (Exchange, error) {
	if !slices.Contains(l.Mechanisms(c), mechanism) {
		return nil, fmt.Errorf("%w: %.20q", ErrMechanism, mechanism)
	}
	if mechanism == "LOGIN" {
		return &loginExchange{l: l, c: c}, nil
	}
	return &plainExchange{l: l, c: c}, nil
}

// plainExchange is PLAIN (RFC 4616): authzid NUL authcid NUL password.
type plainExchange struct {
	l  *Logins
	c  Client
	id Identity
}

// Next implements Exchange.
func (e *plainExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[1]) == 0 {
		e.l.o.Observe("PLAIN", "malformed")
		return nil, false, fmt.Errorf("%w: PLAIN", ErrMalformed)
	}
	var err error
	e.id, err = e.l.login(ctx, e.c, "PLAIN", string(parts[0]), string(parts[1]), string(parts[2]))
	return nil, err == nil, err
}

// Identity implements Exchange.
func (e *plainExchange) Identity() Identity { return e.id }

// loginExchange is LOGIN, as draft-murchison-sasl-login describes it.
type loginExchange struct {
	l    *Logins
	c    Client
	name []byte
	step int
	id   Identity
}

// Next implements Exchange.
func (e *loginExchange) Next(ctx context.Context, response []byte) ([]byte, bool, error) {
	if response == nil && e.step == 0 {
		return []byte("Username:"), false, nil
	}
	if e.step++; e.step == 1 {
		e.name = bytes.Clone(response)
		return []byte("Password:"), false, nil
	}
	if bytes.IndexByte(response, 0) >= 0 || bytes.IndexByte(e.name, 0) >= 0 {
		e.l.o.Observe("LOGIN", "malformed")
		return nil, false, fmt.Errorf("%w: LOGIN", ErrMalformed)
	}
	var err error
	e.id, err = e.l.login(ctx, e.c, "LOGIN", "", string(e.name), string(response))
	return nil, err == nil, err
}

// Identity implements Exchange.
func (e *loginExchange) Identity() Identity { return e.id }
