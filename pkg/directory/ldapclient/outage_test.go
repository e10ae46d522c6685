package ldapclient_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/wire/ldapwire"
)

// script is a server that answers each request with what answer returns, and
// closes the connection where it returns nil.
func script(t testing.TB, answer func(m ldapwire.Message) []byte) (url string) {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					pdu, err := ldapwire.ReadPDU(r, 1<<20)
					if err != nil {
						return
					}
					m, err := ldapwire.Decode(pdu)
					if err != nil || m.Op.Tag() == ldapwire.TagUnbindRequest {
						return
					}
					reply := answer(m)
					if reply == nil {
						return
					}
					if _, err := conn.Write(reply); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "ldap://" + l.Addr().String()
}

func message(id int, op ldapwire.Op) []byte {
	return ldapwire.AppendMessage(nil, ldapwire.Message{ID: id, Op: op})
}

func searchDone(id, code int) []byte {
	return message(id, &ldapwire.Done{Kind: ldapwire.TagSearchDone, Result: ldapwire.Result{Code: code}})
}

// TestOutages: whatever the server does instead of answering is ErrUnavailable,
// soon, for reads, edits and binds; nothing of it looks like an answer.
func TestOutages(t *testing.T) {
	const timeout = 300 * time.Millisecond
	notice := &ldapwire.ExtendedResponse{Result: ldapwire.Result{Code: 32}, OID: ldapwire.OIDDisconnection}
	for name, answer := range map[string]func(m ldapwire.Message) []byte{
		"blackhole":        func(ldapwire.Message) []byte { return []byte{} },
		"closes":           func(ldapwire.Message) []byte { return nil },
		"garbage":          func(ldapwire.Message) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"claims 2 GiB":     func(ldapwire.Message) []byte { return []byte("\x30\x84\x7f\xff\xff\xff") },
		"notice":           func(ldapwire.Message) []byte { return message(0, notice) },
		"another's answer": func(m ldapwire.Message) []byte { return searchDone(m.ID+1, 0) },
		"another kind":     func(m ldapwire.Message) []byte { return message(m.ID, &ldapwire.ExtendedResponse{}) },
		"half an answer":   func(m ldapwire.Message) []byte { return searchDone(m.ID, 0)[:5] },
		"busy": func(m ldapwire.Message) []byte {
			if _, ok := m.Op.(*ldapwire.BindRequest); ok {
				return message(m.ID, &ldapwire.BindResponse{Result: ldapwire.Result{Code: int(directory.Busy)}})
			}
			return searchDone(m.ID, int(directory.Unavailable))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, ldapclient.Options{URLs: []string{script(t, answer)}, Timeout: timeout})
			for what, run := range map[string]func() error{
				"search": func() error { _, err := names(t, c, directory.Filter{}); return err },
				"bind":   func() error { return c.Bind(t.Context(), person(1), "p1") },
				"delete": func() error { return c.Delete(t.Context(), person(1)) },
			} {
				start := time.Now()
				err := run()
				if name == "busy" && what == "delete" {
					continue // it gets an answer of another kind: covered above
				}
				if !errors.Is(err, directory.ErrUnavailable) || errors.Is(err, directory.ErrNotFound) || errors.Is(err, directory.ErrBadCredentials) {
					t.Errorf("%s: %v", what, err)
				}
				if took := time.Since(start); took > timeout+2*time.Second {
					t.Errorf("%s took %v", what, took)
				}
			}
		})
	}
}

// TestBlackholedServerHasAStandIn: of two servers the first swallows
// everything; the second answers within the timeout, and is asked first then.
func TestBlackholedServerHasAStandIn(t *testing.T) {
	hole := listen(t, "tcp", "127.0.0.1:0") // accepts in the kernel, never says a word
	defer hole.Close()
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + hole.Addr().String(), "ldap://" + l.Addr().String()},
		BindDN: service, Password: password, Timeout: time.Second})
	for i := range 2 {
		start := time.Now()
		if got, err := names(t, c, directory.Equal("objectClass", "person")); err != nil || len(got) != 2 {
			t.Fatalf("%v %v", got, err)
		}
		if took := time.Since(start); i > 0 && took > 400*time.Millisecond {
			t.Errorf("search %d took %v", i, took)
		}
	}
}

// TestSlowEntriesEndAtTheTimeout: a server that goes on for ever is cut.
func TestSlowEntriesEndAtTheTimeout(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := conn.Write(message(1, &ldapwire.SearchEntry{DN: "o=mail"})); err != nil {
				return
			}
		}
	}()
	c := dial(t, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, Timeout: 200 * time.Millisecond})
	if _, err := names(t, c, directory.Filter{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
	<-done
	_ = l.Close()
}

// TestCancel: the caller's context ends an operation, and the wait for a
// connection, at once.
func TestCancel(t *testing.T) {
	asked := make(chan struct{}, 1)
	c := dial(t, ldapclient.Options{Connections: 1, Timeout: time.Minute, URLs: []string{script(t, func(ldapwire.Message) []byte {
		asked <- struct{}{}
		return []byte{}
	})}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 { // one is asking, two wait for their turn
		wg.Go(func() {
			err := c.Delete(ctx, person(1))
			if !errors.Is(err, directory.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	<-asked
	cancel()
	wg.Wait()
}

// TestDeadConnectionIsTriedAgain: the server closes instead of answering a
// second request; a search and a bind do not notice, an edit is not repeated.
func TestDeadConnectionIsTriedAgain(t *testing.T) {
	var deletes atomic.Int32
	c := dial(t, ldapclient.Options{Connections: 1, Binders: 1, URLs: []string{script(t, func(m ldapwire.Message) []byte {
		switch m.Op.(type) {
		case *ldapwire.BindRequest:
			if m.ID > 1 {
				return nil
			}
			return message(m.ID, &ldapwire.BindResponse{})
		case *ldapwire.DelRequest:
			deletes.Add(1)
			return nil
		}
		if m.ID > 1 {
			return nil
		}
		return searchDone(m.ID, 0)
	})}})
	for range 5 {
		if _, err := names(t, c, directory.Filter{}); err != nil {
			t.Errorf("search: %v", err)
		}
		if err := c.Bind(t.Context(), person(1), "p1"); err != nil {
			t.Errorf("bind: %v", err)
		}
	}
	if err := c.Delete(t.Context(), person(1)); !errors.Is(err, directory.ErrUnavailable) {
		t.Errorf("delete: %v", err)
	}
	if n := deletes.Load(); n != 1 {
		t.Errorf("the delete was sent %d times", n)
	}
}

// TestReferralsAreNotFollowed, nor taken for an answer.
func TestReferralsAreNotFollowed(t *testing.T) {
	c := dial(t, ldapclient.Options{URLs: []string{script(t, func(m ldapwire.Message) []byte {
		reply := message(m.ID, &ldapwire.SearchReference{URIs: []string{"ldap://evil.example/"}})
		reply = append(reply, message(m.ID, &ldapwire.SearchEntry{DN: "o=mail"})...)
		return append(reply, message(m.ID, &ldapwire.Done{Kind: ldapwire.TagSearchDone,
			Result: ldapwire.Result{Code: 10, Referral: []string{"ldap://evil.example/"}}})...)
	})}})
	got, err := names(t, c, directory.Filter{})
	r, ok := errors.AsType[*directory.ResultError](err)
	if len(got) != 1 || !ok || r.Code != 10 || errors.Is(err, directory.ErrNotFound) {
		t.Errorf("%v %v", got, err)
	}
}

// TestPages: a server that pages is asked for all of them, on one connection.
func TestPages(t *testing.T) {
	c := dial(t, ldapclient.Options{URLs: []string{script(t, func(m ldapwire.Message) []byte {
		p, err := ldapwire.DecodePaged(m.Controls[0].Value)
		if err != nil || m.ID != len(p.Cookie)+1 {
			t.Errorf("request %d has the cookie %q, %v", m.ID, p.Cookie, err)
		}
		reply := message(m.ID, &ldapwire.SearchEntry{DN: "ou=x" + p.Cookie})
		next := ldapwire.Paged{Cookie: p.Cookie + "x"}
		if m.ID == 3 {
			next.Cookie = ""
		}
		return append(reply, ldapwire.AppendMessage(nil, ldapwire.Message{ID: m.ID, Op: &ldapwire.Done{Kind: ldapwire.TagSearchDone},
			Controls: []ldapwire.Control{next.Control(false)}})...)
	})}})
	if got, err := names(t, c, directory.Filter{}); err != nil || len(got) != 3 {
		t.Errorf("%v %v", got, err)
	}
}

// TestUsersFaults: what servers answer to a bind that is the user's own fault
// is one error, whatever its code; what is not is none of it.
func TestUsersFaults(t *testing.T) {
	for code, want := range map[directory.ResultCode]error{
		directory.InvalidCredentials:      directory.ErrBadCredentials,
		directory.NoSuchObject:            directory.ErrBadCredentials,
		directory.InappropriateAuth:       directory.ErrBadCredentials,
		directory.UnwillingToPerform:      directory.ErrBadCredentials,
		directory.Busy:                    directory.ErrUnavailable,
		directory.OtherError:              directory.ErrUnavailable,
		directory.ConfidentialityRequired: nil,
	} {
		c := dial(t, ldapclient.Options{URLs: []string{script(t, func(m ldapwire.Message) []byte {
			return message(m.ID, &ldapwire.BindResponse{Result: ldapwire.Result{Code: int(code), Text: "because"}})
		})}})
		err := c.Bind(t.Context(), person(1), "x")
		if err == nil || want != nil && !errors.Is(err, want) || errors.Is(err, directory.ErrBadCredentials) != (want == directory.ErrBadCredentials) ||
			errors.Is(err, directory.ErrNotFound) {
			t.Errorf("result %d: %v", code, err)
		}
	}
}

// TestPlaintextBehindStartTLS: injected bytes must not survive the upgrade.
func TestPlaintextBehindStartTLS(t *testing.T) {
	_, clientTLS := certificate(t)
	c := dial(t, ldapclient.Options{StartTLS: true, TLS: clientTLS, URLs: []string{script(t, func(m ldapwire.Message) []byte {
		return append(message(m.ID, &ldapwire.ExtendedResponse{OID: ldapwire.OIDStartTLS}), searchDone(2, 0)...)
	})}})
	if _, err := names(t, c, directory.Filter{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
}

// TestCertificateOfAnother: the name must be the URL's.
func TestCertificateOfAnother(t *testing.T) {
	serverTLS, _ := certificate(t)
	_, otherTLS := certificate(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 1))
	o.TLS = serverTLS
	serve(t, l, o)
	c := dial(t, ldapclient.Options{StartTLS: true, TLS: otherTLS, URLs: []string{"ldap://" + l.Addr().String()}})
	if _, err := names(t, c, directory.Filter{}); !errors.Is(err, directory.ErrUnavailable) {
		t.Error(err)
	}
}
