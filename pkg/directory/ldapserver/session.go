package ldapserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
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

	// who is bound; the root DN: nobody. Only the reading goroutine changes
	// it, and only while no operation is under way.
	who        directory.DN
	privileged bool

	slots   chan struct{}  // one for each operation under way
	running sync.WaitGroup // the operations under way
	jobs    chan job
	workers sync.WaitGroup
	hired   int // workers; for the reading goroutine

	mu  sync.Mutex
	ops map[int]*operation
}

// operation is a request that runs beside the reading of others.
type operation struct {
	id     int
	cancel context.CancelFunc
	// abandoned is guarded by the writer's lock: nothing is sent afterwards.
	abandoned bool
}

// job is a search or a compare that is to be run.
type job struct {
	ctx      context.Context
	op       *operation
	request  ldapwire.Op
	response ldapwire.Tag
	run      func(context.Context, *operation, ldapwire.Op) ldapwire.Result
}

func newSession(s *Server, conn net.Conn, log *slog.Logger) *session {
	c := &session{
		srv:   s,
		log:   log,
		conn:  wire.NewConn(conn, readBuffer, nil),
		out:   &writer{conn: conn},
		start: time.Now(),
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
	if c.who.IsRoot() {
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
	if refusal := critical(m); refusal != nil {
		c.reply(m.ID, refusal)
		return true
	}
	switch op := m.Op.(type) {
	case *ldapwire.UnbindRequest:
		return false
	case *ldapwire.AbandonRequest:
		c.abandon(op.ID)
	case *ldapwire.BindRequest:
		c.running.Wait() // §4.2.1: nothing runs across a change of identity
		c.reply(m.ID, c.bind(ctx, op))
	case *ldapwire.SearchRequest:
		_, limit := c.limits(op)
		return c.begin(ctx, m, limit, job{request: op, response: ldapwire.TagSearchDone, run: c.search})
	case *ldapwire.CompareRequest:
		return c.begin(ctx, m, c.srv.o.TimeLimit, job{request: op, response: ldapwire.TagCompareResponse, run: c.compare})
	case *ldapwire.AddRequest:
		c.reply(m.ID, done(ldapwire.TagAddResponse, c.add(ctx, op)))
	case *ldapwire.ModifyRequest:
		c.reply(m.ID, done(ldapwire.TagModifyResponse, c.modify(ctx, op)))
	case *ldapwire.DelRequest:
		c.reply(m.ID, done(ldapwire.TagDelResponse, c.delete(ctx, op)))
	case *ldapwire.ModifyDNRequest:
		c.reply(m.ID, done(ldapwire.TagModifyDNResponse, c.rename(ctx, op)))
	case *ldapwire.ExtendedRequest:
		if op.OID == ldapwire.OIDStartTLS {
			return c.startTLS(ctx, m.ID)
		}
		c.reply(m.ID, c.extended(ctx, op))
	default: // a response
		c.end(ldapwire.ErrSyntax)
		return false
	}
	return true
}

// critical answers a request with a critical control: we know none (§4.1.11).
// Nil: there is none, or the request has no response.
func critical(m ldapwire.Message) ldapwire.Op {
	for _, control := range m.Controls {
		if control.Critical {
			return refuse(m.Op.Tag(), result(directory.UnavailableCritExtension, "unknown critical control "+printable(control.OID)))
		}
	}
	return nil
}

// begin runs a request beside the reading of others, when it is its turn, and
// no longer than limit. False: it reused the id of one under way, and the
// connection ends.
func (c *session) begin(ctx context.Context, m ldapwire.Message, limit time.Duration, j job) bool {
	if !c.slot() {
		c.reply(m.ID, done(j.response, result(directory.Busy, "too many operations under way")))
		return true
	}
	end := ctx.Done()
	j.op = &operation{id: m.ID}
	j.ctx, j.op.cancel = context.WithTimeout(ctx, limit)
	if !c.enlist(j.op) {
		j.op.cancel()
		<-c.slots
		c.end(ldapwire.ErrSyntax)
		return false
	}
	c.running.Add(1)
	c.jobs <- j // never blocks: there are no more jobs than slots
	if len(c.slots) > c.hired {
		c.hired++
		c.workers.Go(func() { c.work(end) })
	}
	return true
}

// work runs jobs until the connection ends: a goroutine that has run one has
// grown the stack for the next. Nobody is hired while one is free.
func (c *session) work(end <-chan struct{}) {
	for {
		select {
		case j := <-c.jobs:
			c.perform(j)
		case <-end:
			return
		}
	}
}

func (c *session) perform(j job) {
	defer c.running.Done()
	defer func() { <-c.slots }()
	defer j.op.cancel()
	defer c.guard()
	res := j.run(j.ctx, j.op, j.request)
	c.delist(j.op) // first: the client may use the id again as soon as it hears the end
	c.out.finish(j.op, done(j.response, res))
}

// slot waits a moment for a place among the operations under way.
func (c *session) slot() bool {
	select {
	case c.slots <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(pendingPatience)
	defer t.Stop()
	select {
	case c.slots <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}

func (c *session) enlist(op *operation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.ops[op.id]; taken {
		return false
	}
	c.ops[op.id] = op
	return true
}

func (c *session) delist(op *operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ops, op.id)
}

// guard keeps a panic of one operation from the process: it costs the
// connection.
func (c *session) guard() {
	if p := recover(); p != nil {
		c.log.Error("operation panicked", "err", p, "stack", string(debug.Stack()))
		_ = c.conn.Close()
	}
}

// abandon ends an operation without an answer (§4.11).
func (c *session) abandon(id int) {
	c.mu.Lock()
	op := c.ops[id]
	c.mu.Unlock()
	if op == nil {
		return
	}
	c.out.mu.Lock()
	op.abandoned = true
	c.out.mu.Unlock()
	op.cancel()
	c.log.Debug("abandoned", "id", id)
}
