package ldapserver

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// operation is a request that runs beside the reading of others.
type operation struct {
	id     int
	cancel context.CancelFunc
	// abandoned is guarded by the writer's lock: nothing is sent afterwards.
	abandoned bool
	// canceled: the client has asked for an early end, and an answer (RFC 3909).
	canceled atomic.Bool
}

// job is a search or a compare that is to be run.
type job struct {
	ctx      context.Context
	op       *operation
	request  ldapwire.Op
	with     controls
	response ldapwire.Tag
	run      func(context.Context, *operation, ldapwire.Op, controls) (ldapwire.Result, []ldapwire.Control)
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
	res, controls := j.run(j.ctx, j.op, j.request, j.with)
	if j.op.canceled.Load() {
		res = result(directory.Canceled, "")
	}
	c.delist(j.op) // first: the client may use the id again as soon as it hears the end
	c.out.finish(j.op, done(j.response, res), controls...)
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
