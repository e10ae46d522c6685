//go:build unix

package ldapclient

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// prober returns a function that reports whether a socket is open and has
// nothing to read; nil if there is no socket to look at.
func prober(nc net.Conn) func() bool {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var quiet bool
	var b [1]byte
	look := func(fd uintptr) {
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN || err == unix.EINTR
	}
	return func() bool {
		quiet = false
		return raw.Control(look) == nil && quiet
	}
}
