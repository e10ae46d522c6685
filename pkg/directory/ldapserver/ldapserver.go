// Package ldapserver is the LDAP door (RFC 4511): it serves any directory.Tree
// to LDAP clients, one connection at a time per ServeConn.
//
// Passwords are taken over TLS, unix sockets and loopback only; nobody reads
// or writes without a bind, but for the root DSE; userPassword is never sent,
// compared or searched. SASL EXTERNAL (RFC 4422 appendix A) gives a process on a
// unix socket the DN that its uid stands for, and a client certificate that of
// its subject; SASL PLAIN (RFC 4616) is a simple bind by another way, or the login
// of a user by name, as SCRAM-SHA-256 (RFC 7677) is.
//
// Searches and compares run beside the reading of further requests, up to
// Options.Pending at once, so that an Abandon takes effect; everything else
// runs in the order it came. The door keeps no data and knows no schema: who
// may do what is Options.Access, the rest is the Tree's.
package ldapserver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
)

// Limits of hardening.md section 3.
const (
	anonymousPDU    = 64 << 10 // bytes of a message before a bind
	boundPDU        = 1 << 20  // and after
	defaultPending  = 32
	defaultIdle     = 15 * time.Minute
	anonymousTime   = 60 * time.Second // how long a connection may stay without a bind
	pduTime         = 30 * time.Second // from a message's first byte to its last
	writeTime       = 30 * time.Second
	handshakeTime   = 10 * time.Second
	defaultSize     = 500
	defaultTime     = 5 * time.Second
	privilegedSize  = 10_000
	privilegedTime  = 60 * time.Second
	pendingPatience = 100 * time.Millisecond // how long a request waits for its turn before Busy
)

// Options are what a Server stands on. Tree is required.
type Options struct {
	// Tree is what is served. It takes writes if it is a directory.Editor;
	// else they are answered UnwillingToPerform.
	Tree directory.Tree
	// Access says who may do what; its privileged have the larger limits.
	Access directory.Access
	// Accounts may bind though they are no entries: the admin, the services of
	// other hosts. They come before entries of the same DN.
	Accounts []Account
	// TLS is for StartTLS; nil offers none. (Listeners wrap TLS from the first
	// byte themselves.)
	TLS *tls.Config
	// Peers are the DNs of local processes by their uid, for SASL EXTERNAL
	// over a unix socket; empty offers none.
	Peers map[uint32]directory.DN
	// NamingContexts are told in the root DSE.
	NamingContexts []directory.DN
	// Schema is published, sorts, and knows the names of attributes; nil: none of it.
	Schema *schema.Schema
	// Certificates are the DNs of who has proved a certificate of that subject
	// (RFC 4514), for SASL EXTERNAL over TLS; empty offers none.
	Certificates map[string]directory.DN
	// Logins takes binds by user names and slows down guessing; nil: neither.
	Logins Logins
	// Version is told in the root DSE.
	Version string
	// SizeLimit and TimeLimit bound a search: 0 means 500 entries, 5 seconds.
	// The privileged have 10,000 and a minute.
	SizeLimit int
	TimeLimit time.Duration
	// IdleTimeout ends a connection that says nothing; 0 means 15 minutes.
	// A connection that is not bound ends after a minute in any case.
	IdleTimeout time.Duration
	// Pending is how many searches one connection may have under way; 0 means 32.
	Pending int
	// Log gets a line for each bind, and at Debug the dialogue without secrets.
	Log *slog.Logger
}

// Account is an identity of its own. Password is a hash as userPassword holds
// it (password.Hash), or clear.
type Account struct {
	DN       directory.DN
	Password string
}

// Server serves LDAP connections. It may be used from many goroutines.
type Server struct {
	o      Options
	editor directory.Editor // nil: read only
	// operator is the editor, if it can more.
	operator directory.Operator
	// hashes bounds the accounts' password hashes at work: each takes a core
	// and much memory.
	hashes chan struct{}
	hosts  hosts
	// aliases says whether searches have any to follow.
	aliases aliases
	// administered are the domains of those who were bound lately.
	administered administered
	conns        atomic.Uint64 // served so far: the number of the last
}

// New returns a server with the defaults of o filled in.
func New(o Options) *Server {
	if o.SizeLimit <= 0 {
		o.SizeLimit = defaultSize
	}
	if o.TimeLimit <= 0 {
		o.TimeLimit = defaultTime
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = defaultIdle
	}
	if o.Pending <= 0 {
		o.Pending = defaultPending
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	editor, _ := o.Tree.(directory.Editor)
	operator, _ := o.Tree.(directory.Operator)
	return &Server{o: o, editor: editor, operator: operator, hashes: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// ServeConn serves one connection until it ends, and closes it. When ctx ends
// it finishes the operations under way, sends a notice of disconnection (RFC
// 4511 §4.4.1) and closes.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	log := s.o.Log.With("conn", s.conns.Add(1), "peer", conn.RemoteAddr().String())
	defer func() {
		if p := recover(); p != nil {
			log.Error("connection panicked", "err", p, "stack", string(debug.Stack()))
			_ = conn.Close()
		}
	}()
	if t, ok := conn.(*tls.Conn); ok {
		if err := handshake(ctx, t); err != nil {
			log.Debug("tls handshake failed", "err", err)
			_ = conn.Close()
			return
		}
	}
	newSession(s, conn, log).serve(ctx)
}

func handshake(ctx context.Context, t *tls.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	return t.HandshakeContext(ctx)
}
