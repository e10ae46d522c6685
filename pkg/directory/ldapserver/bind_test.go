package ldapserver_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// TestBinds has what a bind may come to (RFC 4511 §4.2, RFC 4513 §5.1).
func TestBinds(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	for _, test := range []struct {
		name string
		req  *ldapwire.BindRequest
		want directory.ResultCode
	}{
		{"user", simple("uid=u1,o=mail", "p1"), directory.Success},
		{"user by another spelling", simple("UID = U1 , O=Mail", "p1"), directory.Success},
		{"admin", simple("cn=admin,o=mail", secret), directory.Success},
		{"admin, wrong password", simple("cn=admin,o=mail", "p1"), directory.InvalidCredentials},
		{"wrong password", simple("uid=u1,o=mail", "p0"), directory.InvalidCredentials},
		{"unknown", simple("uid=nobody,o=mail", "p1"), directory.InvalidCredentials},
		{"anonymous", simple("", ""), directory.Success},
		{"password without a name", simple("", "p1"), directory.InvalidCredentials},
		{"empty password", simple("uid=u1,o=mail", ""), directory.UnwillingToPerform},
		{"malformed DN", simple("u1", "p1"), directory.InvalidDNSyntax},
		{"injection", simple("uid=*,o=mail", "p1"), directory.InvalidCredentials},
		{"version 2", &ldapwire.BindRequest{Version: 2, Auth: ldapwire.AuthSimple}, directory.ProtocolError},
		{"unknown choice", &ldapwire.BindRequest{Version: 3, Auth: 0x81}, directory.AuthMethodNotSupported},
		{"PLAIN", plain("", "dn:uid=u1,o=mail", "p1"), directory.Success},
		{"PLAIN as oneself", plain("dn:UID=u1,o=mail", "uid=u1,o=mail", "p1"), directory.Success},
		{"PLAIN as another", plain("dn:uid=u0,o=mail", "uid=u1,o=mail", "p1"), directory.InvalidCredentials},
		{"PLAIN, wrong password", plain("", "uid=u1,o=mail", "p0"), directory.InvalidCredentials},
		{"PLAIN, empty password", plain("", "uid=u1,o=mail", ""), directory.UnwillingToPerform},
		{"PLAIN, empty", plain("", "", ""), directory.ProtocolError},
		{"PLAIN, malformed", &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "PLAIN"}, directory.ProtocolError},
		{"unknown mechanism", &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "CRAM-MD5"}, directory.AuthMethodNotSupported},
		{"EXTERNAL over TCP", &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "EXTERNAL"}, directory.AuthMethodNotSupported},
	} {
		c := dialRaw(t, l)
		if res, _ := c.ask(1, test.req); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
		// A failed or anonymous bind leaves nobody bound, a good one somebody.
		res, _ := c.ask(2, everything())
		if bound := res.Code != int(directory.InsufficientAccessRights); bound != (test.want == directory.Success && test.name != "anonymous") {
			t.Errorf("%s: a search then gives %+v", test.name, res)
		}
	}
}

func plain(authzid, authcid, password string) *ldapwire.BindRequest {
	return &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "PLAIN",
		Credentials: authzid + "\x00" + authcid + "\x00" + password, HasCredentials: true}
}

// TestRebindDropsIdentity: a failed bind ends the rights of the one before.
func TestRebindDropsIdentity(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	if code := c.bind(admin(), "wrong"); code != directory.InvalidCredentials {
		t.Fatal(code)
	}
	if res, _ := c.ask(2, everything()); res.Code != int(directory.InsufficientAccessRights) {
		t.Errorf("%+v", res)
	}
}

// addressed is a connection that seems to come from elsewhere.
type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

type strangers struct{ net.Listener }

func (s strangers) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return addressed{conn, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1024}}, nil
}

// TestPasswordsNeedTLS, unless they stay on the host; StartTLS brings it.
func TestPasswordsNeedTLS(t *testing.T) {
	serverTLS, clientTLS, _ := certificate(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 2))
	o.TLS = serverTLS
	serve(t, strangers{l}, o)
	c := dialRaw(t, l)
	if code := c.bind(user(1), "p1"); code != directory.ConfidentialityRequired {
		t.Fatalf("in the clear: %d", code)
	}
	startTLS := &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}
	if res, _ := c.ask(2, startTLS); res.Code != 0 {
		t.Fatalf("StartTLS: %+v", res)
	}
	c.conn = tls.Client(c.conn, clientTLS)
	c.r.Reset(c.conn)
	if code := c.bind(user(1), "p1"); code != directory.Success {
		t.Fatalf("over TLS: %d", code)
	}
	if res, _ := c.ask(3, startTLS); res.Code != int(directory.OperationsError) {
		t.Errorf("StartTLS twice: %+v", res)
	}
}

// TestL6StartTLSTakesNoPlaintext: what comes in one segment with the request is
// neither obeyed nor answered (row L6).
func TestL6StartTLSTakesNoPlaintext(t *testing.T) {
	serverTLS, _, _ := certificate(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 2))
	o.TLS = serverTLS
	serve(t, l, o)
	c := dialRaw(t, l)
	c.say(ldapwire.Message{ID: 1, Op: &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}},
		ldapwire.Message{ID: 2, Op: simple("cn=admin,o=mail", secret)})
	if !c.ended() {
		t.Error("the connection went on")
	}
	c = dialRaw(t, l) // nor does a failed handshake leave a plaintext session
	if res, _ := c.ask(1, &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}); res.Code != 0 {
		t.Fatal(res)
	}
	c.say(ldapwire.Message{ID: 2, Op: everything()})
	for { // a TLS alert may come, an LDAP answer may not
		b, err := c.r.ReadByte()
		if err != nil {
			break
		}
		if b == 0x30 {
			t.Error("plaintext after StartTLS was answered")
		}
	}
}

// TestLogHoldsNoSecrets at any level.
func TestLogHoldsNoSecrets(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 2))
	o.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	stop := serve(t, l, o)
	c := dialRaw(t, l)
	for _, name := range []string{"uid=u1,o=mail", "evil\r\nlevel=INFO msg=bind"} {
		_, _ = c.ask(1, simple(name, "hunter2"))
	}
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	_, _ = c.ask(2, find(equal("userPassword", "hunter2")))
	_, _ = c.ask(3, &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "userPassword", Value: "hunter2"})
	_, _ = c.ask(4, &ldapwire.ModifyRequest{DN: "uid=u1,o=mail", Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: "userPassword", Values: []string{"hunter2"}}}}})
	_ = c.conn.Close()
	stop()
	if s := log.String(); strings.Contains(s, "hunter2") || strings.Contains(s, secret) || strings.Contains(s, "\nlevel=INFO msg=bind\n") {
		t.Errorf("the log tells:\n%s", s)
	}
	if n := strings.Count(log.String(), "bind refused"); n != 2 {
		t.Errorf("%d lines of refused binds", n)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// TestExternal: a process of an allowed uid is its DN, over a unix socket.
func TestExternal(t *testing.T) {
	l := listen(t, "unix", filepath.Join(t.TempDir(), "s"))
	o := options(filled(t, 1))
	serve(t, l, o)
	external := func(credentials string) *ldapwire.BindRequest {
		return &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "EXTERNAL", Credentials: credentials, HasCredentials: true}
	}
	for credentials, want := range map[string]directory.ResultCode{
		"": directory.Success, "dn:cn=admin,o=mail": directory.Success, "dn:uid=u0,o=mail": directory.InvalidCredentials, "u:root": directory.InvalidCredentials,
	} {
		c := dialRaw(t, l)
		if res, _ := c.ask(1, external(credentials)); directory.ResultCode(res.Code) != want {
			t.Errorf("%q: %+v, want %d", credentials, res, want)
		}
	}
	other := listen(t, "unix", filepath.Join(t.TempDir(), "s"))
	o.Peers = map[uint32]directory.DN{1 << 30: admin()}
	serve(t, other, o)
	if res, _ := dialRaw(t, other).ask(1, external("")); res.Code != int(directory.AuthMethodNotSupported) {
		t.Errorf("another uid: %+v", res)
	}
}
