package ldapserver

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"mailsrv/pkg/wire/ldapwire"
)

// flushAt is how many bytes of entries wait before they are sent.
const flushAt = 32 << 10

// writer collects the messages of a connection's operations. Entries are
// encoded straight into its buffer.
type writer struct {
	// waiting counts the responses that wait for the lock: whoever holds it
	// leaves the flush to them, so that answers which come together go together.
	waiting atomic.Int32

	mu   sync.Mutex
	conn net.Conn
	buf  []byte
	err  error
}

// append adds what encode appends, unless op was abandoned. It returns the
// first error of the connection.
func (w *writer) append(op *operation, encode func(dst []byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !op.abandoned {
		w.buf = encode(w.buf)
	}
	if len(w.buf) >= flushAt {
		w.flush()
	}
	return w.err
}

// finish adds the last message of op and sends all there is.
func (w *writer) finish(op *operation, last ldapwire.Op, controls ...ldapwire.Control) {
	w.waiting.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	others := w.waiting.Add(-1)
	if !op.abandoned {
		w.buf = ldapwire.AppendMessage(w.buf, ldapwire.Message{ID: op.id, Op: last, Controls: controls})
	}
	if others == 0 || len(w.buf) >= flushAt {
		w.flush()
	}
}

func (w *writer) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, w.err = w.conn.Write(w.buf); w.err != nil {
			_ = w.conn.Close() // wakes the reader
		}
	}
	if cap(w.buf) > 4*flushAt {
		w.buf = nil // a large answer's buffer is not kept for an idle client
	}
	w.buf = w.buf[:0]
}

// reply sends a message that no operation under way belongs to.
func (c *session) reply(id int, op ldapwire.Op, controls ...ldapwire.Control) {
	c.out.finish(&operation{id: id}, op, controls...)
}
