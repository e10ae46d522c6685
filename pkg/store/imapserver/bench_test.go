package imapserver_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// big is the number of messages of the benchmarks' mailbox.
const big = 10000

// benchPeer has a mailbox of big messages of about 4 kB, and a client that has
// selected it.
func benchPeer(b *testing.B) *chat {
	b.Helper()
	p := newPeer(b, nil)
	box, err := p.account().Open(context.Background(), "INBOX")
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Repeat("This is a line of a message that somebody wrote to somebody.\r\n", 60)
	for i := range big {
		message := fmt.Appendf(simpleMail(i), "%s", body)
		if _, err := box.Append(context.Background(), mail.Bytes(message), store.Flags{System: store.Seen}, time.Unix(int64(i), 0), store.NoQuota()); err != nil {
			b.Fatal(err)
		}
	}
	c := p.chat(context.Background())
	c.r = bufio.NewReaderSize(c.conn, 64<<10)
	c.ok("SELECT INBOX")
	return c
}

// drop sends a command and throws the answer away.
func (c *chat) drop(command string) {
	c.send("t " + command + "\r\n")
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.tb.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("t OK")) {
			return
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	c := benchPeer(b)
	for _, items := range []string{
		"(UID FLAGS)", "(UID FLAGS ENVELOPE)", "(FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE)",
		"(UID FLAGS BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE)])", "(UID BODYSTRUCTURE)", "(UID BODY.PEEK[])",
	} {
		b.Run(items, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.drop("FETCH 1:* " + items)
			}
			b.ReportMetric(float64(b.N)*big/b.Elapsed().Seconds(), "messages/s")
		})
	}
	b.Run("STORE", func(b *testing.B) {
		for b.Loop() {
			c.drop("STORE 1:* +FLAGS.SILENT (\\Flagged)")
			c.drop("STORE 1:* -FLAGS.SILENT (\\Flagged)")
		}
		b.ReportMetric(float64(2*b.N)*big/b.Elapsed().Seconds(), "messages/s")
	})
	for _, keys := range []string{"UNSEEN", "SUBJECT 77", "BODY 77"} {
		b.Run("SEARCH_"+keys, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.drop("UID SEARCH RETURN (COUNT) " + keys)
			}
			b.ReportMetric(float64(b.N)*big/b.Elapsed().Seconds(), "messages/s")
		})
	}
	b.Run("SELECT", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.drop("EXAMINE INBOX")
		}
	})
	b.Run("NOOP", func(b *testing.B) {
		b.ReportAllocs()
		c.drop("SELECT INBOX")
		for b.Loop() {
			c.drop("NOOP")
		}
	})
}

// BenchmarkWake is from the acknowledgement of a message to the EXISTS that a
// session in IDLE hears.
func BenchmarkWake(b *testing.B) {
	p := newPeer(b, nil)
	c := p.chat(context.Background())
	c.ok("SELECT INBOX")
	c.send("i IDLE\r\n")
	c.line()
	var waits []time.Duration
	b.ResetTimer()
	for i := range b.N {
		p.put("INBOX", simpleMail(i))
		begun := time.Now()
		for !strings.HasSuffix(c.line(), "EXISTS") {
		}
		waits = append(waits, time.Since(begun))
	}
	b.StopTimer()
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "us-p50")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "us-p99")
}

// BenchmarkIdleMemory is what a session in IDLE costs, of heap and stack, once
// the garbage of its beginning is collected.
func BenchmarkIdleMemory(b *testing.B) {
	p := newPeer(b, nil)
	used := func() uint64 {
		var m runtime.MemStats
		for range 4 { // each makes stacks half as large, where it can
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	p.chat(context.Background()).ok("SELECT INBOX")
	before := used()
	for range b.N {
		c := p.chat(context.Background())
		c.ok("SELECT INBOX")
		c.send("i IDLE\r\n")
		c.line()
		c.r = nil // the client's own
	}
	b.ReportMetric(float64(used()-before)/float64(b.N), "B/session")
}
