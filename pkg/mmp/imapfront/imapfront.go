// Package imapfront is what an IMAP client may say before it has logged in:
// CAPABILITY, STARTTLS, ID, NOOP, LOGOUT, LOGIN and AUTHENTICATE (RFC 3501 and
// RFC 9051 §6.1 and §6.2, RFC 2971, RFC 4959). It then hands the connection,
// with the login command unanswered, to the store's Backend.
//
// It reads no mail and knows no mailbox. Everything here is said by strangers,
// so bounds are tight: sizes, bad commands, failed logins and total time.
//
// The order is a promise: the password is verified once, then the user's store
// is looked up, then it is reached. A wrong password opens no connection.
package imapfront

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/imapwire"
)

// Options are a Front's parts and bounds.
type Options struct {
	// Authenticator and Router are required.
	Authenticator auth.Authenticator
	Router        mmp.Router
	// TLS serves STARTTLS; nil: not offered.
	TLS *tls.Config
	// Hostname is what the greeting says.
	Hostname string
	// Capabilities lists what the stores can do after a login, announced
	// before it too; the front adds its own. Nil: IMAP4rev1 alone.
	Capabilities func() []string
	Log          *slog.Logger

	// PreLogin bounds the time from the connection to the login; zero: 60 s.
	PreLogin time.Duration
	// Handshake bounds that of TLS; zero: 10 s.
	Handshake time.Duration
	// Failures and BadCommands end the connection; zero: 10 and 3.
	Failures, BadCommands int
}

// Front serves connections up to their login.
type Front struct{ o Options }

// New returns a Front. It may serve many connections at once.
func New(o Options) *Front {
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
	return &Front{o: o}
}

// readSize is the read buffer of a client that has not logged in.
const readSize = 4 << 10

// ServeConn serves one connection until it ends, by its Backend after a login,
// and closes it. When ctx ends the client is told BYE. conn is a *tls.Conn, or
// bare; its RemoteAddr is the real client's.
func (f *Front) ServeConn(ctx context.Context, conn net.Conn) {
	s := &session{
		f: f, raw: conn, trace: mail.NewTraceID(),
		client: auth.Client{
			Addr: addrPort(conn.RemoteAddr()), Peer: listen.ProxiedBy(conn), TLS: listen.ProxiedTLS(conn), Service: directory.ServiceIMAP,
		},
		deadline: time.Now().Add(f.o.PreLogin),
	}
	if trace, ok := mail.ParseTraceID(listen.ProxiedTrace(conn)); ok {
		s.trace = trace // a trusted proxy's session goes on under its own name
	}
	s.log = f.o.Log.With("trace", string(s.trace), "peer", conn.RemoteAddr().String())
	defer s.end()
	if tlsConn, ok := conn.(*tls.Conn); ok {
		s.client.TLS, s.encrypted = true, true
		if err := s.handshake(ctx, tlsConn); err != nil {
			s.log.Info("tls handshake failed", "err", err)
			return
		}
	}
	s.listen(ctx, nil)
	s.conn.WriteString("* OK [CAPABILITY " + s.capabilities() + "] " + f.o.Hostname + " ready\r\n")
	s.serve(ctx)
}

// listen begins, or after a refused handover goes on, reading commands.
func (s *session) listen(ctx context.Context, readAhead []byte) {
	s.conn = wire.NewConn(s.raw, readSize, readAhead)
	s.conn.SetReadDeadline(s.deadline)
	s.conn.SetTimeouts(0, 30*time.Second)
	s.reader = imapwire.NewReader(s.conn)
	s.unhook = s.conn.InterruptOn(ctx)
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
