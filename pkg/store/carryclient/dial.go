package carryclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/wire/imapwire"
)

// Door is the IMAP door of a store on another host.
type Door struct {
	// Address is host:port.
	Address string
	// TLS is needed unless the door is on loopback; nil: plain text.
	TLS *tls.Config
	// Implicit: TLS from the first byte, else by STARTTLS.
	Implicit bool
	// Name and Secret are a proxy's of the store (store.proxies).
	Name, Secret string
}

// dialTimeout bounds everything up to the answer to the login.
const dialTimeout = 10 * time.Second

// Dial logs in at the door as a proxy that acts for nobody, and returns the
// connection, on which the store now speaks HTTP. The caller closes it.
func (d Door) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	up, err := d.logIn(ctx, conn)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("logging in to %s: %w", d.Address, err)
	}
	return up, nil
}

func (d Door) logIn(ctx context.Context, conn net.Conn) (net.Conn, error) {
	var err error
	if d.TLS != nil && d.Implicit {
		if conn, err = d.secure(ctx, conn); err != nil {
			return nil, err
		}
	}
	r := bufio.NewReader(conn)
	if err := expect(r, "*"); err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if d.TLS != nil && !d.Implicit {
		if _, err := conn.Write([]byte("s STARTTLS\r\n")); err != nil {
			return nil, err
		}
		if err := expect(r, "s"); err != nil {
			return nil, fmt.Errorf("STARTTLS: %w", err)
		}
		if r.Buffered() > 0 { // in plain text, so not from the store
			return nil, errors.New("STARTTLS: plain text before TLS")
		}
		if conn, err = d.secure(ctx, conn); err != nil {
			return nil, err
		}
		r = bufio.NewReader(conn)
	}
	message := []byte(auth.CarrierName + "\x00" + d.Name + "\x00" + d.Secret)
	if _, err := conn.Write(imapwire.AppendAuthenticate(nil, "a", "PLAIN", message)); err != nil {
		return nil, err
	}
	if err := expect(r, "a"); err != nil {
		return nil, err
	}
	if r.Buffered() > 0 {
		return nil, errors.New("the store spoke unasked")
	}
	return conn, nil
}

func (d Door) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	up := tls.Client(conn, d.TLS)
	if err := up.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return up, nil
}

// expect reads up to an answer with that tag, which must be OK.
func expect(r *bufio.Reader, tag string) error {
	for range 100 {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		resp, err := imapwire.ParseResponse([]byte(trimCRLF(line)))
		switch {
		case err != nil:
			return err
		case resp.Tag == tag && resp.Name == "OK":
			return nil
		case resp.Tag == tag, resp.Name == "BYE":
			return fmt.Errorf("it answers %s [%s] %q", resp.Name, resp.Code, resp.Text)
		}
	}
	return errors.New("too many untagged responses")
}

func trimCRLF(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return string(b)
}
