package relay

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mmp"
)

// dialogue is an MTA that says what is written after "S: ", and wants to hear
// what is after "C: ". It returns its address, and where it tells how it went.
func dialogue(t *testing.T, script string) (string, chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	went := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			went <- err
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(conn)
		for line := range strings.Lines(script) {
			who, text, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
			if who == "S" {
				fmt.Fprintf(conn, "%s\r\n", text)
				continue
			}
			if got, err := r.ReadString('\n'); err != nil || strings.TrimRight(got, "\r\n") != text {
				went <- fmt.Errorf("%q, want %q: %v", got, text, err)
				return
			}
		}
		went <- nil
	}()
	return ln.Addr().String(), went
}

// pair is a client's connection, from both ends.
func pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// plainBob is SASL PLAIN of bob by the proxy.
const plainBob = "Ym9iQGV4YW1wbGUudGVzdABtbXAAc2VjcmV0"

func TestSubmissionIsHandedOver(t *testing.T) {
	for name, c := range map[string]struct {
		script  string
		refused string // empty: it is taken
	}{
		"by SASL":    {"S: 220-many\nS: 220 lines\nC: EHLO front\nS: 250-mta\nS: 250 AUTH PLAIN\nC: AUTH PLAIN " + plainBob + "\nS: 235 2.7.0 ok\nC: NOOP\nS: 250 ok\n", ""},
		"by XCLIENT": {"S: 220 mta\nC: EHLO front\nS: 250-mta\nS: 250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR\nC: XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.9 PORT=99 PROTO=ESMTP LOGIN=bob@example.test\nS: 220 mta\nC: EHLO front\nS: 250 mta\nC: NOOP\nS: 250 ok\n", ""},
		"by XCLIENT without a login": {"S: 220 mta\nC: EHLO front\nS: 250-mta\nS: 250 XCLIENT ADDR\nC: XCLIENT ADDR=192.0.2.9\nS: 220 mta\nC: EHLO front\nS: 250 mta\nC: AUTH PLAIN " + plainBob +
			"\nS: 235 2.7.0 ok\nC: NOOP\nS: 250 ok\n", ""},
		"it is busy":          {"S: 421 no\n", "greeted with 421"},
		"it speaks otherwise": {"S: * OK IMAP\n", "not a reply"},
		"codes that differ":   {"S: 220 mta\nC: EHLO front\nS: 250-mta\nS: 350 x\n", "not a reply"},
		"no word of ours":     {"S: 220 mta\nC: EHLO front\nS: 250 mta\nC: AUTH PLAIN " + plainBob + "\nS: 535 5.7.8 no\n", "refused the login"},
		"XCLIENT refused":     {"S: 220 mta\nC: EHLO front\nS: 250-mta\nS: 250 XCLIENT LOGIN\nC: XCLIENT LOGIN=bob@example.test\nS: 550 no\n", "answered XCLIENT"},
		"half closes":         {"S: 220 mta\nC: EHLO front\n", "unexpected EOF"},
		"floods":              {"S: 220 mta\nC: EHLO front\n" + strings.Repeat("S: 250-x\n", 200), "too long a reply"},
		"a line without end":  {"S: 220 " + strings.Repeat("x", 9000) + "\n", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			address, went := dialogue(t, c.script)
			r := New(Options{Protocol: directory.ServiceSMTP, Address: address, Hostname: "front", Authcid: "mmp", Secret: "secret", Timeout: 5 * time.Second})
			ours, theirs := pair(t)
			h := &mmp.Handover{Conn: ours, Protocol: directory.ServiceSMTP, Identity: auth.Identity{User: directory.User{UID: "bob", Domain: "example.test"}},
				Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.9:99")}}
			ended := make(chan error, 1)
			go func() { ended <- r.Attach(t.Context(), h) }()
			if c.refused != "" {
				err := <-ended
				refused := (*mmp.RefusedError)(nil)
				if !errors.As(err, &refused) || !refused.Unavailable || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, want %q", err, c.refused)
				}
				return
			}
			_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
			in := bufio.NewReader(theirs)
			if line, err := in.ReadString('\n'); err != nil || line != "235 2.7.0 welcome\r\n" {
				t.Errorf("%q %v", line, err)
			}
			fmt.Fprint(theirs, "NOOP\r\n")
			if line, err := in.ReadString('\n'); err != nil || line != "250 ok\r\n" {
				t.Errorf("%q %v", line, err)
			}
			if err := <-went; err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
