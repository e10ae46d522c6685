package ldapserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
		{"SASL PLAIN", &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "PLAIN"}, directory.AuthMethodNotSupported},
		{"EXTERNAL over TCP", &ldapwire.BindRequest{Version: 3, Auth: ldapwire.AuthSASL, Mechanism: "EXTERNAL"}, directory.InappropriateAuth},
	} {
		c := dialRaw(t, l)
		if res, _ := c.ask(1, test.req); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
		// A failed or anonymous bind leaves nobody bound, a good one somebody.
		res, _ := c.ask(2, everything())
		if bound := res.Code != int(directory.InsufficientAccessRights); bound != (test.want == directory.Success && test.req.Name != "") {
			t.Errorf("%s: a search then gives %+v", test.name, res)
		}
	}
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

// TestStartTLSTakesNoPlaintext: what comes in one segment with the request is
// neither obeyed nor answered (row L6).
func TestStartTLSTakesNoPlaintext(t *testing.T) {
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

// TestWhoSeesWhat: passwords nobody; others' attributes as Access says, and no
// filter tells what reading would not.
func TestWhoSeesWhat(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 3)))
	hash := saltedSHA512("p1")
	quota := equal("mailQuota", "1000")
	password := ldapwire.Filter{Kind: ldapwire.Substrings, Attribute: "userPassword", Initial: hash[:20]}
	not := func(f ldapwire.Filter) ldapwire.Filter {
		return ldapwire.Filter{Kind: ldapwire.Not, Children: []ldapwire.Filter{f}}
	}
	or := ldapwire.Filter{Kind: ldapwire.Or, Children: []ldapwire.Filter{password, equal("cn", "User 2")}}
	all := ldapwire.Filter{Kind: ldapwire.Extensible, Rule: "2.5.13.5", Value: hash}
	for _, test := range []struct {
		name   string
		who    directory.DN
		pw     string
		filter ldapwire.Filter
		want   []string
	}{
		{"admin by quota", admin(), secret, quota, []string{"uid=u0,o=mail", "uid=u1,o=mail", "uid=u2,o=mail"}},
		{"admin by password", admin(), secret, password, nil},
		{"admin by not password", admin(), secret, not(password), nil},
		{"admin by the password's number", admin(), secret, equal("2.5.4.35", hash), nil},
		{"admin by the password with an option", admin(), secret, equal("userPassword;x", hash), nil},
		{"admin by all attributes", admin(), secret, all, nil},
		{"admin by password or name", admin(), secret, or, []string{"uid=u2,o=mail"}},
		{"user by quota", user(1), "p1", quota, []string{"uid=u1,o=mail"}},
		{"user by not quota", user(1), "p1", not(equal("mailQuota", "2000")), []string{"uid=u1,o=mail"}},
		{"user by mail", user(1), "p1", equal("mail", "u2@example.com"), []string{"uid=u2,o=mail"}},
		{"nobody", directory.DN{}, "", quota, nil},
	} {
		c := dialRaw(t, l)
		if code := c.bind(test.who, test.pw); code != directory.Success {
			t.Fatal(code)
		}
		req := find(test.filter)
		req.Attributes = []string{"*", "+", "userPassword", "mailQuota"}
		_, entries := c.ask(2, req)
		var got []string
		for _, e := range entries {
			got = append(got, e.DN)
			for _, a := range e.Attributes {
				if strings.EqualFold(a.Name, "userPassword") {
					t.Errorf("%s: %s came with its password", test.name, e.DN)
				}
				if a.Name == "mailQuota" && !test.who.Equal(admin()) && e.DN != test.who.String() {
					t.Errorf("%s: %s came with its quota", test.name, e.DN)
				}
			}
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestUsersEdit: a user may change the own password and nothing else.
func TestUsersEdit(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 3)))
	replace := func(dn, name, value string) ldapwire.Op {
		return &ldapwire.ModifyRequest{DN: dn, Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: name, Values: []string{value}}}}}
	}
	passwd := func(p ldapwire.PasswordModify) ldapwire.Op {
		return &ldapwire.ExtendedRequest{OID: ldapwire.OIDPasswordModify, Value: string(p.Append(nil)), HasValue: true}
	}
	c := dialRaw(t, l)
	if code := c.bind(user(1), "p1"); code != directory.Success {
		t.Fatal(code)
	}
	for i, test := range []struct {
		name string
		op   ldapwire.Op
		want directory.ResultCode
	}{
		{"own password", replace("uid=u1,o=mail", "userPassword", "new"), directory.Success},
		{"another's password", replace("uid=u2,o=mail", "userPassword", "new"), directory.InsufficientAccessRights},
		{"own quota", replace("uid=u1,o=mail", "mailQuota", "-1"), directory.InsufficientAccessRights},
		{"nothing of own", &ldapwire.ModifyRequest{DN: "uid=u1,o=mail"}, directory.InsufficientAccessRights},
		{"delete", &ldapwire.DelRequest{DN: "uid=u1,o=mail"}, directory.InsufficientAccessRights},
		{"rename", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail", NewRDN: "uid=root"}, directory.InsufficientAccessRights},
		{"add", &ldapwire.AddRequest{DN: "uid=u9,o=mail"}, directory.InsufficientAccessRights},
		{"compare own password", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "userPassword", Value: "new"}, directory.InsufficientAccessRights},
		{"compare another's quota", &ldapwire.CompareRequest{DN: "uid=u2,o=mail", Attribute: "mailQuota", Value: "1000"}, directory.InsufficientAccessRights},
		{"compare own quota", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "mailQuota", Value: "1000"}, directory.CompareTrue},
		{"exop, wrong old password", passwd(ldapwire.PasswordModify{Old: "p1", New: "x"}), directory.InvalidCredentials},
		{"exop, another's", passwd(ldapwire.PasswordModify{User: "uid=u2,o=mail", New: "x"}), directory.InsufficientAccessRights},
		{"exop, malformed", &ldapwire.ExtendedRequest{OID: ldapwire.OIDPasswordModify, Value: "?", HasValue: true}, directory.ProtocolError},
		{"exop", passwd(ldapwire.PasswordModify{Old: "new", New: "newer"}), directory.Success},
	} {
		if res, _ := c.ask(10+i, test.op); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
	}
	if code := c.bind(user(1), "newer"); code != directory.Success {
		t.Errorf("with the newest password: %d", code)
	}
}

// TestMalformedEdits are answered, each by its own result.
func TestMalformedEdits(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	change := func(kind int, name string) ldapwire.Op {
		return &ldapwire.ModifyRequest{DN: "uid=u1,o=mail", Changes: []ldapwire.Change{{Kind: kind, Attribute: ldapwire.Attribute{Name: name, Values: []string{"1"}}}}}
	}
	for i, test := range []struct {
		name string
		op   ldapwire.Op
		want directory.ResultCode
	}{
		{"increment", change(3, "mailQuota"), directory.ProtocolError},
		{"attribute with a space", change(2, "mail quota"), directory.UndefinedAttributeType},
		{"attribute without a name", change(2, ""), directory.UndefinedAttributeType},
		{"attribute without values", &ldapwire.AddRequest{DN: "uid=x,o=mail", Attributes: []ldapwire.Attribute{{Name: "sn"}}}, directory.InvalidAttributeSyntax},
		{"malformed DN", &ldapwire.DelRequest{DN: "u1"}, directory.InvalidDNSyntax},
		{"two RDNs", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail", NewRDN: "uid=a,uid=b"}, directory.InvalidDNSyntax},
		{"no RDN", &ldapwire.ModifyDNRequest{DN: "uid=u1,o=mail"}, directory.InvalidDNSyntax},
		{"unknown exop", &ldapwire.ExtendedRequest{OID: "1.2.3"}, directory.ProtocolError},
		{"unknown scope", &ldapwire.SearchRequest{Base: "o=mail", Scope: 3}, directory.ProtocolError},
		{"compare nothing", &ldapwire.CompareRequest{DN: "uid=x,o=mail", Attribute: "sn", Value: "x"}, directory.NoSuchObject},
		{"compare what is not there", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "title", Value: "x"}, directory.NoSuchAttribute},
		{"compare falsely", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "cn", Value: "x"}, directory.CompareFalse},
	} {
		if res, _ := c.ask(10+i, test.op); directory.ResultCode(res.Code) != test.want {
			t.Errorf("%s: %+v, want %d", test.name, res, test.want)
		}
	}
	critical := ldapwire.Control{OID: "1.2.3", Critical: true}
	for i, op := range []ldapwire.Op{everything(), change(2, "mailQuota"), simple("", ""), &ldapwire.DelRequest{DN: "uid=u1,o=mail"}, &ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}} {
		if res, _ := c.ask(50+i, op, critical); res.Code != int(directory.UnavailableCritExtension) {
			t.Errorf("critical control on %T: %+v", op, res)
		}
	}
	if res, _ := c.ask(60, everything(), ldapwire.Paged{Size: 1}.Control(false)); res.Code != 0 {
		t.Errorf("a control that is not critical: %+v", res)
	}
}

// readOnly hides that a tree can be edited.
type readOnly struct{ directory.Tree }

func TestReadOnly(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(readOnly{filled(t, 2)}))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	if res, _ := c.ask(2, &ldapwire.DelRequest{DN: "uid=u1,o=mail"}); res.Code != int(directory.UnwillingToPerform) {
		t.Errorf("%+v", res)
	}
}

// TestLimits is row L4: sizes of the asker and of the server.
func TestLimits(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 30))
	o.SizeLimit = 20
	serve(t, l, o)
	for _, test := range []struct {
		name      string
		who       directory.DN
		pw        string
		limit     int
		entries   int
		wantLimit bool
	}{
		{"user", user(1), "p1", 0, 20, true},
		{"user asking for more", user(1), "p1", 100, 20, true},
		{"user asking for less", user(1), "p1", 3, 3, true},
		{"admin", admin(), secret, 0, 31, false},
		{"admin asking for less", admin(), secret, 30, 30, true},
		{"admin asking for enough", admin(), secret, 31, 31, false},
	} {
		c := dialRaw(t, l)
		if code := c.bind(test.who, test.pw); code != directory.Success {
			t.Fatal(code)
		}
		req := everything()
		req.SizeLimit = test.limit
		res, entries := c.ask(2, req)
		if len(entries) != test.entries || res.Code == int(directory.SizeLimitExceeded) != test.wantLimit {
			t.Errorf("%s: %d entries, %+v", test.name, len(entries), res)
		}
	}
}

// TestFilterTooComplex is refused by its own result and costs no connection.
func TestFilterTooComplex(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dialRaw(t, l)
	f := equal("cn", "x")
	for range 40 {
		f = ldapwire.Filter{Kind: ldapwire.Not, Children: []ldapwire.Filter{f}}
	}
	if res, _ := c.ask(1, find(f)); res.Code != int(directory.AdminLimitExceeded) {
		t.Errorf("%+v", res)
	}
	if code := c.bind(user(1), "p1"); code != directory.Success {
		t.Errorf("afterwards: %d", code)
	}
}

// TestHostileBytes is row L3: each ends the connection with at most a notice,
// and costs no memory to speak of.
func TestHostileBytes(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 1)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, in := range map[string]string{
		"30 80 30 80":         strings.Repeat("\x30\x80", 1<<19),
		"2 GiB":               "\x30\x84\x7f\xff\xff\xff\x02\x01\x01",
		"too long for nobody": "\x30\x83\x01\x00\x01" + strings.Repeat("x", 1<<16),
		"HTTP":                "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a response":          string(ldapwire.AppendMessage(nil, ldapwire.Message{ID: 1, Op: &ldapwire.Done{Kind: ldapwire.TagSearchDone}})),
		"id 0":                string(ldapwire.AppendMessage(nil, ldapwire.Message{Op: everything()})),
		"unknown operation":   "\x30\x05\x02\x01\x01\x7f\x00",
		"nested":              "\x30\x82\xff\xf0" + strings.Repeat("\x30\x82\xff\xf0", 16380),
	} {
		c := dialRaw(t, l)
		go func() { _, _ = c.conn.Write([]byte(in)) }()
		if pdu, err := ldapwire.ReadPDU(c.r, 1<<20); err == nil { // else the notice was lost to a reset
			m, err := ldapwire.Decode(pdu)
			notice, ok := m.Op.(*ldapwire.ExtendedResponse)
			if err != nil || !ok || m.ID != 0 || notice.OID != ldapwire.OIDDisconnection || notice.Code != int(directory.ProtocolError) {
				t.Errorf("%s: answered %+v", name, m.Op)
			}
		}
		if !c.ended() {
			t.Errorf("%s: the connection goes on", name)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes allocated", grown)
	}
}

// gate is a tree whose searches wait until they are let through or given up.
type gate struct {
	directory.Tree
	entered chan struct{}
	gone    chan error
	let     chan struct{}
}

func newGate(tree directory.Tree) *gate {
	return &gate{Tree: tree, entered: make(chan struct{}, 100), gone: make(chan error, 100), let: make(chan struct{})}
}

func (g *gate) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		g.entered <- struct{}{}
		select {
		case <-g.let:
			for e, err := range g.Tree.Search(ctx, q) {
				if !yield(e, err) {
					return
				}
			}
		case <-ctx.Done():
			g.gone <- ctx.Err()
			yield(directory.Entry{}, errors.Join(directory.ErrUnavailable, ctx.Err()))
		}
	}
}

func startGate(t *testing.T) (*gate, *raw, func()) {
	t.Helper()
	g := newGate(filled(t, 2))
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(g)
	o.TimeLimit = 10 * time.Second
	o.Pending = 4
	stop := serve(t, l, o)
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	return g, c, stop
}

// TestAbandon ends a search that runs, without an answer to it.
func TestAbandon(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	c.say(ldapwire.Message{ID: 8, Op: &ldapwire.AbandonRequest{ID: 7}}, ldapwire.Message{ID: 9, Op: &ldapwire.AbandonRequest{ID: 99}})
	if err := <-g.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if res, _ := c.ask(10, &ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}); res.Code != 0 {
		t.Errorf("%+v", res)
	}
}

// TestTimeLimit of the request.
func TestTimeLimit(t *testing.T) {
	_, c, _ := startGate(t)
	req := everything()
	req.TimeLimit = 1
	if res, _ := c.ask(7, req); res.Code != int(directory.TimeLimitExceeded) {
		t.Errorf("%+v", res)
	}
}

// TestPending: the fifth of four is told that we are busy; others go on.
func TestPending(t *testing.T) {
	g, c, _ := startGate(t)
	for id := 11; id <= 14; id++ {
		c.say(ldapwire.Message{ID: id, Op: everything()})
		<-g.entered
	}
	if res, _ := c.ask(15, everything()); res.Code != int(directory.Busy) {
		t.Errorf("%+v", res)
	}
	close(g.let)
	done := map[int]bool{}
	for len(done) < 4 {
		if m := c.hear(); m.Op.Tag() == ldapwire.TagSearchDone {
			done[m.ID] = true
		}
	}
}

// TestBindWaits is row L5: no operation runs across a change of identity.
func TestBindWaits(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()}, ldapwire.Message{ID: 8, Op: simple("", "")}, ldapwire.Message{ID: 9, Op: everything()})
	<-g.entered
	close(g.let)
	var order []int
	codes := map[int]int{}
	for len(order) < 3 {
		m := c.hear()
		switch op := m.Op.(type) {
		case *ldapwire.Done:
			order, codes[m.ID] = append(order, m.ID), op.Code
		case *ldapwire.BindResponse:
			order, codes[m.ID] = append(order, m.ID), op.Code
		}
	}
	if !slices.Equal(order, []int{7, 8, 9}) || codes[7] != 0 || codes[9] != int(directory.InsufficientAccessRights) {
		t.Errorf("answers in the order %v, results %v", order, codes)
	}
}

// TestStartTLSNotAmidOperations is RFC 4511 §4.14.1.
func TestStartTLSNotAmidOperations(t *testing.T) {
	serverTLS, _, _ := certificate(t)
	g := newGate(filled(t, 1))
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(g)
	o.TLS = serverTLS
	serve(t, l, o)
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	if res, _ := c.ask(8, &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}); res.Code != int(directory.OperationsError) {
		t.Errorf("%+v", res)
	}
	close(g.let)
}

// TestReusedID ends the connection: nobody could tell the answers apart.
func TestReusedID(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	if m := c.hear(); m.ID != 0 {
		t.Errorf("answered %+v", m)
	}
	if !c.ended() {
		t.Error("the connection goes on")
	}
}

// TestDrain: an operation under way is finished, then a notice, then the end.
func TestDrain(t *testing.T) {
	g, c, stop := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	var wg sync.WaitGroup
	wg.Go(stop)
	close(g.let)
	entries := 0
	for {
		m := c.hear()
		if m.Op.Tag() == ldapwire.TagSearchEntry {
			entries++
			continue
		}
		if done, ok := m.Op.(*ldapwire.Done); ok {
			if done.Code != 0 || entries != 3 {
				t.Errorf("%d entries, %+v", entries, done)
			}
			continue
		}
		if n, ok := m.Op.(*ldapwire.ExtendedResponse); !ok || m.ID != 0 || n.Code != int(directory.Unavailable) {
			t.Errorf("%+v", m)
		}
		break
	}
	if !c.ended() {
		t.Error("the connection goes on")
	}
	wg.Wait()
}

// TestClientGone: operations end with their connection.
func TestClientGone(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	_ = c.conn.Close()
	if err := <-g.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type panics struct{ directory.Tree }

func (panics) Search(context.Context, directory.Query) iter.Seq2[directory.Entry, error] {
	panic("a fault of ours")
}

// TestPanic costs one connection and not the process.
func TestPanic(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(panics{filled(t, 1)}))
	for range 2 {
		c := dialRaw(t, l)
		if code := c.bind(admin(), secret); code != directory.Success {
			t.Fatal(code)
		}
		c.say(ldapwire.Message{ID: 2, Op: everything()})
		if !c.ended() {
			t.Error("the connection goes on")
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
	if res, _ := dialRaw(t, other).ask(1, external("")); res.Code != int(directory.InvalidCredentials) {
		t.Errorf("another uid: %+v", res)
	}
}

// FuzzSession: a whole connection of whatever bytes ends, and leaves the
// server well.
func FuzzSession(f *testing.F) {
	var b []byte
	for i, op := range []ldapwire.Op{simple("cn=admin,o=mail", secret), everything(), find(equal("cn", "User 0")),
		&ldapwire.CompareRequest{DN: "uid=u0,o=mail", Attribute: "cn", Value: "x"}, &ldapwire.AbandonRequest{ID: 2},
		&ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}, &ldapwire.UnbindRequest{}} {
		m := ldapwire.AppendMessage(nil, ldapwire.Message{ID: i + 1, Op: op})
		f.Add(m)
		b = append(b, m...)
	}
	f.Add(b)
	l := listen(f, "tcp", "127.0.0.1:0")
	serve(f, l, options(readOnly{filled(f, 1)}))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := dialRaw(t, l)
		_, _ = c.conn.Write(in)
		_ = c.conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection goes on")
		}
	})
}
