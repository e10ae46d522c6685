package smtpwire

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/wire"
)

func TestChunks(t *testing.T) {
	const begin = "S: 220\nC: EHLO x\nS: 250-mx.example\nS: 250-PIPELINING\nS: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250-ENHANCEDSTATUSCODES\nS: 250-SIZE 100\nS: 250-CHUNKING\nS: 250 BINARYMIME\n"
	const text = begin + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n"
	const binary = begin + "C: MAIL FROM:<a@b> BODY=BINARYMIME\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n"
	const bye = "C: QUIT\nS: 221"
	tests := []struct {
		name, script string
		want         []string // after hello, mail and rcpt
	}{
		{"one chunk", text + `R: "BDAT 9 LAST\r\nA: b\r\n\r\n." ` + "\nS: 250 2.0.0 queued\n" + bye, []string{`data "A: b\r\n\r\n.\r\n"`}},
		{"several chunks, pipelined, a line end between two of them", text + `R: "BDAT 5\r\nA: b\rBDAT 5\r\n\n\r\nx\rBDAT 1\r\n\nBDAT 0 LAST\r\n"` +
			"\nS: 250 2.0.0 chunk\nS: 250 2.0.0 chunk\nS: 250 2.0.0 chunk\nS: 250 2.0.0 queued\n" + bye, []string{`data "A: b\r\n\r\nx\r\n"`}},
		{"what looks like an end or a command is text", text + `R: "BDAT 29 LAST\r\nA: b\r\n\r\n.\r\nQUIT\r\nRSET\r\nx.\r\n\r\n"` + "\nS: 250\n" + bye,
			[]string{`data "A: b\r\n\r\n.\r\nQUIT\r\nRSET\r\nx.\r\n\r\n"`}},
		{"given up by RSET", text + `R: "BDAT 4\r\nA: bRSET\r\n"` + "\nS: 250 2.0.0 chunk\nS: 250 2.0.0 reset\nC: MAIL FROM:<a@b>\nS: 250\n" + bye, []string{"mail <a@b>", "reset"}},
		{"given up by QUIT", text + `R: "BDAT 4\r\nA: b"` + "\nS: 250\n" + bye, nil},
		{"other commands between chunks", text + `R: "BDAT 6\r\nA: b\r\n"` + "\nS: 250\nC: NOOP\nS: 250\nC: DATA\nS: 503\nC: RCPT TO:<e@f>\nS: 503\nC: MAIL FROM:<a@b>\nS: 503\nC: BDAT 0 LAST\nS: 250 2.0.0 queued\n" + bye,
			[]string{`data "A: b\r\n"`}},
		{"bare LF", text + `R: "BDAT 6 LAST\r\nA: b\nxRSET\r\n"` + "\nS: 550 5.5.2\nS: 250 2.0.0 reset\n" + bye, nil},
		{"bare CR at the end", text + `R: "BDAT 5 LAST\r\nA: b\r"` + "\nS: 550 5.5.2\n" + bye, nil},
		{"refused in the middle, what follows is swallowed", text + `R: "BDAT 5\r\nA:\nb\nBDAT 12\r\nMAIL FROM:<xBDAT 4 LAST\r\nRSETNOOP\r\n"` + "\nS: 550 5.5.2\nS: 503\nS: 503\nS: 250\n" + bye, nil},
		{"NUL in the header", text + `R: "BDAT 7 LAST\r\nA: \x00b\r\n"` + "\nS: 550 5.6.0\n" + bye, nil},
		{"too large in one", text + `R: "BDAT 101 LAST\r\n` + strings.Repeat("x", 101) + `"` + "\nS: 552 5.3.4\n" + bye, nil},
		{"too large together", text + `R: "BDAT 60\r\n` + strings.Repeat("x", 60) + `BDAT 60\r\n` + strings.Repeat("x", 60) + `"` + "\nS: 250\nS: 552 5.3.4\n" + bye, nil},
		{"far too large ends the connection", text + `R: "BDAT 99999999999999999999 LAST\r\nxxx"` + "\nS: 552 5.3.4\nS: EOF", nil},
		{"before MAIL", begin + `R: "BDAT 12 LAST\r\nMAIL FROM:<xNOOP\r\n"` + "\nS: 503\nS: 250\n" + bye, nil},
		{"without recipients", begin + "C: MAIL FROM:<a@b>\nS: 250\n" + `R: "BDAT 12 LAST\r\nMAIL FROM:<xNOOP\r\n"` + "\nS: 554\nS: 250\n" + bye, []string{"reset"}},
		{"malformed", text + "C: BDAT x LAST\nS: 501\nS: EOF", []string{"reset"}},
		{"no LAST", text + "C: BDAT 5 FIRST\nS: 501\nS: EOF", []string{"reset"}},
		{"binary", binary + `R: "BDAT 17 LAST\r\nA: b\r\n\r\n\x00\n\r\r\x00\xffxyz"` + "\nS: 250\n" + bye, []string{`data "A: b\r\n\r\n\x00\n\r\r\x00\xffxyz"`}},
		{"binary has a header of text", binary + `R: "BDAT 8 LAST\r\nA: b\n\r\n\x00"` + "\nS: 550 5.5.2\n" + bye, nil},
		{"binary does not come by DATA", binary + "C: DATA\nS: 503\n" + bye, []string{"reset"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &recorder{offer: Offer{Chunking: true}}
			conn, done := serve(t, t.Context(), Options{MaxSize: 100}, h)
			chat(t, conn, tt.script)
			conn.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
			var got []string
			for i, line := range h.calls() {
				if i > 2 || !strings.HasPrefix(line, "hello") && !strings.HasPrefix(line, "mail") && !strings.HasPrefix(line, "rcpt") {
					got = append(got, line)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTruncatedChunk is row S5 of hardening.md: what ends within a chunk, or
// between two, was never said.
func TestTruncatedChunk(t *testing.T) {
	for name, sent := range map[string]string{
		"within":  "BDAT 1000 LAST\r\nA: b\r\n\r\nhello\r\n",
		"between": "BDAT 6\r\nA: b\r\n",
		"a line":  "BDAT 6\r\nA: b\r\nBDAT 0 LA",
	} {
		t.Run(name, func(t *testing.T) {
			h := &recorder{offer: Offer{Chunking: true}}
			conn, done := serve(t, t.Context(), Options{}, h)
			if _, err := io.WriteString(conn, "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"+sent); err != nil {
				t.Fatal(err)
			}
			_ = conn.(*net.TCPConn).CloseWrite()
			if err := <-done; err == nil {
				t.Error("the session ended as if all were well")
			}
			for _, line := range h.calls() {
				if strings.HasPrefix(line, "data") {
					t.Errorf("taken: %s", line)
				}
			}
		})
	}
}

func TestETRN(t *testing.T) {
	h := &starter{recorder: recorder{offer: Offer{ETRN: true}}}
	conn, _ := serve(t, t.Context(), Options{}, h)
	chat(t, conn, `
		S: 220
		C: EHLO x
		S: 250-mx.example
		S: 250-PIPELINING
		S: 250-8BITMIME
		S: 250-SMTPUTF8
		S: 250-ENHANCEDSTATUSCODES
		S: 250-SIZE
		S: 250 ETRN
		C: ETRN Kept.Test
		S: 253 2.0.0 3 recipients wait for kept.test
		C: ETRN @kept.test
		S: 251 2.0.0
		C: ETRN other.test
		S: 550 5.7.1
		C: ETRN #queue
		S: 501
		C: ETRN
		S: 501
		C: MAIL FROM:<a@b>
		S: 250
		C: ETRN kept.test
		S: 503
		C: QUIT
		S: 221`)
	conn, _ = serve(t, t.Context(), Options{}, &recorder{})
	chat(t, conn, "S: 220\nC: EHLO x\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250 SIZE\nC: ETRN kept.test\nS: 502")
}

type starter struct{ recorder }

func (*starter) Start(_ context.Context, domain string, wide bool) (int, error) {
	switch {
	case domain != "kept.test":
		return 0, status(550, 7, 1, "not here")
	case wide:
		return 0, nil
	}
	return 3, nil
}

// FuzzChunks: whatever comes, a message is only ever taken whole.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("BDAT 6\r\nA: b\r\nBDAT 3 LAST\r\n\r\nx"), false)
	f.Add([]byte("BDAT 4\r\nRSETRSET\r\nBDAT 1 LAST\r\nx"), true)
	f.Fuzz(func(t *testing.T, b []byte, binary bool) {
		here, there := net.Pipe()
		h := &recorder{offer: Offer{Chunking: true}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer there.Close()
			_ = Serve(context.Background(), wire.NewConn(there, ReadSize, nil), Options{Hostname: "x", MaxSize: 1000, Log: slog.New(slog.DiscardHandler),
				Limits: Limits{HardErrors: 20}}, h)
		}()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		body := "7BIT"
		if binary {
			body = "BINARYMIME"
		}
		_, _ = io.WriteString(here, "EHLO x\r\nMAIL FROM:<a@b> BODY="+body+"\r\nRCPT TO:<c@d>\r\n")
		_, _ = here.Write(b)
		here.Close()
		<-done
		for _, line := range h.calls() {
			if strings.HasPrefix(line, "data") && !strings.Contains(strings.ToUpper(string(b)), "LAST") && !strings.Contains(strings.ToUpper(string(b)), "DATA") {
				t.Errorf("taken without its end: %s", line)
			}
		}
	})
}
