package relay

import (
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bare is a TCP connection without TLS, seen as its socket.
type bare struct{ raw syscall.RawConn }

// newBare returns nil if conn is no bare TCP connection.
func newBare(conn net.Conn) *bare {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &bare{raw}
}

// read waits under the connection's deadline, takes a buffer only when there is
// something to read, and returns it with the number of octets. The caller puts
// the buffer back.
func (b *bare) read(from *buffers) (buf []byte, n int, err error) {
	waitErr := b.raw.Read(func(fd uintptr) bool {
		buf = from.get()
		for {
			n, err = unix.Read(int(fd), buf)
			if err != unix.EINTR {
				break
			}
		}
		if err == unix.EAGAIN {
			from.put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case waitErr != nil:
		return buf, 0, waitErr
	case err != nil:
		return buf, 0, os.NewSyscallError("read", err)
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
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
