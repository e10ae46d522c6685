// Package imapfront is what an IMAP client may say before it has logged in:
// CAPABILITY, STARTTLS, ID, NOOP, LOGOUT, LOGIN and AUTHENTICATE (RFC 3501 and
// RFC 9051 §6.1 and §6.2, RFC 2971, RFC 4959). It then hands the connection,
// with the login command unanswered, to the store's Backend.
//
// It reads no mail and knows no mailbox. Everything here is said by strangers,
// so bounds are tight: sizes, bad commands, failed logins and total time.
//
// The order is a promise: the password is verified once, then the user's store
// is looked up, then it is reached. A wrong password opens no connection.
package imapfront

import (
	"context"
	"net"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/wire/imapwire"
)

// Options are a Front's parts and bounds.
type Options struct {
	mmp.FrontOptions
	// Capabilities lists what the stores can do after a login, announced
	// before it too; the front adds its own. Nil, and a nil list: IMAP4rev1 alone.
	Capabilities func() []string
}

// Front serves connections up to their login.
type Front struct{ o Options }

// New returns a Front. It may serve many connections at once.
func New(o Options) *Front {
	o.FrontOptions = o.WithDefaults()
	return &Front{o: o}
}

// ServeConn serves one connection until it ends, by its Backend after a login,
// and closes it. When ctx ends the client is told BYE. conn is a *tls.Conn, or
// bare; its RemoteAddr is the real client's.
func (f *Front) ServeConn(ctx context.Context, conn net.Conn) {
	v, err := f.o.Receive(ctx, conn, directory.ServiceIMAP)
	defer v.End("* BYE internal error\r\n")
	if err != nil {
		return
	}
	s := &session{Visitor: v, f: f, reader: imapwire.NewReader(v.Conn)}
	s.Conn.WriteString("* OK [CAPABILITY " + s.capabilities() + "] " + f.o.Hostname + " ready\r\n")
	s.serve(ctx)
}
