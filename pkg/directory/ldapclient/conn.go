package ldapclient

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"mailsrv/pkg/wire/ldapwire"
)

const (
	readBuffer = 16 << 10
	// maxPDU bounds one answer of a server that we chose ourselves.
	maxPDU = 16 << 20
)

// conn is one connection with one operation at a time.
type conn struct {
	net net.Conn
	r   *bufio.Reader
	buf []byte
	id  int
	// received counts the bytes of the messages that came.
	received int
	// err is what broke the connection; it must not be used again.
	err error
	// reused says that it did not come fresh from the dialer.
	reused bool
	// idleProbe looks whether bytes or an end wait in the socket; nil: nobody can tell.
	idleProbe func() bool
}

func newConn(nc net.Conn) *conn {
	return &conn{net: nc, r: bufio.NewReaderSize(nc, readBuffer), idleProbe: prober(nc)}
}

// alive reports whether the server has kept quiet since the last operation: an
// end, or a notice of disconnection, makes the connection worthless.
func (k *conn) alive() bool {
	return k.r.Buffered() == 0 && (k.idleProbe == nil || k.idleProbe())
}

// watch makes the operation end at the deadline, and with ctx. Call the
// returned function afterwards.
func (k *conn) watch(ctx context.Context, deadline time.Time) (done func()) {
	_ = k.net.SetDeadline(deadline)
	if ctx.Done() == nil {
		return func() {}
	}
	stop := context.AfterFunc(ctx, func() { _ = k.net.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !stop() && k.err == nil {
			k.err = ctx.Err() // its deadline is, or will be, in the past
		}
	}
}

// send writes a request and returns its id.
func (k *conn) send(op ldapwire.Op, controls ...ldapwire.Control) (id int, err error) {
	if k.id++; k.id > ldapwire.MaxMessageID {
		k.id = 1
	}
	k.buf = ldapwire.AppendMessage(k.buf[:0], ldapwire.Message{ID: k.id, Op: op, Controls: controls})
	if _, err := k.net.Write(k.buf); err != nil {
		return k.id, k.fail(err)
	}
	return k.id, nil
}

// receive returns the next message that answers the request.
func (k *conn) receive(id int) (ldapwire.Message, error) {
	pdu, err := ldapwire.ReadPDU(k.r, maxPDU)
	if err != nil {
		return ldapwire.Message{}, k.fail(err)
	}
	k.received += len(pdu)
	m, err := ldapwire.Decode(pdu)
	if err != nil {
		return m, k.fail(err)
	}
	if m.ID == id {
		return m, nil
	}
	if n, ok := m.Op.(*ldapwire.ExtendedResponse); ok && m.ID == 0 && n.OID == ldapwire.OIDDisconnection {
		return m, k.fail(fmt.Errorf("server disconnects: %w", resultError(n.Result)))
	}
	return m, k.fail(fmt.Errorf("answer to request %d, not %d", m.ID, id))
}

// fail marks the connection as broken.
func (k *conn) fail(err error) error {
	if k.err == nil {
		k.err = err
	}
	return err
}

// roundTrip sends a request that has one response, of type R.
func roundTrip[R ldapwire.Op](k *conn, op ldapwire.Op) (R, error) {
	var none R
	id, err := k.send(op)
	if err != nil {
		return none, err
	}
	m, err := k.receive(id)
	if err != nil {
		return none, err
	}
	res, ok := m.Op.(R)
	if !ok {
		return none, k.fail(errUnexpected)
	}
	return res, nil
}

// close says goodbye, if that is quick, and closes.
func (k *conn) close() {
	if k.err == nil {
		_ = k.net.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = k.send(&ldapwire.UnbindRequest{})
	}
	_ = k.net.Close()
}
