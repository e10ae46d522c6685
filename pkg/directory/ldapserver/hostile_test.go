package ldapserver_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// TestL3FilterTooComplex is refused by its own result and costs no connection.
func TestL3FilterTooComplex(t *testing.T) {
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

// TestL3HostileBytes is row L3: each ends the connection with at most a notice,
// and costs no memory to speak of.
func TestL3HostileBytes(t *testing.T) {
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
