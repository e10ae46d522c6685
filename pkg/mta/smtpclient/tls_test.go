package smtpclient_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

const afterTLS = "TLS\nC: EHLO mx.us.example\nS: 250 mx.far.test\n"
const sending = "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC: ...\nS: 250 ok\nC: QUIT\nS: 221 bye\n"
const offer = hello + "S: 250-mx.far.test\nS: 250 STARTTLS\nC: STARTTLS\n"

func TestOpportunisticTLS(t *testing.T) {
	attempt := 0
	tests := map[string]func(net.Conn){
		"offered":     chat(t, offer+"S: 220 go\n"+afterTLS+sending),
		"not offered": chat(t, hello+"S: 250 mx.far.test\n"+sending),
		"refused":     chat(t, offer+"S: 454 not now\n"+sending),
		"broken, then without": func(c net.Conn) {
			if attempt++; attempt == 1 {
				chat(t, offer+"S: 220 go\n")(c)
				c.Read(make([]byte, 1)) // the beginning of the handshake
				io.WriteString(c, "this is no handshake\r\n")
				return
			}
			chat(t, hello+"S: 250-mx.far.test\nS: 250 STARTTLS\n"+sending)(c)
		},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			w := far(t, f)
			w.domain("far.test", "other.far.test.") // a certificate of another name is good enough
			w.address("other.far.test", "198.51.100.1")
			if errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter)); errs[0] != nil {
				t.Error(errs[0])
			}
		})
	}
}

func TestSmartHostNeedsTLS(t *testing.T) {
	const plain = hello + "S: 250-relay\nS: 250 AUTH PLAIN\n"
	tests := []struct {
		name, addr, relay, ip string
		tls                   smtpclient.Security
		want                  string
	}{
		{"stripped", "relay.test", hello + "S: 250 relay\nC: QUIT\nS: 221 bye", "198.51.100.1", smtpclient.RequireSTARTTLS,
			"451 4.7.10 relay.test offers no STARTTLS, which our configuration demands"},
		{"name of another", "other.test", offer + "S: 220 go\n", "198.51.100.1", smtpclient.RequireSTARTTLS, "451 4.4.2 the connection to other.test failed at STARTTLS"},
		{"password in the clear", "relay.test", plain + "C: QUIT\nS: 221 bye", "198.51.100.1", smtpclient.Opportunistic,
			"451 4.7.11 will not send a password to relay.test without verified TLS"},
		{"password on loopback", "relay.test", plain + "C: AUTH PLAIN AG1lAHNlY3JldA==\nS: 235 ok\n" + sending, "127.0.0.1", smtpclient.Opportunistic, "ok"},
		{"wrong password", "relay.test", plain + "C: AUTH PLAIN AG1lAHNlY3JldA==\nS: 535 5.7.8 no\nC: QUIT\nS: 221 bye", "127.0.0.1", smtpclient.Opportunistic,
			"451 4.7.8 the relay relay.test refused our login"},
		{"LOGIN", "relay.test", hello + "S: 250-relay\nS: 250 AUTH=LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: bWU=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 ok\n" + sending,
			"127.0.0.1", smtpclient.Opportunistic, "ok"},
		{"no mechanism", "relay.test", hello + "S: 250-relay\nS: 250 AUTH GSSAPI\nC: QUIT\nS: 221 bye", "127.0.0.1", smtpclient.Opportunistic,
			"451 4.7.4 the relay relay.test offers no login that we know"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.address(tt.addr, tt.ip)
			serve := chat(t, tt.relay)
			if strings.HasSuffix(tt.relay, "S: 220 go\n") {
				serve = func(c net.Conn) {
					chat(t, tt.relay)(c)
					tls.Server(c, authority.server).Handshake() // fails, which is the point
				}
			}
			w.serve(tt.ip+":587", serve)
			o := w.options()
			o.SmartHost = &smtpclient.SmartHost{Addr: tt.addr, TLS: tt.tls, Username: "me", Password: "secret"}
			errs := once(o, t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter))
			if diff := cmp.Diff([]string{tt.want}, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
		})
	}
}

// TestForeignServer sends through go-smtp's server: STARTTLS and TLS from the
// first byte, with a login.
func TestForeignServer(t *testing.T) {
	for name, security := range map[string]smtpclient.Security{"STARTTLS": smtpclient.RequireSTARTTLS, "TLS": smtpclient.ImplicitTLS} {
		t.Run(name, func(t *testing.T) {
			peer := &foreign{}
			s := smtp.NewServer(peer)
			s.Domain, s.TLSConfig, s.EnableDSN, s.EnableSMTPUTF8 = "relay.test", authority.server, true, true
			s.ErrorLog = quiet{}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() {
				if security == smtpclient.ImplicitTLS {
					served <- s.Serve(tls.NewListener(ln, authority.server))
				} else {
					served <- s.Serve(ln)
				}
			}()
			defer func() {
				s.Close()
				<-served
			}()
			w := newWorld(t)
			w.address("relay.test", "127.0.0.1")
			o := w.options()
			o.Dial = (&net.Dialer{}).DialContext
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			o.SmartHost = &smtpclient.SmartHost{Addr: "relay.test:" + port, TLS: security, Username: "me", Password: "secret"}
			env := envelope(t, "grün@us.example", "a@far.test", "no@far.test", "b@near.test")
			env.Ret, env.To[0].Notify = "HDRS", "FAILURE"
			body := strings.Repeat(letter, 3000)
			errs := once(o, t.Context(), env, mail.Bytes(body))
			if diff := cmp.Diff([]string{"ok", "550 5.1.1 relay.test said: 550 nobody", "ok"}, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"login me", "from grün@us.example HDRS true", "to a@far.test [FAILURE]", "to b@near.test []"}, peer.log); diff != "" {
				t.Errorf("what the peer saw (-want +got):\n%s", diff)
			}
			if peer.body.String() != body {
				t.Errorf("the peer got %d bytes of %d", peer.body.Len(), len(body))
			}
		})
	}
}

// foreign is the backend of a go-smtp server.
type foreign struct {
	log  []string
	body bytes.Buffer
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

func (f *foreign) NewSession(*smtp.Conn) (smtp.Session, error) { return f, nil }
func (f *foreign) AuthMechanisms() []string                    { return []string{sasl.Plain} }
func (f *foreign) Reset()                                      {}
func (f *foreign) Logout() error                               { return nil }

func (f *foreign) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return errors.New("no")
		}
		f.log = append(f.log, "login "+user)
		return nil
	}), nil
}

func (f *foreign) Mail(from string, o *smtp.MailOptions) error {
	f.log = append(f.log, "from "+from+" "+string(o.Return)+" "+map[bool]string{true: "true", false: "false"}[o.UTF8])
	return nil
}

func (f *foreign) Rcpt(to string, o *smtp.RcptOptions) error {
	if to == "no@far.test" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody"}
	}
	notify := ""
	for _, n := range o.Notify {
		notify += string(n)
	}
	f.log = append(f.log, "to "+to+" ["+notify+"]")
	return nil
}

func (f *foreign) Data(r io.Reader) error {
	_, err := f.body.ReadFrom(r)
	return err
}

func TestSilentHandshakeIsBounded(t *testing.T) {
	w := newWorld(t)
	w.address("relay.test", "198.51.100.1")
	w.serve("198.51.100.1:465", func(c net.Conn) { io.Copy(io.Discard, c) })
	o := w.options()
	o.Timeouts.Connect = 100 * time.Millisecond
	o.SmartHost = &smtpclient.SmartHost{Addr: "relay.test:465", TLS: smtpclient.ImplicitTLS}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if errs := once(o, ctx, envelope(t, "", "a@far.test"), mail.Bytes(letter)); errs[0] == nil || mail.IsPermanent(errs[0]) || ctx.Err() != nil {
		t.Error(errs[0])
	}
}
