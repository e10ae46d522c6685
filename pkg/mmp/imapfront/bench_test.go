package imapfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"mailsrv/pkg/mmp"
)

// BenchmarkLogin connects, logs in and leaves, from eight clients at once; each
// makes a handshake of its own over TLS.
func BenchmarkLogin(b *testing.B) {
	for _, name := range []string{"plain", "TLS"} {
		b.Run(name, func(b *testing.B) {
			w := &world{}
			config := testTLS(b)
			wrap := bare
			if name == "TLS" {
				wrap = func(c net.Conn) net.Conn { return tls.Server(c, config) }
			}
			addr := start(b, options(mmp.FrontOptions{Authenticator: w, Router: w, Log: slog.New(slog.DiscardHandler)}), wrap)
			b.SetParallelism(4) // on two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := logIn(b.Context(), addr, name == "TLS"); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "logins/s")
		})
	}
}

func logIn(ctx context.Context, addr string, secure bool) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	r := bufio.NewReader(conn)
	for _, step := range []struct{ say, want string }{{"", "* OK"}, {"a LOGIN alice secret\r\n", "a OK"}, {"b LOGOUT\r\n", "b OK"}} {
		if _, err := conn.Write([]byte(step.say)); err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step.want) {
			return fmt.Errorf("%q answered with %q: %w", step.say, line, err)
		}
	}
	return nil
}
