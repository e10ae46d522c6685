// Package smtpserver is the door by which mail comes into the MTA: SMTP
// (RFC 5321) on port 25, and submission (RFC 6409) on 587 and 465.
//
// It says who the client is and carries what the client says to an
// mta.Intake. The session itself is smtpwire.Serve; what is accepted and where
// it goes is the Intake's, which also logs each accepted message, as the
// Authenticator logs each login.
package smtpserver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/smtpwire"
)

// Options of New.
type Options struct {
	// Intake takes the messages.
	Intake mta.Intake
	// Authenticator verifies logins; only submission needs it.
	Authenticator auth.Authenticator
	// TLS is for STARTTLS; nil: not offered. TLS from the first byte is the
	// listener's.
	TLS *tls.Config
	// Hostname is how the server calls itself.
	Hostname string
	// Submission serves users' mail programs: a login comes before MAIL, and
	// is offered only where a password may cross the connection.
	Submission bool
	// MaxSize bounds a message, in bytes; 0: 50 MiB. MaxRecipients bounds one
	// transaction; 0: 1000, or 200 for submission.
	MaxSize       int64
	MaxRecipients int
	// SpoolDir holds messages being taken in that are too large for memory;
	// empty: the system's folder for temporary files.
	SpoolDir string
	// DSN announces RFC 3461. The Intake must then honour NOTIFY=SUCCESS.
	DSN bool
	// Start serves ETRN (smtpwire.Starter), not on submission; nil: not offered.
	Start func(ctx context.Context, domain string, wide bool) (int, error)
	// TrustTrace says which clients may name their messages themselves (XTRACE),
	// so that one trace follows a message over several of our hosts; nil: none.
	TrustTrace func(netip.Addr) bool
	// Limits of a client; the zero value: smtpwire.PublicLimits.
	Limits smtpwire.Limits
	Log    *slog.Logger
}

// spoolMemory is how much of a message is held in memory while it comes in.
const spoolMemory = 128 << 10

// Server serves connections. It may be used from many goroutines.
type Server struct {
	o     Options
	conns atomic.Int64
}

// New returns a Server.
func New(o Options) *Server {
	if o.MaxSize == 0 {
		o.MaxSize = 50 << 20
	}
	if o.MaxRecipients == 0 {
		o.MaxRecipients = 1000
		if o.Submission {
			o.MaxRecipients = 200
		}
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if o.Limits == (smtpwire.Limits{}) {
		o.Limits = smtpwire.PublicLimits()
	}
	return &Server{o: o}
}

// ServeConn serves one client until it leaves, and closes conn. When ctx ends
// it finishes the transaction in hand, says 421 and closes.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	peer := peerOf(conn)
	log := s.o.Log.With("conn", s.conns.Add(1), "peer", conn.RemoteAddr().String())
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic in a session", "err", v, "stack", string(debug.Stack()))
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte("421 4.3.0 internal error\r\n"))
		}
	}()
	service := directory.ServiceSMTP
	if _, ok := conn.(*tls.Conn); ok {
		service = directory.ServiceSMTPS
	}
	if listen.ProxiedTLS(conn) && directory.Service(listen.ProxiedService(conn)) == directory.ServiceSMTPS {
		service = directory.ServiceSMTPS
	}
	h := &client{server: s, session: mta.Session{
		Client:     auth.Client{Addr: peer, Peer: listen.ProxiedBy(conn), TLS: listen.ProxiedTLS(conn), Service: service},
		Submission: s.o.Submission,
		Log:        log,
	}}
	err := smtpwire.Serve(ctx, wire.NewConn(conn, smtpwire.ReadSize, nil), smtpwire.Options{
		Hostname: s.o.Hostname, TLS: s.o.TLS, MaxSize: s.o.MaxSize, MaxRecipients: s.o.MaxRecipients,
		Limits: s.o.Limits, Log: log,
	}, h)
	if err != nil {
		log.Debug("connection lost", "err", err)
	}
}

// peerOf is the client's address; zero if it has none (a pipe, a unix socket).
func peerOf(conn net.Conn) netip.AddrPort {
	p, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Busy is what a client over a limit hears (RFC 5321 §3.8).
func Busy(hostname string) string {
	return "421 4.7.0 " + hostname + " too many connections, try again later\r\n"
}
