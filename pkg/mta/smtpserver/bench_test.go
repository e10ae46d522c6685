package smtpserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// through is an Intake that delivers to a store while the client waits.
type through struct{ store mail.Deliverer }

type delivery struct {
	through
	env mail.Envelope
}

func (t through) Begin(_ context.Context, _ *mta.Session, m mta.Sender) (mta.Transaction, error) {
	return &delivery{t, mail.Envelope{From: m.From, Trace: mail.NewTraceID()}}, nil
}
func (d *delivery) Trace() mail.TraceID { return d.env.Trace }
func (d *delivery) Recipient(_ context.Context, r mail.Recipient) error {
	d.env.To = append(d.env.To, r)
	return nil
}
func (d *delivery) Data(ctx context.Context, body mail.Body) error {
	for _, err := range d.store.Deliver(ctx, d.env, body) {
		if err != nil {
			return err
		}
	}
	return nil
}

// everybody has an account.
type everybody struct{ directory.Directory }

func (everybody) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	return directory.Recipient{User: &directory.User{UID: a.Local, Domain: a.Domain, Status: directory.Active,
		Quota: directory.QuotaUnlimited, MessageQuota: directory.QuotaUnlimited}}, nil
}

// BenchmarkDelivery is messages of 4 KiB, each durable in one of 50 accounts
// before its 250.
func BenchmarkDelivery(b *testing.B) {
	for _, conns := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("connections=%d", conns), func(b *testing.B) {
			engine, err := sqlstore.Open(b.Context(), sqlstore.Options{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			addr := start(b, Options{Intake: through{store.NewDeliverer(engine, everybody{}, store.NoQuota())}})
			text := "From: <a@x.test>\r\nTo: <b@us.test>\r\nSubject: benchmark\r\nMessage-ID: <%d@x.test>\r\n\r\n" + strings.Repeat(strings.Repeat("x", 74)+"\r\n", 52) + ".\r\n"
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range conns {
				wg.Go(func() { deliverUntil(b, addr, text, &next) })
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

func deliverUntil(b *testing.B, addr, text string, next *atomic.Int64) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(text string, replies int) {
		_, _ = io.WriteString(conn, text)
		for range replies {
			if got, err := readReply(r); err != nil || got[0] > '3' {
				b.Errorf("reply %q, %v", got, err)
			}
		}
	}
	say("EHLO bench.test\r\n", 2)
	for n := next.Add(1); n <= int64(b.N) && !b.Failed(); n = next.Add(1) {
		say(fmt.Sprintf("MAIL FROM:<a@x.test>\r\nRCPT TO:<user%d@us.test>\r\nDATA\r\n", n%50), 3)
		say(fmt.Sprintf(text, n), 1)
	}
}

// BenchmarkData is the speed of DATA alone: 1 MiB messages that are dropped.
func BenchmarkData(b *testing.B) {
	addr := start(b, Options{Intake: dropping{}})
	text := strings.Repeat(strings.Repeat("x", 74)+"\r\n", 1<<20/76) + ".\r\n"
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	chat(b, conn, "S: 220\nC: EHLO x\nS: 250")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		chat(b, conn, "C: MAIL FROM:<>\nS: 250\nC: RCPT TO:<a@us.test>\nS: 250\nC: DATA\nS: 354")
		_, _ = io.WriteString(conn, text)
		chat(b, conn, "S: 250")
	}
}

type dropping struct{}

func (dropping) Begin(context.Context, *mta.Session, mta.Sender) (mta.Transaction, error) {
	return dropping{}, nil
}
func (dropping) Trace() mail.TraceID                             { return "x" }
func (dropping) Recipient(context.Context, mail.Recipient) error { return nil }
func (dropping) Data(context.Context, mail.Body) error           { return nil }
