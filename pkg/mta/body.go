package mta

import (
	"bytes"
	"io"

	"mailsrv/pkg/mail"
)

// amended is a message with a new beginning: head, then what the original
// holds from byte skip on, then tail. The original is not copied.
type amended struct {
	head, tail []byte
	original   mail.Body
	skip       int64
}

// Size implements mail.Body.
func (a *amended) Size() int64 {
	return int64(len(a.head)+len(a.tail)) + a.original.Size() - a.skip
}

// Open implements mail.Body.
func (a *amended) Open() (io.ReadCloser, error) {
	rc, err := a.original.Open()
	if err != nil {
		return nil, err
	}
	if err := skipBytes(rc, a.skip); err != nil {
		rc.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(a.head), rc, bytes.NewReader(a.tail)), rc}, nil
}

func skipBytes(r io.Reader, n int64) error {
	if s, ok := r.(io.Seeker); ok {
		_, err := s.Seek(n, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, r, n)
	return err
}
