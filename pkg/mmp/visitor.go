package mmp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/wire"
)

// FrontOptions are the parts and bounds that the fronts of all protocols share.
// Everything before a login is said by strangers, so the bounds are tight.
type FrontOptions struct {
	// Authenticator and Router are required.
	Authenticator auth.Authenticator
	Router        Router
	// Carrier serves a proxy that moves accounts between stores; nil: none may.
	Carrier Backend
	// TLS serves STARTTLS or STLS; nil: not offered.
	TLS *tls.Config
	// Hostname is what the greeting says.
	Hostname string
	// Trusted are the networks of MMPs whose word on who the client is counts.
	Trusted []netip.Prefix
	// Domain completes a login without a domain, by the address that the client
	// reached (it is not valid where it is no TCP) and the server name it asked
	// for by TLS; nil or "": the directory's own default.
	Domain func(local netip.Addr, serverName string) string
	// Sessions is told who is logged in; nil: nobody is.
	Sessions *Sessions
	Log      *slog.Logger

	// PreLogin bounds the time from the connection to the login; zero: 60 s.
	PreLogin time.Duration
	// Handshake bounds that of TLS; zero: 10 s.
	Handshake time.Duration
	// ReadSize is the read buffer, in bytes; zero: 4 KiB.
	ReadSize int
	// Failures and BadCommands end the connection; zero: 10 and 3.
	Failures, BadCommands int
}

// WithDefaults returns o with its zero bounds set.
func (o FrontOptions) WithDefaults() FrontOptions {
	if o.PreLogin <= 0 {
		o.PreLogin = time.Minute
	}
	if o.Handshake <= 0 {
		o.Handshake = 10 * time.Second
	}
	if o.Failures <= 0 {
		o.Failures = 10
	}
	if o.BadCommands <= 0 {
		o.BadCommands = 3
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// readSize is the read buffer of a client that has not logged in.
const readSize = 4 << 10

// Visitor is a client that has not logged in, as the fronts of all protocols
// know it. One goroutine uses it.
type Visitor struct {
	// Conn is good until HandOver.
	Conn   *wire.Conn
	Client auth.Client
	// Encrypted says that this connection is, however the client came.
	Encrypted bool
	Trace     mail.TraceID
	// Hops is how many MMPs the session came through.
	Hops int
	Log  *slog.Logger

	o          FrontOptions
	protocol   directory.Service
	raw        net.Conn
	unhook     func() bool // undoes the tie between Conn and the context
	deadline   time.Time
	failures   int
	bad        int
	said       Introduction
	handedOver bool // a Backend closed, or closes, the connection
}

// Receive returns the visitor on conn, which is a *tls.Conn or bare and whose
// RemoteAddr is the real client's; protocol is the service's plain name. After
// an error the caller has only to call End.
func (o FrontOptions) Receive(ctx context.Context, conn net.Conn, protocol directory.Service) (*Visitor, error) {
	v := &Visitor{
		o: o, protocol: protocol, raw: conn, Trace: mail.NewTraceID(), deadline: time.Now().Add(o.PreLogin),
		Client: auth.Client{Addr: addrPort(conn.RemoteAddr()), Peer: listen.ProxiedBy(conn), TLS: listen.ProxiedTLS(conn), Service: protocol},
	}
	if trace, ok := mail.ParseTraceID(listen.ProxiedTrace(conn)); ok {
		v.Trace = trace // a trusted proxy's session goes on under its own name
	}
	v.Hops = listen.ProxiedHops(conn)
	v.Log = o.Log.With("trace", string(v.Trace), "peer", conn.RemoteAddr().String())
	if tlsConn, ok := conn.(*tls.Conn); ok {
		if err := v.handshake(ctx, tlsConn); err != nil {
			return v, err
		}
		v.Client.Service = protocol.OverTLS()
	}
	if v.Client.Peer.IsValid() { // what counts is how the client came to the proxy
		v.Client.Service = protocol
		if said := directory.Service(listen.ProxiedService(conn)); said == protocol.OverTLS() || said == "" && listen.ProxiedTLS(conn) {
			v.Client.Service = protocol.OverTLS()
		}
	}
	v.chooseDomain()
	v.listen(ctx, nil)
	return v, nil
}

// chooseDomain finds the domain of logins that name none.
func (v *Visitor) chooseDomain() {
	if v.o.Domain == nil {
		return
	}
	name := ""
	if c, ok := v.raw.(*tls.Conn); ok {
		name = c.ConnectionState().ServerName
	}
	v.Client.Domain = v.o.Domain(addrPort(v.raw.LocalAddr()).Addr(), name)
}

// listen begins, or after a refused handover goes on, reading.
func (v *Visitor) listen(ctx context.Context, readAhead []byte) {
	v.Conn = wire.NewConn(v.raw, max(readSize, v.o.ReadSize), readAhead)
	v.Conn.SetReadDeadline(v.deadline)
	v.Conn.SetTimeouts(0, 30*time.Second)
	v.unhook = v.Conn.InterruptOn(ctx)
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return ap
}

func (v *Visitor) handshake(ctx context.Context, conn *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, v.o.Handshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		v.Log.Info("tls handshake failed", "err", err)
		return fmt.Errorf("tls handshake: %w", err)
	}
	v.Client.TLS, v.Encrypted = true, true
	state := conn.ConnectionState()
	v.Client.Session = &state
	return nil
}

// MayStartTLS reports whether TLS is there to be had.
func (v *Visitor) MayStartTLS() bool { return v.o.TLS != nil && !v.Encrypted }

// StartTLS upgrades the connection, once the command is answered in Conn. The
// front has refused to if plaintext had come behind the command; after an
// error the connection must end (RFC 3207 §4.2, hardening row S3).
func (v *Visitor) StartTLS(ctx context.Context) error {
	if err := v.Conn.Flush(); err != nil {
		return err
	}
	up := tls.Server(v.raw, v.o.TLS)
	if err := v.handshake(ctx, up); err != nil {
		return err
	}
	if err := v.Conn.Upgrade(up); err != nil {
		return err
	}
	v.raw = up
	v.chooseDomain()
	v.Conn.SetReadDeadline(v.deadline)
	return nil
}

// Upgraded notes that the front's protocol has encrypted Conn by itself.
func (v *Visitor) Upgraded(state tls.ConnectionState) {
	v.raw = v.Conn.Raw()
	v.Client.TLS, v.Encrypted, v.Client.Session = true, true, &state
	v.chooseDomain()
}

// Bad counts a bad command, and reports whether it was one too many.
func (v *Visitor) Bad() bool {
	v.bad++
	return v.bad >= v.o.BadCommands
}

// Failed counts a failed login, and reports whether it was one too many.
func (v *Visitor) Failed() bool {
	v.failures++
	return v.failures >= v.o.Failures
}

// HandOver finds the user's store and gives it the connection, the login
// command still unanswered. A *RefusedError: the store did not take it; the
// front answers and may go on, with a Conn that is new. Else the connection is
// over. h needs what the protocol adds to the visitor. Both are large: by value
// they would lie on the stack, several times, for as long as the session lasts.
func (v *Visitor) HandOver(ctx context.Context, id *auth.Identity, h *Handover) error {
	if id.Proxy != "" && v.said.Trace != "" {
		v.rename(v.said.Trace) // the proxy's session goes on under its own name
	}
	backend, store, err := v.route(ctx, id)
	if err != nil {
		return v.refused(id, err)
	}
	during := ctx
	if !id.Carrier {
		var done func()
		var ok bool
		if during, done, ok = v.admit(ctx, id, store); !ok {
			return v.refused(id, &RefusedError{Unavailable: true, Text: "Too many sessions of this account", Err: errors.New("limit of sessions")})
		}
		defer done()
	}
	if err := v.Conn.Flush(); err != nil {
		return err
	}
	listen.Keep(ctx)
	v.detach(id, h)
	log := h.Log
	log.Info("session begun", "mech", id.Mechanism, "tls", v.Client.TLS, "store", store)
	err = backend.Attach(during, h)
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		v.handedOver = false
		v.listen(ctx, h.ReadAhead)
		if refused.Credentials && id.Refused != nil {
			id.Refused(ctx)
		}
		return v.refused(id, refused)
	}
	if err != nil {
		log.Info("session failed", "err", err)
	}
	return nil
}

// admit counts the session among those of its account; false: that is one too many.
//
//go:noinline
func (v *Visitor) admit(ctx context.Context, id *auth.Identity, store string) (during context.Context, done func(), ok bool) {
	return v.o.Sessions.begin(ctx, v.entry(id, store))
}

// detach takes the connection out of the front's hands, and says in h what a
// Backend has to know of it. As all that moves large values it keeps them off
// HandOver's stack.
//
//go:noinline
func (v *Visitor) detach(id *auth.Identity, h *Handover) {
	v.unhook()
	v.unhook = nil // it holds the Conn
	v.handedOver = true
	h.Conn, h.ReadAhead = v.Conn.Detach()
	v.Conn = nil // its buffers go while the session lasts
	log := v.Log.With("account", id.User.Account())
	if id.Proxy != "" {
		log = log.With("proxy", id.Proxy)
	}
	h.Protocol, h.Identity, h.Client, h.Hops, h.Trace, h.Log = v.protocol, *id, v.Client, v.Hops, v.Trace, log
	h.Client.Session = nil // served its purpose
}

// route finds who serves an identity.
func (v *Visitor) route(ctx context.Context, id *auth.Identity) (Backend, string, error) {
	if !id.Carrier {
		return v.o.Router.Route(ctx, id.User)
	}
	if v.o.Carrier == nil {
		return nil, "", &RefusedError{Text: "No accounts are moved by this door", Err: errors.New("no carrier here")}
	}
	return v.o.Carrier, "local", nil
}

// refused makes every error a *RefusedError, and logs it.
func (v *Visitor) refused(id *auth.Identity, err error) error {
	v.Log.Warn("store refused the client", "account", id.User.Account(), "err", err)
	refused := (*RefusedError)(nil)
	if !errors.As(err, &refused) {
		refused = &RefusedError{Unavailable: true, Text: "Your mailbox cannot be reached now, try again later", Err: err}
	}
	return refused
}

// Gone reports whether a Backend has the connection.
func (v *Visitor) Gone() bool { return v.handedOver }

// End is the last of a visit, deferred: it turns a panic into last words, and
// closes the connection unless a Backend has it.
func (v *Visitor) End(lastWords string) {
	if p := recover(); p != nil {
		v.Log.Error("panic in front", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		if !v.handedOver && v.Conn != nil {
			v.Conn.WriteString(lastWords)
		}
	}
	if v.unhook != nil {
		v.unhook()
	}
	if v.handedOver {
		return
	}
	if v.Conn != nil {
		_ = v.Conn.Flush()
	}
	_ = v.raw.Close()
}
