package smtpclient_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

const letter = "Subject: x\r\n\r\n.hello\r\n"

// far is a world with one MX that answers by f.
func far(t *testing.T, f func(net.Conn)) *world {
	w := newWorld(t)
	w.domain("far.test", "mx.far.test.")
	w.address("mx.far.test", "198.51.100.1")
	w.serve("198.51.100.1:25", f)
	return w
}

const hello = "S: 220 mx.far.test\nC: EHLO mx.us.example\n"

func TestDialogues(t *testing.T) {
	const plain = hello + "S: 250 mx.far.test\n"
	const pipelined = hello + "S: 250-mx.far.test\nS: 250-SIZE 1000\nS: 250-8bitmime\nS: 250-DSN\nS: 250 PIPELINING\n"
	bye := "C: QUIT\nS: 221 bye\n"
	tests := []struct {
		name, dialogue string
		env            func(*mail.Envelope)
		body           string
		want           []string
	}{
		{name: "one after the other", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\n" +
			"C: RCPT TO:<b@far.test>\nS: 550 5.1.1 no b\nC: DATA\nS: 354 go\nC: ...\nS: 250 2.0.0 taken\n" + bye,
			want: []string{"ok", "550 5.1.1 mx.far.test said: 550 no b"}},
		{name: "pipelined, with parameters", dialogue: pipelined +
			"C: MAIL FROM:<s@us.example> SIZE=22 BODY=8BITMIME RET=FULL ENVID=a+2B\nC: RCPT TO:<a@far.test> NOTIFY=FAILURE ORCPT=rfc822;x@y\nC: RCPT TO:<b@far.test>\nC: DATA\n" +
			"S: 250 ok\nS: 451 4.7.1 greylisted\nS: 250 ok\nS: 354 go\nC: Subject: x\nC:\nC: ..hello\nC: .\nS: 250 taken\n" + bye,
			env: func(e *mail.Envelope) {
				e.EightBit, e.Ret, e.EnvID = true, "FULL", "a+"
				e.To[0].Notify, e.To[0].ORCPT = "FAILURE", "rfc822;x@y"
			},
			want: []string{"451 4.7.1 mx.far.test said: 451 greylisted", "ok"}},
		{name: "old host", dialogue: "S: 220 hi\nC: EHLO mx.us.example\nS: 502 what\nC: HELO mx.us.example\nS: 250 hi\n" +
			"C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 251 ok\nC: DATA\nS: 354 go\nC: ...\nS: 250 ok\n" + bye,
			want: []string{"ok", "ok"}},
		{name: "sender refused", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 550 5.7.1 not you\nC: RSET\nS: 250 ok\n" + bye,
			want: []string{"550 5.7.1 mx.far.test said: 550 not you", "550 5.7.1 mx.far.test said: 550 not you"}},
		{name: "sender refused in a pipeline", dialogue: pipelined + "C: MAIL FROM:<s@us.example> SIZE=22\nC: RCPT TO:<a@far.test>\nC: RCPT TO:<b@far.test>\nC: DATA\n" +
			"S: 452 4.3.1 full\nS: 503 no\nS: 503 no\nS: 503 no\n" + bye,
			want: []string{"452 4.3.1 mx.far.test said: 452 full", "452 4.3.1 mx.far.test said: 452 full"}},
		{name: "nobody wanted in a pipeline", dialogue: pipelined + "C: MAIL FROM:<s@us.example> SIZE=22\nC: RCPT TO:<a@far.test>\nC: RCPT TO:<b@far.test>\nC: DATA\n" +
			"S: 250 ok\nS: 550 no\nS: 552 too many\nS: 354 go on\n",
			want: []string{"550 5.0.0 mx.far.test said: 550 no", "452 4.5.3 mx.far.test said: 552 too many"}},
		{name: "message refused", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 250 ok\n" +
			"C: DATA\nS: 354 go\nC: ...\nS: 554-5.7.1 this is\nS: 554 5.7.1 spam\n" + bye,
			want: []string{"554 5.7.1 mx.far.test said: 554 this is spam", "554 5.7.1 mx.far.test said: 554 this is spam"}},
		{name: "too large", dialogue: pipelined + bye, body: strings.Repeat("x", 1000) + "\r\n",
			want: []string{"552 5.3.4 mx.far.test takes at most 1000 bytes", "552 5.3.4 mx.far.test takes at most 1000 bytes"}},
		{name: "no SMTPUTF8", dialogue: plain + bye, env: func(e *mail.Envelope) { e.From.Local = "grün" },
			want: []string{"550 5.6.7 mx.far.test cannot take internationalized mail (SMTPUTF8)", "550 5.6.7 mx.far.test cannot take internationalized mail (SMTPUTF8)"}},
		{name: "SMTPUTF8 asked for and not needed", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 250 ok\n" +
			"C: DATA\nS: 354 go\nC: ...\nS: 250 ok\n" + bye, env: func(e *mail.Envelope) { e.SMTPUTF8 = true }, want: []string{"ok", "ok"}},
		{name: "SMTPUTF8 needed by the header", dialogue: plain + bye, env: func(e *mail.Envelope) { e.SMTPUTF8 = true }, body: "Subject: grün\r\n\r\n",
			want: []string{"550 5.6.7 mx.far.test cannot take internationalized mail (SMTPUTF8)", "550 5.6.7 mx.far.test cannot take internationalized mail (SMTPUTF8)"}},
		{name: "closed at RCPT", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 421 4.3.2 going down\n",
			want: []string{"421 4.3.2 mx.far.test said: 421 going down", "421 4.3.2 mx.far.test said: 421 going down"}},
		{name: "quoting", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<\"a> SIZE=1\"@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 250 ok\n" +
			"C: DATA\nS: 354 go\nC: ...\nS: 250 ok\n" + bye, env: func(e *mail.Envelope) { e.To[0].Address.Local = "a> SIZE=1" }, want: []string{"ok", "ok"}},
		{name: "bare LF", dialogue: plain + "C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: RCPT TO:<b@far.test>\nS: 250 ok\nC: DATA\nS: 354 go\n",
			body: "x\n.\nMAIL FROM:<v>\r\n",
			want: []string{"554 5.6.0 the message has a bare CR or LF and cannot be sent", "554 5.6.0 the message has a bare CR or LF and cannot be sent"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := far(t, chat(t, tt.dialogue))
			env := envelope(t, "s@us.example", "a@far.test", "b@far.test")
			if tt.env != nil {
				tt.env(&env)
			}
			body := tt.body
			if body == "" {
				body = letter
			}
			errs := once(w.options(), t.Context(), env, mail.Bytes(body))
			if diff := cmp.Diff(tt.want, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManyRecipientsAreSeveralTransactions(t *testing.T) {
	var to []string
	dialogue := hello + "S: 250 hi\n"
	var want []string
	for i := range 150 {
		if i%100 == 0 {
			dialogue += "C: MAIL FROM:<s@us.example>\nS: 250 ok\n"
		}
		a := strings.Repeat("a", i/10+1) + string(rune('0'+i%10)) + "@far.test"
		to = append(to, a)
		dialogue += "C: RCPT TO:<" + a + ">\nS: 250 ok\n"
		if i == 99 || i == 149 {
			dialogue += "C: DATA\nS: 354 go\nC: ...\nS: 250 ok\n"
		}
		want = append(want, "ok")
	}
	w := far(t, chat(t, dialogue+"C: QUIT\nS: 221 bye\n"))
	errs := once(w.options(), t.Context(), envelope(t, "s@us.example", to...), mail.Bytes(letter))
	if diff := cmp.Diff(want, replies(errs)); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
}

func TestNextHostIsTriedBeforeTheMessageWasSeen(t *testing.T) {
	good := chat(t, hello+"S: 250 hi\nC: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC: ...\nS: 250 ok\nC: QUIT\nS: 221 bye\n")
	for name, bad := range map[string]string{
		"refused greeting": "S: 554 no service here",
		"busy greeting":    "S: 421 busy",
		"silent":           "",
		"EHLO refused":     hello + "S: 421 no",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.domain("far.test", "bad.far.test.", "mx.far.test.")
			w.address("bad.far.test", "198.51.100.1")
			w.address("mx.far.test", "198.51.100.2")
			w.serve("198.51.100.1:25", chat(t, bad))
			w.serve("198.51.100.2:25", good)
			errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter))
			if errs[0] != nil {
				t.Error(errs[0])
			}
		})
	}
}

// TestEvilHosts meets hosts that never answer as they should: each must end as
// a transient failure, within the timeouts.
func TestEvilHosts(t *testing.T) {
	start := hello + "S: 250-mx.far.test\nS: 250 PIPELINING\n"
	flight := start + "C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
	// then plays a dialogue and goes on by f.
	then := func(dialogue string, f func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) {
			if dialogue != "" {
				chat(t, dialogue)(c)
			}
			f(c)
		}
	}
	drip := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				for i := range len(s) {
					if _, err := c.Write([]byte{s[i]}); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		}
	}
	flood := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := c.Write([]byte(s)); err != nil {
					return
				}
			}
		}
	}
	silent := func(c net.Conn) { io.Copy(io.Discard, c) }
	tests := map[string]func(net.Conn){
		"garbage banner":           flood("\x00\xff garbage\r\n"),
		"http":                     chat(t, "S: HTTP/1.1 400 Bad Request"),
		"endless line":             flood("220-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		"endless banner":           flood("220-hello\r\n"),
		"banner byte by byte":      drip("220-hello\r\n"),
		"silent":                   silent,
		"silent after EHLO":        then(hello, silent),
		"EHLO byte by byte":        then(hello, drip("250-x\r\n")),
		"endless EHLO":             then(hello, flood("250-x\r\n")),
		"two codes in one reply":   chat(t, hello+"S: 250-x\nS: 550 y"),
		"gone after EHLO":          chat(t, start),
		"421 at MAIL":              chat(t, start+"C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nC: DATA\nS: 421 bye"),
		"421 at DATA":              chat(t, start+"C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 421 bye"),
		"354 at RCPT":              chat(t, start+"C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nC: DATA\nS: 250 ok\nS: 354 go"),
		"250 at DATA":              chat(t, start+"C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok"),
		"354 at the dot":           chat(t, flight+"C: ...\nS: 354 more"),
		"gone at the dot":          chat(t, flight+"C: ..."),
		"silent at the dot":        then(flight+"C: ...", silent),
		"byte by byte at the dot":  then(flight+"C: ...", drip("250-x\r\n")),
		"half-closed at the dot":   then(flight+"C: ...", func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c) }),
		"421 at the dot":           chat(t, flight+"C: ...\nS: 421 bye"),
		"never reads the message":  then(flight, func(c net.Conn) { c.Read(make([]byte, 1)); time.Sleep(3 * time.Second) }),
		"plaintext after STARTTLS": then(hello+"S: 250-hi\nS: 250 STARTTLS\nC: STARTTLS", func(c net.Conn) { c.Write([]byte("220 go\r\n250 injected\r\n")); silent(c) }),
		"421 at STARTTLS":          chat(t, hello+"S: 250-hi\nS: 250 STARTTLS\nC: STARTTLS\nS: 421 no"),
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := far(t, f)
			o := w.options()
			second := time.Second
			o.Timeouts = smtpclient.Timeouts{Connect: second, Command: second, Data: second, Block: second, Final: second}
			body := mail.Bytes(letter)
			if strings.HasPrefix(name, "never reads") {
				body = mail.Bytes(strings.Repeat("0123456789\r\n", 4<<20/12*4))
			}
			begin := time.Now()
			errs := once(o, t.Context(), envelope(t, "s@us.example", "a@far.test"), body)
			if errs[0] == nil || mail.IsPermanent(errs[0]) {
				t.Errorf("%v, want a transient failure", errs[0])
			}
			if took := time.Since(begin); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestUnreadableBodyIsTransient(t *testing.T) {
	w := far(t, chat(t, hello+"S: 250 hi\nC: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: DATA\nS: 354 go\n"))
	errs := once(w.options(), t.Context(), envelope(t, "s@us.example", "a@far.test"), torn{})
	if errs[0] == nil || mail.IsPermanent(errs[0]) {
		t.Errorf("%v, want a transient failure", errs[0])
	}
}

// torn is a message that cannot be read to its end.
type torn struct{}

func (torn) Size() int64 { return 100 }
func (torn) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("Subject: x\r\n"), errReader{})), nil
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }
