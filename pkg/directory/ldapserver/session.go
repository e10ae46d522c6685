package ldapserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire"
	"mailsrv/pkg/wire/ldapwire"
)

// readBuffer is the size of a connection's read buffer; most messages fit and
// are taken out of it in one piece.
const readBuffer = 8 << 10

// session is one connection.
type session struct {
	srv    *Server
	log    *slog.Logger
	conn   *wire.Conn // for reading alone
	out    *writer
	secure bool // passwords may be sent
	tls    bool
	start  time.Time
	from   netip.AddrPort // the client

	// Who is bound. Only the reading goroutine changes it, and only while no
	// operation is under way.
	asker
	// exchange is the SASL exchange that goes on with the next bind; nil: none.
	exchange *exchange
	// cursors are the paged searches that may go on.
	cursors cursors

	slots   chan struct{}  // one for each operation under way
	running sync.WaitGroup // the operations under way
	jobs    chan job
	workers sync.WaitGroup
	hired   int // workers; for the reading goroutine

	mu  sync.Mutex
	ops map[int]*operation
}

func newSession(s *Server, conn net.Conn, log *slog.Logger) *session {
	c := &session{
		srv:   s,
		log:   log,
		conn:  wire.NewConn(conn, readBuffer, nil),
		out:   &writer{conn: conn},
		start: time.Now(),
		from:  addressOf(conn),
		slots: make(chan struct{}, s.o.Pending),
		jobs:  make(chan job, s.o.Pending),
		ops:   make(map[int]*operation),
	}
	c.conn.SetTimeouts(s.o.IdleTimeout, writeTime)
	c.secure, c.tls = confidential(conn)
	return c
}

// serve reads and runs requests until the connection ends.
func (c *session) serve(ctx context.Context) {
	defer c.conn.InterruptOn(ctx)()
	// Operations outlive a drain's beginning, not the connection.
	ops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		cancel()
		_ = c.conn.Close() // frees who writes to a client that does not read
		c.workers.Wait()
		c.identify(asker{})
		c.cursors.close()
	}()
	for {
		m, err := c.read()
		if err != nil {
			c.end(err)
			return
		}
		if !c.dispatch(ops, m) {
			return
		}
	}
}

// read waits for the next message.
func (c *session) read() (ldapwire.Message, error) {
	limit := boundPDU
	deadline := time.Time{}
	if c.nobody() {
		limit = anonymousPDU
		deadline = c.start.Add(anonymousTime)
	}
	c.conn.SetReadDeadline(deadline)
	if err := c.conn.AwaitCommand(); err != nil {
		return ldapwire.Message{}, err
	}
	c.conn.SetReadDeadline(time.Now().Add(pduTime))
	pdu, err := ldapwire.ReadPDU(c.conn.Reader(), limit)
	if err != nil {
		return ldapwire.Message{}, err
	}
	m, err := ldapwire.Decode(pdu)
	if errors.Is(err, ldapwire.ErrTooComplex) {
		c.reply(m.ID, &ldapwire.Done{Kind: ldapwire.TagSearchDone,
			Result: result(directory.AdminLimitExceeded, "filter too complex")})
		return c.read()
	}
	return m, err
}

// end says goodbye where the protocol asks for it (RFC 4511 §4.1.1, §4.4.1).
func (c *session) end(err error) {
	switch {
	case errors.Is(err, wire.ErrDraining):
		c.running.Wait()
		c.disconnect(directory.Unavailable, "shutting down")
	case errors.Is(err, ldapwire.ErrSyntax), errors.Is(err, ldapwire.ErrTooLarge):
		c.log.Info("protocol error", "err", err)
		c.disconnect(directory.ProtocolError, "malformed or oversized message")
	case errors.Is(err, io.EOF):
	default:
		c.log.Debug("connection lost", "err", err)
	}
}

// disconnect sends a notice of disconnection.
func (c *session) disconnect(code directory.ResultCode, text string) {
	c.reply(0, &ldapwire.ExtendedResponse{Result: result(code, text), OID: ldapwire.OIDDisconnection})
}

// dispatch runs one request, or starts it; false ends the connection.
func (c *session) dispatch(ctx context.Context, m ldapwire.Message) bool {
	if m.ID == 0 {
		c.end(ldapwire.ErrSyntax) // §4.1.1.1: 0 is ours
		return false
	}
	with, err := c.controlsOf(m)
	if err != nil {
		if response := refuse(m.Op.Tag(), c.asker.result(c, err)); response != nil {
			c.reply(m.ID, response)
		}
		return true
	}
	switch op := m.Op.(type) {
	case *ldapwire.UnbindRequest:
		return false
	case *ldapwire.AbandonRequest:
		c.abandon(op.ID)
	case *ldapwire.BindRequest:
		c.running.Wait() // §4.2.1: nothing runs across a change of identity
		res, controls := c.bind(ctx, op, with)
		c.reply(m.ID, res, controls...)
	case *ldapwire.SearchRequest:
		_, limit := with.as.limits(c.srv, op)
		return c.begin(ctx, m, limit, job{request: op, with: with, response: ldapwire.TagSearchDone, run: c.search})
	case *ldapwire.CompareRequest:
		return c.begin(ctx, m, c.srv.o.TimeLimit, job{request: op, with: with, response: ldapwire.TagCompareResponse, run: c.compare})
	case *ldapwire.AddRequest:
		c.edit(m.ID, ldapwire.TagAddResponse, c.add(ctx, op, with))
	case *ldapwire.ModifyRequest:
		c.edit(m.ID, ldapwire.TagModifyResponse, c.modify(ctx, op, with))
	case *ldapwire.DelRequest:
		c.edit(m.ID, ldapwire.TagDelResponse, c.delete(ctx, op, with))
	case *ldapwire.ModifyDNRequest:
		c.edit(m.ID, ldapwire.TagModifyDNResponse, c.rename(ctx, op, with))
	case *ldapwire.ExtendedRequest:
		if op.OID == ldapwire.OIDStartTLS {
			return c.startTLS(ctx, m.ID)
		}
		response, controls := c.extended(ctx, op, with)
		c.reply(m.ID, response, controls...)
	default: // a response
		c.end(ldapwire.ErrSyntax)
		return false
	}
	return true
}

// Busy is what a client over a limit hears: a notice of disconnection.
func Busy() string {
	return string(ldapwire.AppendMessage(nil, ldapwire.Message{Op: &ldapwire.ExtendedResponse{
		Result: result(directory.Unavailable, "too many connections, try again later"), OID: ldapwire.OIDDisconnection}}))
}
