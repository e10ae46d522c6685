package milter_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"testing"
	"time"

	gomilter "github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/milter"
)

const letter = "From: far@far.test\r\nSubject: a\r\n folded one\r\n\r\nhello\r\n"

// filter is a milter that notes what it sees and answers at the end.
type filter struct {
	gomilter.NoOpMilter
	seen   *[]string
	answer func(*gomilter.Modifier) gomilter.Response
}

func (f *filter) see(format string, args ...any) (gomilter.Response, error) {
	*f.seen = append(*f.seen, fmt.Sprintf(format, args...))
	return gomilter.RespContinue, nil
}

func (f *filter) Connect(host, family string, _ uint16, addr net.IP, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("connect %s %s %s", host, family, addr)
}
func (f *filter) Helo(name string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("helo %s", name)
}
func (f *filter) MailFrom(from string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("from %s", from)
}
func (f *filter) RcptTo(to string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("to %s", to)
}
func (f *filter) Header(name, value string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("%s: %q", name, value)
}
func (f *filter) Headers(textproto.MIMEHeader, *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("end of header")
}
func (f *filter) BodyChunk(chunk []byte, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.see("%q", chunk)
}
func (f *filter) Body(m *gomilter.Modifier) (gomilter.Response, error) {
	return f.answer(m), nil
}

// serve runs a filter until the test ends and returns its address.
func serve(t *testing.T, seen *[]string, answer func(*gomilter.Modifier) gomilter.Response) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &gomilter.Server{NewMilter: func() gomilter.Milter { return &filter{seen: seen, answer: answer} },
		Actions: gomilter.OptAddHeader | gomilter.OptQuarantine}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}

func evidence() *mta.Evidence {
	return &mta.Evidence{Stranger: true, Body: mail.Bytes(letter), Header: &mta.Header{Block: []byte(letter[:strings.Index(letter, "hello")])},
		Session: &mta.Session{Helo: "mx.far.test", Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.7:4000")}},
		Sender:  mta.Sender{From: mail.Address{Local: "far", Domain: "far.test"}}, Recipients: []mail.Recipient{{Address: mail.Address{Local: "u", Domain: "us.example"}}}}
}

func TestTheFilterSeesAll(t *testing.T) {
	var seen []string
	addr := serve(t, &seen, func(*gomilter.Modifier) gomilter.Response { return gomilter.RespAccept })
	c := milter.New(milter.Options{Network: "tcp", Address: addr, Log: slog.New(slog.DiscardHandler)})
	if err := c.Check(t.Context(), mta.AtMessage, evidence()); err != nil {
		t.Fatal(err)
	}
	want := []string{"connect [192.0.2.7] tcp4 192.0.2.7", "helo mx.far.test", "from far@far.test", "to u@us.example",
		`From: "far@far.test"`, `Subject: "a\n folded one"`, "end of header", `"hello\r\n"`}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestAnswers(t *testing.T) {
	response := func(r gomilter.Response) func(*gomilter.Modifier) gomilter.Response {
		return func(*gomilter.Modifier) gomilter.Response { return r }
	}
	field := func(name, value string) func(*gomilter.Modifier) gomilter.Response {
		return func(m *gomilter.Modifier) gomilter.Response {
			if err := m.AddHeader(name, value); err != nil {
				t.Error(err)
			}
			return gomilter.RespAccept
		}
	}
	tests := []struct {
		name               string
		answer             func(*gomilter.Modifier) gomilter.Response
		want, fields, junk string
	}{
		{name: "accept", answer: response(gomilter.RespAccept)},
		{name: "continue", answer: response(gomilter.RespContinue)},
		{name: "reject", answer: response(gomilter.RespReject), want: "550 5.7.1 refused by the content filter"},
		{name: "not now", answer: response(gomilter.RespTempFail), want: "451 4.7.1 the content filter cannot say now, try again later"},
		{name: "own reply", answer: response(gomilter.NewResponseStr('y', "554 5.7.9 no viruses\r\nplease\x00")), want: "554 5.7.9 no viruses  please"},
		{name: "own reply without enhanced code", answer: response(gomilter.NewResponseStr('y', "450 later\x00")), want: "450 4.7.1 later"},
		{name: "a reply that is none", answer: response(gomilter.NewResponseStr('y', "250 all is well\x00")), want: "451 4.7.1 the content filter cannot say now, try again later"},
		{name: "discard is no loss", answer: response(gomilter.RespDiscard), junk: "the content filter would discard it"},
		{name: "quarantine", answer: func(m *gomilter.Modifier) gomilter.Response {
			if err := m.Quarantine("odd"); err != nil {
				t.Error(err)
			}
			return gomilter.RespAccept
		}, junk: "the content filter says: odd"},
		{name: "a field", answer: field("X-Spam-Status", "No, score=1\n\ttests=A,\n B"), fields: "X-Spam-Status: No, score=1\r\n\ttests=A,\r\n\tB\r\n"},
		{name: "spam", answer: field("X-Spam-Flag", "YES"), fields: "X-Spam-Flag: YES\r\n", junk: "the content filter takes it for spam"},
		{name: "a field that is none", answer: field("X Y:", "z")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen []string
			c := milter.New(milter.Options{Network: "tcp", Address: serve(t, &seen, tt.answer), Log: slog.New(slog.DiscardHandler)})
			e := evidence()
			got := ""
			if st, ok := errors.AsType[*mail.Status](c.Check(t.Context(), mta.AtMessage, e)); ok {
				got = st.Reply()
			}
			if diff := cmp.Diff([]string{tt.want, tt.fields, tt.junk}, []string{got, string(e.Fields), e.Junk}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	peers := map[string]func(net.Conn){
		"hangs up": func(net.Conn) {},
		"silent":   silent,
		"garbage": func(conn net.Conn) {
			_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			silent(conn)
		},
		"huge": func(conn net.Conn) {
			_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff, 'O'})
			silent(conn)
		},
	}
	for name, peer := range peers {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					peer(conn)
					conn.Close()
				}
			}()
			o := milter.Options{Network: "tcp", Address: ln.Addr().String(), Timeout: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
			if err := milter.New(o).Check(t.Context(), mta.AtMessage, evidence()); err == nil || mail.IsPermanent(err) {
				t.Errorf("closed: %v", err)
			}
			o.Open = true
			if err := milter.New(o).Check(t.Context(), mta.AtMessage, evidence()); err != nil {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestTrustedAreNotShown(t *testing.T) {
	e := evidence()
	e.Stranger = false
	if err := milter.New(milter.Options{Network: "tcp", Address: "127.0.0.1:1"}).Check(t.Context(), mta.AtMessage, e); err != nil {
		t.Error(err)
	}
}
