// Package relay is an mmp.Backend across the wire: it dials the store that
// holds the user's mail, logs in there in the user's name, and copies bytes
// both ways until either side ends.
//
// The store may be another mailsrv or a foreign one. Nothing the client wrote
// is passed to it before the login, and nothing the store wrote is passed to
// the client before the store has said OK. What follows is copied unread, but
// in IMAP for the borders between responses: so that a session whose store dies
// ends with BYE, and never in the middle of a message. POP3 has no last words.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mmp"
)

// TLSMode says how the connection to a store is encrypted.
type TLSMode int

// The ways of TLS.
const (
	// None is plain text: for loopback and test.
	None TLSMode = iota
	// StartTLS upgrades, and refuses a store that does not offer it.
	StartTLS
	// Implicit is TLS from the first byte.
	Implicit
)

// Options are one store and how to log in there.
type Options struct {
	// Protocol is directory.ServiceIMAP, ServicePOP3, or ServiceSMTP for an MTA
	// that takes submissions; empty: IMAP.
	Protocol directory.Service
	// Address is host:port of the store's door of that protocol.
	Address string
	TLSMode TLSMode
	// TLS is needed unless TLSMode is None; an empty ServerName becomes
	// Address's host.
	TLS *tls.Config
	// Authcid and Secret are the proxy's own credentials at the store.
	Authcid, Secret string
	// MasterUser logs in as "user*authcid" instead of with an authorization
	// identity, as Dovecot's master users do.
	MasterUser bool
	// Hostname is how we introduce ourselves by SMTP.
	Hostname string
	// ProxyV2 says who the client is by a PROXY protocol header.
	ProxyV2 bool
	// Timeout bounds everything up to the store's answer to the login; zero: 5 s.
	Timeout time.Duration
	// Linger bounds how long a store may go on after its client has closed,
	// and how long a response may take to end when the server stops; zero: 10 s.
	Linger time.Duration
	// Health is told when the store is shut out after failures, and when it is
	// back; nil: nobody.
	Health func(up bool)
	// Now is the clock of the guard; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Relay is the Backend of one store elsewhere. It may be used from many
// goroutines, and holds no connection between sessions. A store that does not
// answer costs its own users a fast refusal, and nobody else anything.
type Relay struct {
	o      Options
	dial   net.Dialer
	guard  *guard
	caps   atomic.Pointer[[]string]
	paused atomic.Bool
	// buffers are lent to the sessions.
	buffers buffers
}

var _ mmp.Backend = (*Relay)(nil)

// New returns a Relay. It dials nothing yet.
func New(o Options) *Relay {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Linger <= 0 {
		o.Linger = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		host = o.Address
	}
	if o.TLS != nil && o.TLS.ServerName == "" {
		o.TLS = o.TLS.Clone()
		o.TLS.ServerName = host
	}
	r := &Relay{o: o, dial: net.Dialer{
		// A store whose host vanished is noticed within 35 s, also by a session that idles.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 5},
	}}
	r.guard = &guard{now: o.Now, changed: r.changed}
	return r
}

// changed tells that the store was shut out, or is back.
func (r *Relay) changed(up bool) {
	if up {
		r.o.Log.Info("store is back", "to", r.o.Address)
	} else {
		r.o.Log.Warn("store shut out", "to", r.o.Address, "err", "too many failures in a row")
	}
	if r.o.Health != nil {
		r.o.Health(up)
	}
}

// Attach implements mmp.Backend.
func (r *Relay) Attach(ctx context.Context, h *mmp.Handover) error {
	log := h.Log
	if log == nil {
		log = r.o.Log
	}
	if h.Hops+1 >= mmp.MaxHops {
		return unavailable(fmt.Errorf("store %s: the session came through %d proxies: a loop", r.o.Address, h.Hops))
	}
	if r.paused.Load() {
		return unavailable(fmt.Errorf("store %s is paused by its administrator", r.o.Address))
	}
	trial, ok := r.guard.enter()
	if !ok {
		return unavailable(fmt.Errorf("store %s is shut out after failures", r.o.Address))
	}
	st, err := r.connect(ctx, h)
	r.guard.leave(trial, err == nil || answered(err) || ctx.Err() != nil)
	if err != nil {
		if refused := (*mmp.RefusedError)(nil); errors.As(err, &refused) {
			return refused
		}
		return unavailable(fmt.Errorf("logging in to store %s: %w", r.o.Address, err))
	}
	log.Debug("relaying", "to", r.o.Address)
	started := time.Now()
	p := &pipe{client: h.Conn, store: st.stream().raw, buffers: &r.buffers, linger: r.o.Linger, rest: r.o.Linger, tracked: r.o.Protocol == directory.ServiceIMAP || r.o.Protocol == ""}
	if !p.tracked {
		p.rest = min(p.rest, time.Second)
	}
	err = p.run(ctx, st, h)
	log.Info("session ended", "to", r.o.Address, "duration", time.Since(started), "bytes", p.sent)
	if err != nil {
		return fmt.Errorf("relaying to store %s: %w", r.o.Address, err)
	}
	return nil
}

// Pause has the store get no more sessions, or again: for its maintenance. Those
// that stand are not touched.
func (r *Relay) Pause(on bool) { r.paused.Store(on) }

// Up reports whether the store gets sessions: it is neither paused nor shut out.
func (r *Relay) Up() bool { return !r.paused.Load() && r.guard.up() }

func unavailable(err error) *mmp.RefusedError {
	return &mmp.RefusedError{
		Unavailable: true,
		Text:        "Your mailbox cannot be reached now, try again later",
		Err:         errors.Join(mmp.ErrUnavailable, err),
	}
}

// connect returns a store that has answered OK to the login. Its time is
// bounded, and it leaves nothing open when it fails.
func (r *Relay) connect(ctx context.Context, h *mmp.Handover) (peer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	conn, err := r.dial.DialContext(ctx, "tcp", r.o.Address)
	if err != nil {
		return nil, err
	}
	// Reads and writes below know no context: its end closes the connection.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	st, err := r.logIn(ctx, conn, h)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return st, nil
}

// answeredError is a refusal by a store that is well.
type answeredError struct{ error }

// Unwrap returns the refusal.
func (e *answeredError) Unwrap() error { return e.error }

func answered(err error) bool {
	refused, answer := (*mmp.RefusedError)(nil), (*answeredError)(nil)
	return errors.As(err, &refused) || errors.As(err, &answer)
}

// logIn speaks to the store from the PROXY header to the answer to the login.
func (r *Relay) logIn(ctx context.Context, conn net.Conn, h *mmp.Handover) (peer, error) {
	st, err := r.greet(ctx, conn, h)
	if err != nil {
		return nil, err
	}
	err = st.authenticate(r.credentials(h), h)
	if wrong := (*wrongCredentials)(nil); errors.As(err, &wrong) && h.Identity.Replay != "" {
		err = &mmp.RefusedError{Credentials: true, Text: "Wrong login or password", Err: err}
	}
	return st, err
}

// wrongCredentials is a store's word on the password that it was given: the
// user's own, or ours.
type wrongCredentials struct{ error }

// greet speaks to the store up to where a login may begin.
func (r *Relay) greet(ctx context.Context, conn net.Conn, h *mmp.Handover) (peer, error) {
	if r.o.ProxyV2 {
		if err := writeProxyHeader(conn, h); err != nil {
			return nil, err
		}
	}
	if r.o.TLSMode == Implicit {
		up, err := r.secure(ctx, conn)
		if err != nil {
			return nil, err
		}
		conn = up
	}
	st := r.peer(conn)
	if err := st.greeting(); err != nil {
		return nil, err
	}
	if r.o.TLSMode == StartTLS {
		if err := st.startTLS(); err != nil {
			return nil, err
		}
		up, err := r.secure(ctx, conn)
		if err != nil {
			return nil, err
		}
		st.over(up)
	}
	return st, nil
}

func (r *Relay) peer(conn net.Conn) peer {
	switch r.o.Protocol {
	case directory.ServicePOP3:
		return &pop3Peer{line: newLine(conn)}
	case directory.ServiceSMTP:
		return &smtpPeer{line: newLine(conn), hostname: r.o.Hostname}
	}
	return &imapPeer{line: newLine(conn)}
}

func (r *Relay) secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	if r.o.TLS == nil {
		return nil, errors.New("no TLS configuration for the store")
	}
	up := tls.Client(conn, r.o.TLS)
	if err := up.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return up, nil
}

// credentials is the message of SASL PLAIN (RFC 4616 §2).
func (r *Relay) credentials(h *mmp.Handover) []byte {
	login := h.Identity.User.StoreLogin()
	switch {
	case h.Identity.Replay != "":
		return []byte("\x00" + login + "\x00" + h.Identity.Replay)
	case r.o.MasterUser:
		return []byte("\x00" + login + "*" + r.o.Authcid + "\x00" + r.o.Secret)
	}
	return []byte(login + "\x00" + r.o.Authcid + "\x00" + r.o.Secret)
}

// writeProxyHeader says who the client is, whether it came by TLS, and the
// trace id (PROXY protocol version 2).
func writeProxyHeader(conn net.Conn, h *mmp.Handover) error {
	header := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	if h.Client.Addr.IsValid() {
		local, ok := h.Conn.LocalAddr().(*net.TCPAddr)
		if !ok {
			local = &net.TCPAddr{IP: net.IPv6zero}
		}
		header = proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(h.Client.Addr), local)
	}
	tlvs := []proxyproto.TLV{{Type: listen.TraceTLV, Value: []byte(h.Trace)}, {Type: listen.ServiceTLV, Value: []byte(h.Client.Service)},
		{Type: listen.HopsTLV, Value: []byte{byte(h.Hops + 1)}}}
	if h.Client.TLS {
		// client flags: by TLS; verify: no certificate was asked for.
		tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_SSL, Value: []byte{1, 0, 0, 0, 1}})
	}
	if err := header.SetTLVs(tlvs); err != nil {
		return fmt.Errorf("forming PROXY header: %w", err)
	}
	if _, err := header.WriteTo(conn); err != nil {
		return fmt.Errorf("writing PROXY header: %w", err)
	}
	return nil
}
