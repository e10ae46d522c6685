package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailsrv/pkg/mmp"
)

// writeTimeout ends a session of which one end does not read.
const writeTimeout = 2 * time.Minute

// pipe copies between a client and its store. One goroutine copies towards the
// store; the caller's copies towards the client and watches the borders of
// responses. Where both ends are bare TCP and nothing is watched, what is large
// goes by splice. Buffers are held only while octets pass.
type pipe struct {
	client, store net.Conn
	buffers       *buffers
	linger        time.Duration
	// rest is how long the store may be silent, when the server stops, until
	// the session ends where no border is known.
	rest       time.Duration
	tracked    bool // the stream is IMAP's, and border follows it
	border     border
	clientGone atomic.Bool
	sent       int64 // octets to the client

	mu       sync.Mutex
	stopping bool
}

// run answers the pending login and copies until either side has ended; it
// closes both. It returns nil however the client ended.
func (p *pipe) run(ctx context.Context, st peer, h *mmp.Handover) error {
	defer p.store.Close()
	defer p.client.Close()
	_ = p.store.SetDeadline(time.Time{})
	defer context.AfterFunc(ctx, p.stop)()

	upstream := make(chan struct{})
	go func() {
		defer close(upstream)
		p.toStore(h.ReadAhead)
	}()
	err := p.toClient(st, h)
	_ = p.client.Close()
	_ = p.store.Close()
	<-upstream
	return err
}

// stop ends the session at the next border: the store's reader wakes at once.
func (p *pipe) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	_ = p.store.SetReadDeadline(time.Unix(1, 0))
}

// toStore copies what the client says, then tells the store that it is done.
func (p *pipe) toStore(readAhead []byte) {
	err := p.pass(readAhead)
	n := 0
	take := func(b []byte) error {
		n = len(b)
		return p.pass(b)
	}
	for from := newSource(p.client, p.buffers); err == nil; {
		if err = from.next(take); err == nil && n == copySize {
			_, err = splice(p.store, from)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	p.clientGone.Store(true)
	half, ok := p.store.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = p.store.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopping {
		_ = p.store.SetReadDeadline(time.Now().Add(p.linger))
	}
}

// pass writes towards the store.
func (p *pipe) pass(b []byte) error {
	_ = p.store.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := p.store.Write(b)
	return err
}

// splice copies what waits in a bare TCP connection, as long as it is much,
// without bringing it into memory.
func splice(to net.Conn, from *source) (sent int64, err error) {
	tcp, ok := to.(*net.TCPConn)
	if !ok || from.bare == nil {
		return 0, nil
	}
	for n := from.bare.waiting(); n >= copySize && err == nil; n = from.bare.waiting() {
		_ = tcp.SetWriteDeadline(time.Now().Add(writeTimeout))
		n, err = io.CopyN(tcp, from.conn, n)
		sent += n
	}
	return sent, err
}

// toClient answers the login and copies what the store says. A session that
// did not end by the client's will ends with BYE, if no response is cut by it.
func (p *pipe) toClient(st peer, h *mmp.Handover) error {
	first := st.completion(h)
	if r := st.stream().r; r.Buffered() > 0 {
		ahead, _ := r.Peek(r.Buffered())
		p.follow(ahead)
		first = append(first, ahead...)
	}
	if err := p.write(first); err != nil {
		return nil
	}
	reason, err := p.copy()
	if reason == "" || p.border.bye || p.clientGone.Load() || !p.atBorder() {
		return err
	}
	_ = p.write([]byte("* BYE " + reason + "\r\n"))
	return err
}

// copy returns why the client should hear BYE: empty if the client is gone.
func (p *pipe) copy() (reason string, err error) {
	from, lingering := newSource(p.store, p.buffers), false
	n, gone := 0, false
	take := func(b []byte) error {
		n = len(b)
		p.follow(b)
		gone = p.write(b) != nil
		return nil
	}
	for {
		n = 0
		err := from.next(take)
		if n == copySize && err == nil && !p.tracked {
			var more int64
			more, err = splice(p.client, from)
			p.sent += more
		}
		if n > 0 && lingering && !p.tracked {
			_ = p.store.SetReadDeadline(time.Now().Add(p.rest))
		}
		switch {
		case gone:
			return "", nil
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && p.isStopping() && !lingering && !p.atBorder():
			lingering = true // let the response under way end
			_ = p.store.SetReadDeadline(time.Now().Add(p.rest))
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && p.isStopping():
			return "server is shutting down", nil
		case errors.Is(err, io.EOF):
			return "the mailbox became unavailable", nil
		case p.clientGone.Load():
			return "", nil
		default:
			return "the mailbox became unavailable", fmt.Errorf("reading from store: %w", err)
		}
		if lingering && p.atBorder() {
			return "server is shutting down", nil
		}
	}
}

func (p *pipe) follow(b []byte) {
	if p.tracked {
		p.border.pass(b)
	}
}

// atBorder reports whether no response is cut here, as far as that is known.
func (p *pipe) atBorder() bool { return p.tracked && p.border.clear() }

func (p *pipe) isStopping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopping
}

func (p *pipe) write(b []byte) error {
	_ = p.client.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := p.client.Write(b)
	p.sent += int64(n)
	return err
}

// border follows a stream of responses just enough to know when none is cut:
// lines, and the literals that lines announce at their end.
type border struct {
	literal int64  // octets of a literal still to come
	line    []byte // the last octets of the line at hand
	head    []byte // and its first
	inside  bool   // a response goes on after a literal
	bye     bool   // the store has said BYE
}

// maxMarker is the longest announcement of a literal that is understood.
const maxMarker = 24

// clear reports whether the stream stands between two responses.
func (b *border) clear() bool { return b.literal == 0 && !b.inside && len(b.line) == 0 }

// pass takes the next octets of the stream.
func (b *border) pass(s []byte) {
	for len(s) > 0 {
		if b.literal > 0 {
			n := min(b.literal, int64(len(s)))
			b.literal -= n
			s = s[n:]
			continue
		}
		end := bytes.IndexByte(s, '\n') + 1
		if end == 0 {
			end = len(s)
		}
		b.text(s[:end])
		s = s[end:]
	}
}

// text takes octets of one line, up to and with its LF if it is there.
func (b *border) text(s []byte) {
	if room := len("* BYE") - len(b.head); room > 0 && !b.inside {
		b.head = append(b.head, s[:min(room, len(s))]...)
	}
	b.line = append(b.line, s[max(0, len(s)-maxMarker):]...)
	if n := len(b.line) - maxMarker; n > 0 {
		b.line = append(b.line[:0], b.line[n:]...)
	}
	if s[len(s)-1] != '\n' {
		return
	}
	b.literal = announced(b.line)
	b.line = b.line[:0]
	b.inside = b.literal >= 0
	b.literal = max(b.literal, 0)
	if !b.inside {
		b.bye = b.bye || bytes.EqualFold(b.head, []byte("* BYE"))
		b.head = b.head[:0]
	}
}

// announced is the size of the literal that ends line, or -1.
func announced(line []byte) int64 {
	n := len(line)
	for n > 0 && (line[n-1] == '\n' || line[n-1] == '\r') {
		n--
	}
	if n == 0 || line[n-1] != '}' {
		return -1
	}
	size, unit := int64(0), int64(1)
	for i := n - 2; i >= 0 && unit < 1e18; i-- {
		switch c := line[i]; {
		case '0' <= c && c <= '9':
			size += int64(c-'0') * unit
			unit *= 10
		case c == '{' && unit > 1:
			return size
		default:
			return -1
		}
	}
	return -1
}
