package smtpclient_test

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"

	"mailsrv/pkg/mail"
)

// The tests of this file are rows of the hardening table, by number.

// listener keeps what a client sends it after DATA, and takes it all.
func listener(heard *strings.Builder, mu *sync.Mutex) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		c.Write([]byte("220 mx.far.test\r\n"))
		data := false
		for {
			line, err := r.ReadString('\n')
			mu.Lock()
			heard.WriteString(line)
			mu.Unlock()
			if err != nil {
				return
			}
			switch {
			case data && line == ".\r\n":
				data = false
				c.Write([]byte("250 ok\r\n"))
			case data:
			case line == "DATA\r\n":
				data = true
				c.Write([]byte("354 go\r\n"))
			case line == "QUIT\r\n":
				c.Write([]byte("221 bye\r\n"))
			default:
				c.Write([]byte("250 ok\r\n"))
			}
		}
	}
}

// TestS2SmugglingOut: a bare CR or LF never leaves us, and a dot at the start of
// a line is doubled, so that the next hop ends the message where we do.
func TestS2SmugglingOut(t *testing.T) {
	for _, body := range []string{"x\r.\r\nMAIL FROM:<v@evil.test>\r\n", "x\n.\nMAIL FROM:<v@evil.test>\r\n", "x\r\n.\rMAIL\r\n", "x\r\r\n.\r\n", "x\n.\r\nRCPT\r\n", "x\r"} {
		var mu sync.Mutex
		var heard strings.Builder
		w := far(t, listener(&heard, &mu))
		errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes("Subject: x\r\n\r\n"+body))
		w.wg.Wait()
		if got := replies(errs)[0]; got != "554 5.6.0 the message has a bare CR or LF and cannot be sent" {
			t.Errorf("%q: %s", body, got)
		}
		if s := strings.ReplaceAll(heard.String(), "\r\n", ""); strings.ContainsAny(s, "\r\n") || strings.Contains(heard.String(), "\r\n.\r\n") {
			t.Errorf("%q: sent %q", body, heard.String())
		}
	}
	var mu sync.Mutex
	var heard strings.Builder
	w := far(t, listener(&heard, &mu))
	errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes("Subject: x\r\n\r\n.\r\n..\r\nMAIL FROM:<v@evil.test>\r\n"))
	w.wg.Wait()
	if errs[0] != nil || !strings.Contains(heard.String(), "\r\n\r\n..\r\n...\r\nMAIL FROM:<v@evil.test>\r\n.\r\n") {
		t.Errorf("%v: sent %q", errs[0], heard.String())
	}
}

// TestS4ResponseInjection: what stands behind the answer to STARTTLS ends the
// connection, and where TLS is demanded nothing goes without.
func TestS4ResponseInjection(t *testing.T) {
	w := far(t, func(c net.Conn) {
		chat(t, "S: 220 hi\nC: EHLO mx.us.example\nS: 250-hi\nS: 250 STARTTLS\nC: STARTTLS")(c)
		c.Write([]byte("220 go\r\n250 injected\r\n250 injected\r\n"))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("the client goes on")
		}
	})
	errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter))
	if got := replies(errs)[0]; got != "451 4.4.2 the connection to mx.far.test failed at STARTTLS" {
		t.Error(got)
	}
}

// TestS11ParameterInjection: a local part that looks like parameters is quoted.
func TestS11ParameterInjection(t *testing.T) {
	w := far(t, chat(t, "S: 220 hi\nC: EHLO mx.us.example\nS: 250 hi\nC: MAIL FROM:<\"b> BODY=8BITMIME\"@us.example>\nS: 250 ok\nC: RCPT TO:<\"a> SIZE=1\"@far.test>\nS: 550 no\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye"))
	env := envelope(t, "s@us.example", "a@far.test")
	env.From.Local, env.To[0].Address.Local = "b> BODY=8BITMIME", "a> SIZE=1"
	errs := once(w.options(), t.Context(), env, mail.Bytes(letter))
	if got := replies(errs)[0]; got != "550 5.0.0 mx.far.test said: 550 no" {
		t.Error(got)
	}
}

// TestA5RebindingMX: a stranger's DNS does not lead us to this host, nor to
// what is reachable from it alone; nothing is dialled.
func TestA5RebindingMX(t *testing.T) {
	own := []string{"127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip, _, err := net.ParseCIDR(a.String())
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, ip.String())
	}
	for _, ip := range own {
		w := newWorld(t)
		w.domain("evil.test", "mx.evil.test.")
		w.address("mx.evil.test", ip)
		w.address("bare.test", ip) // without an MX
		for _, domain := range []string{"evil.test", "bare.test"} {
			got := replies(once(w.options(), t.Context(), envelope(t, "s@us.example", "a@"+domain), mail.Bytes("x")))[0]
			if got != "550 5.4.6 the mail host of "+domain+" is this very host" || len(w.dials) > 0 {
				t.Errorf("%s at %s: %s, dialled %q", domain, ip, got, w.dials)
			}
		}
	}
	for _, literal := range []string{"[127.0.0.1]", "[IPv6:::1]", "[169.254.169.254]"} {
		w := newWorld(t)
		if got := replies(once(w.options(), t.Context(), envelope(t, "s@us.example", "a@"+literal), mail.Bytes("x")))[0]; got != "550 5.4.6 that address is this very host" || len(w.dials) > 0 {
			t.Errorf("%s: %s, dialled %q", literal, got, w.dials)
		}
	}
}
