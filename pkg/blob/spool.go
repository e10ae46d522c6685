// Package blob keeps message bodies as bytes on disk: a Spool for one that is
// being taken in, and a Folder of content-addressed files for large ones that
// stay.
//
// It knows nothing of messages, mailboxes or references.
package blob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Spool takes a message once, and is then a mail.Body that can be read many
// times: in memory up to a bound, beyond it in a file that has no name, so
// that a crash leaves nothing behind. Write it from one goroutine; after the
// last Write, Open may be called from many.
type Spool struct {
	dir    string
	memory int
	buf    []byte
	file   *os.File
	size   int64
}

// NewSpool makes an empty spool that holds up to memory bytes in memory and
// the rest in dir, which must exist. The caller closes it.
func NewSpool(dir string, memory int) *Spool { return &Spool{dir: dir, memory: memory} }

// Write implements io.Writer.
func (s *Spool) Write(p []byte) (int, error) {
	if s.file == nil && len(s.buf)+len(p) <= s.memory {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if err := s.spill(); err != nil {
			return 0, fmt.Errorf("spooling to %s: %w", s.dir, err)
		}
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// spill moves what is in memory to a file and takes its name away.
func (s *Spool) spill() error {
	f, err := os.CreateTemp(s.dir, "spool-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Write(s.buf); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.buf = f, nil
	return nil
}

// Open implements mail.Body. The reader must not be used after Close.
func (s *Spool) Open() (io.ReadCloser, error) {
	if s.file != nil {
		return io.NopCloser(io.NewSectionReader(s.file, 0, s.size)), nil
	}
	return io.NopCloser(bytes.NewReader(s.buf)), nil
}

// Size implements mail.Body.
func (s *Spool) Size() int64 { return s.size }

// Close frees the file, if there is one.
func (s *Spool) Close() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
