package relay

import (
	"net"
	"sync"
)

const (
	// copySize is the most that is copied at once.
	copySize = 32 << 10
	// smallSize is the buffer of a connection that can only be waited for by
	// reading: most sessions rest most of their time.
	smallSize = 4 << 10
)

// buffers are lent to sessions while octets pass.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() []byte {
	if v, ok := b.pool.Get().(*[copySize]byte); ok {
		return v[:]
	}
	return make([]byte, copySize)
}

func (b *buffers) put(p []byte) { b.pool.Put((*[copySize]byte)(p)) }

// source reads one side of a session. A bare TCP connection is waited for
// without any buffer, another one with a small one.
type source struct {
	conn    net.Conn
	buffers *buffers
	bare    *bare // nil: the connection is something else
	small   []byte
	large   bool // much came last, so much may come again
}

func newSource(conn net.Conn, b *buffers) *source {
	return &source{conn: conn, buffers: b, bare: newBare(conn, b)}
}

// next waits and passes what came to take, which must not keep it. The error is
// the connection's, or that of take.
func (s *source) next(take func([]byte) error) error {
	var b []byte
	var n int
	var err error
	switch {
	case s.bare != nil:
		if b, n, err = s.bare.read(); b != nil {
			defer s.buffers.put(b)
		}
	case s.large:
		b = s.buffers.get()
		defer s.buffers.put(b)
		n, err = s.conn.Read(b)
		s.large = n >= smallSize
	default:
		if s.small == nil {
			s.small = make([]byte, smallSize)
		}
		b = s.small
		n, err = s.conn.Read(b)
		s.large = n == smallSize
	}
	if n > 0 {
		if err := take(b[:n]); err != nil {
			return err
		}
	}
	return err
}
