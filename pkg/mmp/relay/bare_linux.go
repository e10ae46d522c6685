package relay

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bare is a TCP connection without TLS, seen as its socket. One goroutine uses it.
type bare struct {
	raw  syscall.RawConn
	from *buffers
	// attempt is try, made once; what it read is in buf, n and err.
	attempt func(fd uintptr) bool
	buf     []byte
	n       int
	err     error
}

// newBare returns nil if conn is no bare TCP connection.
func newBare(conn net.Conn, from *buffers) *bare {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	b := &bare{raw: raw, from: from}
	b.attempt = b.try
	return b
}

// read waits under the connection's deadline, takes a buffer only when there is
// something to read, and returns it with the number of octets. The caller puts
// the buffer back.
func (b *bare) read() ([]byte, int, error) {
	b.buf, b.n, b.err = nil, 0, nil
	waitErr := b.raw.Read(b.attempt)
	buf := b.buf
	b.buf = nil
	switch {
	case waitErr != nil:
		return buf, 0, waitErr
	case b.err != nil:
		return buf, 0, os.NewSyscallError("read", b.err)
	case b.n == 0:
		return buf, 0, io.EOF
	}
	return buf, b.n, nil
}

// try reads once; false: there is nothing yet.
func (b *bare) try(fd uintptr) bool {
	b.buf = b.from.get()
	for {
		if b.n, b.err = unix.Read(int(fd), b.buf); b.err != unix.EINTR {
			break
		}
	}
	if b.err != unix.EAGAIN {
		return true
	}
	b.from.put(b.buf)
	b.buf = nil
	return false
}

// waiting is how many octets can be read at once.
func (b *bare) waiting() (n int64) {
	_ = b.raw.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			n = int64(v)
		}
	})
	return n
}
