// Package pop3front is what a POP3 client may say before it has logged in, in
// the AUTHORIZATION state: CAPA, STLS, USER and PASS, AUTH, UTF8, LANG, QUIT
// (RFC 1939, RFC 2449, RFC 2595, RFC 5034, RFC 6856). It then hands the
// connection, with the login command unanswered, to the store's Backend.
//
// It reads no mail. APOP is not spoken: it needs passwords in clear. The order
// is a promise: the password is verified once, then the user's store is looked
// up, then it is reached. A wrong password opens no connection.
package pop3front

import (
	"context"
	"net"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
)

// Options are a Front's parts and bounds.
type Options struct {
	mmp.FrontOptions
	// Capabilities lists what the stores can do after a login, one line of
	// CAPA each, announced before it too; the front adds its own. Nil: none.
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
// and closes it. When ctx ends the client is told so. conn is a *tls.Conn, or
// bare; its RemoteAddr is the real client's.
func (f *Front) ServeConn(ctx context.Context, conn net.Conn) {
	v, err := f.o.Receive(ctx, conn, directory.ServicePOP3)
	defer v.End("-ERR [SYS/TEMP] internal error\r\n")
	if err != nil {
		return
	}
	s := &session{Visitor: v, f: f}
	s.ok("[XCLIENT] " + f.o.Hostname + " ready") // MMPs ask for no capabilities
	s.serve(ctx)
}

// Busy is what a client over a limit hears.
const Busy = "-ERR [SYS/TEMP] too many connections, try again later\r\n"
