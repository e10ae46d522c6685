package smtpclient_test

import (
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/smtpclient"
)

func TestChunksGoOut(t *testing.T) {
	const chunking = hello + "S: 250-mx.far.test\nS: 250-8BITMIME\nS: 250-PIPELINING\nS: 250 CHUNKING\n"
	const binary = hello + "S: 250-mx.far.test\nS: 250-8BITMIME\nS: 250-BINARYMIME\nS: 250 CHUNKING\n"
	const bye = "C: QUIT\nS: 221 bye\n"
	tests := []struct {
		name, dialogue, body string
		binary               bool
		want                 string
	}{
		{"text, dots as they are", chunking + "C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nS: 250 ok\nS: 250 ok\n" +
			"C: BDAT 22 LAST\nC: Subject: x\nC:\nC: .hello\nS: 250 taken\n" + bye, letter, false, "ok"},
		{"nobody wanted", chunking + "C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nS: 250 ok\nS: 550 5.1.1 no\nC: RSET\nS: 250 ok\n" + bye, letter, false,
			"550 5.1.1 mx.far.test said: 550 no"},
		{"refused", chunking + "C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nS: 250 ok\nS: 250 ok\n" +
			"C: BDAT 22 LAST\nC: Subject: x\nC:\nC: .hello\nS: 554 5.7.1 spam\n" + bye, letter, false, "554 5.7.1 mx.far.test said: 554 spam"},
		{"a bare LF ends the connection", chunking + "C: MAIL FROM:<s@us.example>\nC: RCPT TO:<a@far.test>\nS: 250 ok\nS: 250 ok\n",
			"x\n.\nMAIL FROM:<v>\r\n", false, "554 5.6.0 the message has a bare CR or LF and cannot be sent"},
		{"octets", binary + "C: MAIL FROM:<s@us.example> BODY=BINARYMIME\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\n" +
			"C: BDAT 46 LAST\nC: Content-Transfer-Encoding: binary\nC:\nC: a\rb\x00c\nC: \nS: 250 ok\n" + bye,
			"Content-Transfer-Encoding: binary\r\n\r\na\rb\x00c\r\n\r\n", true, "ok"},
		{"octets for a host that takes none", hello + "S: 250-mx.far.test\nS: 250-8BITMIME\nS: 250 CHUNKING\n" +
			"C: MAIL FROM:<s@us.example> BODY=8BITMIME\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\n" +
			"C: BDAT 43 LAST\nC: Content-Transfer-Encoding: base64\nC:\nC: AAr/\nS: 250 ok\n" + bye,
			"Content-Transfer-Encoding: binary\r\n\r\n\x00\n\xff", true, "ok"},
		{"octets for a host of old", hello + "S: 250 mx.far.test\n" +
			"C: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\nC: DATA\nS: 354 go\nC: ...\nS: 250 ok\n" + bye,
			"Content-Transfer-Encoding: binary\r\n\r\n\x00\n\xff", true, "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := far(t, chat(t, tt.dialogue))
			env := envelope(t, "s@us.example", "a@far.test")
			env.Binary, env.EightBit = tt.binary, tt.binary
			errs := once(w.options(), t.Context(), env, mail.Bytes(tt.body))
			if diff := cmp.Diff([]string{tt.want}, replies(errs)); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
		})
	}
}

// TestChunksOfferedInVain: a host that offers BDAT and does not know it gets DATA
// the next time, and nothing is bounced.
func TestChunksOfferedInVain(t *testing.T) {
	const begin = hello + "S: 250-mx.far.test\nS: 250 CHUNKING\nC: MAIL FROM:<s@us.example>\nS: 250 ok\nC: RCPT TO:<a@far.test>\nS: 250 ok\n"
	dialogues := []string{
		begin + "C: BDAT 22 LAST\nC: Subject: x\nC:\nC: .hello\nS: 502 5.5.1 what is BDAT\n",
		begin + "C: DATA\nS: 354 go\nC: ...\nS: 250 ok\nC: QUIT\nS: 221 bye\n",
	}
	n := 0
	w := far(t, func(c net.Conn) {
		n++
		chat(t, dialogues[n-1])(c)
	})
	c := smtpclient.New(w.options())
	defer c.Close()
	want := []string{"451 4.5.1 mx.far.test offers CHUNKING and knows no BDAT, next time it gets DATA", "ok"}
	for i := range dialogues {
		got := replies(c.Deliver(t.Context(), envelope(t, "s@us.example", "a@far.test"), mail.Bytes(letter)))
		if diff := cmp.Diff(want[i:i+1], got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestRequireTLS: a message whose sender demands it goes to no host that is not
// proved to be the right one, and promises the same (RFC 8689 §4.2.1).
func TestRequireTLS(t *testing.T) {
	const keeps = "TLS\nC: EHLO mx.us.example\nS: 250-mx.far.test\nS: 250 REQUIRETLS\n"
	sent := strings.Replace(sending, "<s@us.example>", "<s@us.example> REQUIRETLS", 1)
	const bye = "C: QUIT\nS: 221 bye\n"
	valid := &mta.Protection{By: "mta-sts"}
	for _, tt := range []struct {
		name, dialogue string
		protection     any
		want           string
	}{
		{"kept", offer + "S: 220 go\n" + keeps + sent, valid, "ok"},
		{"not promised", offer + "S: 220 go\n" + afterTLS + bye, valid, "550 5.7.30 mx.far.test does not promise to keep the message within TLS (REQUIRETLS)"},
		{"promised in plain text", hello + "S: 250-mx.far.test\nS: 250 REQUIRETLS\n" + bye, valid,
			"451 4.7.10 mx.far.test offers no STARTTLS, which its domain's policy demands (mta-sts)"},
		{"nothing proves the host", "", nil, "550 5.7.30 nothing proves who the mail host of far.test is, which the sender demands (REQUIRETLS)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := far(t, func(c net.Conn) {
				if tt.dialogue == "" {
					t.Error("the host was spoken to")
					return
				}
				chat(t, tt.dialogue)(c)
			})
			o := w.options()
			o.Policies = []mta.TLSPolicy{policies{"mx.far.test": tt.protection}}
			env := envelope(t, "s@us.example", "a@far.test")
			env.RequireTLS = true
			errs := once(o, t.Context(), env, mail.Bytes(letter))
			if diff := cmp.Diff([]string{tt.want}, replies(errs)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
