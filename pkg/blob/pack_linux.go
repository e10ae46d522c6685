package blob

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes a file's bytes durable, and its size, but not its times.
func syncData(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// The modes of fallocate(2).
const (
	fallocKeepSize  = 1
	fallocPunchHole = 2
)

// punchHole frees a file's blocks. Where the file system cannot, they stay until
// the whole file goes.
func punchHole(f *os.File, from, size int64) error {
	err := syscall.Fallocate(int(f.Fd()), fallocKeepSize|fallocPunchHole, from, size)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return err
}
