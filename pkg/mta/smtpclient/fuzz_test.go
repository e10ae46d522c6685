package smtpclient_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/smtpclient"
)

// FuzzHost lets a host say anything: the client must come to an end, with one
// error or success for each recipient.
func FuzzHost(f *testing.F) {
	for _, s := range []string{
		"220 hi\r\n250-x\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n250 ok\r\n221 bye\r\n",
		"220 hi\r\n250-x\r\n250-SIZE 5\r\n250 SMTPUTF8\r\n", "220 hi\r\n500 x\r\n250 x\r\n250 ok\r\n451 4.7.1 later\r\n250 ok\r\n354 go\r\n554 5.7.1 spam\r\n",
		"220 hi\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n\x16\x03\x01", "220-\n220 x\n", "421 no\r\n", "220", "999 x\r\n", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, replies []byte) {
		w := newWorld(t)
		w.domain("far.test", "mx.far.test.")
		w.address("mx.far.test", "198.51.100.1")
		o := w.options()
		o.Dial = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go io.Copy(io.Discard, server)
			go func() {
				server.Write(replies)
				server.Close()
			}()
			return client, nil
		}
		second := time.Second
		o.Timeouts = smtpclient.Timeouts{Connect: second, Command: second, Data: second, Block: second, Final: second}
		errs := once(o, t.Context(), envelope(t, "s@us.example", "a@far.test", "b@far.test"), mail.Bytes(letter))
		if len(errs) != 2 {
			t.Fatalf("%d outcomes for 2 recipients", len(errs))
		}
		for _, err := range errs {
			if err != nil && mail.StatusOf(err).Code < 400 {
				t.Fatalf("no failure: %v", err)
			}
		}
	})
}
