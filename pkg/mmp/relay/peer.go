package relay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"

	"mailsrv/pkg/mmp"
)

// maxLine is the longest line of a store that is read before its OK.
const maxLine = 8 << 10

// peer is a store up to the login, in the words of one protocol.
type peer interface {
	// greeting reads the store's first words.
	greeting() error
	// startTLS asks for TLS; the caller then calls over with the encrypted
	// connection.
	startTLS() error
	over(conn net.Conn)
	// authenticate says who the client is and logs in with SASL PLAIN and that
	// message.
	authenticate(message []byte, h *mmp.Handover) error
	// capabilities asks what the store can do, a login's own matters aside.
	capabilities() ([]string, error)
	// leave says goodbye without a login.
	leave() error
	// completion is the answer to the client's own login command.
	completion(h *mmp.Handover) []byte
	// stream is the connection, with what was read from it beyond the login.
	stream() *line
}

// line reads the lines of a store.
type line struct {
	raw net.Conn
	r   *bufio.Reader
}

func newLine(conn net.Conn) *line { return &line{raw: conn, r: bufio.NewReaderSize(conn, maxLine)} }

func (l *line) stream() *line { return l }

// over goes on over conn; nothing read before is left.
func (l *line) over(conn net.Conn) { *l = *newLine(conn) }

// bare says that nothing was sent behind an answer in plain text (hardening row S4).
func (l *line) bare() error {
	if l.r.Buffered() > 0 {
		return errors.New("store sent plain text before TLS")
	}
	return nil
}

func (l *line) write(b []byte) error {
	if _, err := l.raw.Write(b); err != nil {
		return fmt.Errorf("writing to store: %w", err)
	}
	return nil
}

// readLine returns the next line without its end; it is good until the next read.
func (l *line) readLine() ([]byte, error) {
	text, err := l.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("store sent a line of more than %d octets", maxLine)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("reading from store: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return nil, fmt.Errorf("reading from store: %w", err)
	}
	text = text[:len(text)-1]
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	return text, nil
}
