// Package lmtpserver is the door by which mail comes into a store: LMTP
// (RFC 2033), from the MTAs of our own network.
//
// Each recipient is judged at RCPT, by the store's own look at the directory,
// and answered by itself after DATA, when the message is durable. There are no
// logins: who may connect is the listener's business.
package lmtpserver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/smtpwire"
)

// Options of New.
type Options struct {
	// Deliverer judges recipients and stores messages.
	Deliverer *store.Deliverer
	// Hostname is how the server calls itself.
	Hostname string
	// TLS is for STARTTLS; nil: not offered.
	TLS *tls.Config
	// MaxSize bounds a message, in bytes; 0: 100 MiB, which is above what an
	// MTA of ours accepts. MaxRecipients bounds one transaction; 0: 10000, for
	// an MTA may have expanded a group.
	MaxSize       int64
	MaxRecipients int
	// SpoolDir holds messages being taken in that are too large for memory;
	// empty: the system's folder for temporary files.
	SpoolDir string
	// History tells what is known of a message (smtpwire.Historian); nil: nothing,
	// and it is not offered.
	History func(context.Context, mail.TraceID) ([]byte, error)
	// Limits of a client; the zero value: smtpwire.TrustedLimits.
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
		o.MaxSize = 100 << 20
	}
	if o.MaxRecipients == 0 {
		o.MaxRecipients = 10000
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if o.Limits == (smtpwire.Limits{}) {
		o.Limits = smtpwire.TrustedLimits()
	}
	return &Server{o: o}
}

// ServeConn serves one client until it leaves, and closes conn. When ctx ends
// it finishes the transaction in hand, says 421 and closes.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	log := s.o.Log.With("conn", s.conns.Add(1), "peer", conn.RemoteAddr().String())
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic in a session", "err", v, "stack", string(debug.Stack()))
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = conn.Write([]byte("421 4.3.0 internal error\r\n"))
		}
	}()
	h := &client{server: s, log: log}
	err := smtpwire.Serve(ctx, wire.NewConn(conn, smtpwire.ReadSize, nil), smtpwire.Options{
		LMTP: true, Hostname: s.o.Hostname, TLS: s.o.TLS, MaxSize: s.o.MaxSize, MaxRecipients: s.o.MaxRecipients,
		Limits: s.o.Limits, Log: log,
	}, h)
	if err != nil {
		log.Debug("connection lost", "err", err)
	}
}
