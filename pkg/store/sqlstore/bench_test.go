package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

// benchMessage is a message of about size bytes that no other is equal to.
func benchMessage(i, size int) mail.Bytes {
	head := string(storetest.Message(fmt.Sprintf("%d@bench.test", i), "bench"))
	line := strings.Repeat("x", 76) + "\r\n"
	return mail.Bytes(head + strings.Repeat(line, max(0, size-len(head))/len(line)))
}

// parallel runs do b.N times on n goroutines.
func parallel(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for i := range b.N {
		next <- i
	}
	close(next)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name          string
		size, writers int
	}{{"4KiB/1", 4 << 10, 1}, {"4KiB/10", 4 << 10, 10}, {"4KiB/50", 4 << 10, 50}, {"100KiB/10", 100 << 10, 10}} {
		b.Run(c.name, func(b *testing.B) {
			s := openStore(b, b.TempDir())
			from := mail.Address{Local: "sender", Domain: "example.test"}
			parallel(b, c.writers, func(i int) error {
				to := mail.Address{Local: fmt.Sprintf("u%d", i%50), Domain: "bench.test"}
				return s.Deliver(b.Context(), mail.NewTraceID(), benchMessage(i, c.size),
					[]store.Target{{Account: to.String(), ReturnPath: from, Recipient: to, Quota: store.NoQuota()}})[0]
			})
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 10} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			s := openStore(b, b.TempDir())
			boxes := make([]store.Mailbox, 50)
			for i := range boxes {
				boxes[i] = inbox(b, s, fmt.Sprintf("u%d@bench.test", i))
			}
			parallel(b, writers, func(i int) error {
				_, err := boxes[i%50].Append(b.Context(), benchMessage(i, 4<<10), store.Flags{System: store.Seen}, time.Time{}, store.NoQuota())
				return err
			})
		})
	}
}

func inbox(b *testing.B, s *Store, account string) store.Mailbox {
	b.Helper()
	a, err := s.Account(b.Context(), account)
	if err != nil {
		b.Fatal(err)
	}
	m, err := a.Open(b.Context(), "INBOX")
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// filled opens a store whose account a has n messages in INBOX, and those of
// nine other accounts between them.
func filled(b *testing.B, n, size int) (*Store, string) {
	b.Helper()
	dir := b.TempDir()
	s := openStore(b, dir)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 64 {
		wg.Go(func() {
			for i := range next {
				account := "a@bench.test"
				if i%2 == 1 {
					account = fmt.Sprintf("o%d@bench.test", i/2%9)
				}
				if err := s.Deliver(context.Background(), mail.NewTraceID(), benchMessage(i, size), []store.Target{{Account: account, Quota: store.NoQuota()}})[0]; err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range 2 * n {
		next <- i
	}
	close(next)
	wg.Wait()
	return s, dir
}

func BenchmarkFetch(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, _ := filled(b, n, 1<<10)
			m := inbox(b, s, "a@bench.test")
			for name, fields := range map[string]store.Fields{"flags": 0, "envelope": store.FieldMeta | store.FieldEnvelope} {
				b.Run(name, func(b *testing.B) {
					for range b.N {
						got := 0
						for _, err := range m.Messages(b.Context(), store.AllUIDs(), fields) {
							if err != nil {
								b.Fatal(err)
							}
							got++
						}
						if got != n {
							b.Fatalf("%d messages", got)
						}
					}
					b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
				})
			}
		})
	}
}

func BenchmarkBodies(b *testing.B) {
	const n, size = 10_000, 4 << 10
	s, _ := filled(b, n, size)
	m := inbox(b, s, "a@bench.test")
	for b.Loop() {
		got := int64(0)
		for msg, err := range m.Messages(b.Context(), store.AllUIDs(), store.FieldText) {
			if err != nil {
				b.Fatal(err)
			}
			got += int64(len(msg.Text))
		}
		if got < n*size*9/10 {
			b.Fatal(got)
		}
	}
	b.ReportMetric(n*size/1048576*float64(b.N)/b.Elapsed().Seconds(), "MiB/s")
}

// BenchmarkSelect reads what SELECT does, of 100,000 messages.
func BenchmarkSelect(b *testing.B) {
	const n = 100_000
	s, dir := filled(b, n, 512)
	whole := b
	read := func(b *testing.B, s *Store) {
		m := inbox(b, s, "a@bench.test")
		l, err := m.(store.Lister).List(b.Context())
		if err != nil || len(l.UIDs) != n {
			b.Fatal(len(l.UIDs), err)
		}
	}
	read(b, s)
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			read(b, s)
		}
	})
	b.Run("restarted", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			s = openStore(whole, dir)
			b.StartTimer()
			read(b, s)
		}
	})
	b.Run("crashed", func(b *testing.B) { // without a listing of its last state
		if err := s.db.Write(b.Context(), func(tx *sqlite.Tx) error { _, _, err := tx.Exec("DELETE FROM listing"); return err }); err != nil {
			b.Fatal(err)
		}
		for range b.N {
			b.StopTimer()
			box := inbox(b, s, "a@bench.test").(*mailbox)
			s.boxes.drop(s.boxes.get(box.id))
			b.StartTimer()
			read(b, s)
		}
	})
}

func BenchmarkStoreFlags(b *testing.B) {
	const n = 10_000
	s, _ := filled(b, n, 512)
	m := inbox(b, s, "a@bench.test")
	kinds := []store.FlagChangeKind{store.FlagsAdd, store.FlagsRemove}
	flagged := store.Flags{System: store.Flagged}
	b.Run("all", func(b *testing.B) {
		for i := range b.N {
			if r, err := m.StoreFlags(b.Context(), store.AllUIDs(), store.FlagChange{Kind: kinds[i%2], Flags: flagged}, 0); err != nil || len(r.Changed) != n {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("single", func(b *testing.B) {
		for i := range b.N {
			if _, err := m.StoreFlags(b.Context(), store.UIDsOf(store.UID(1+i%n)), store.FlagChange{Kind: kinds[i/n%2], Flags: store.Flags{System: store.Answered}}, 0); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// BenchmarkCopyMoveExpunge takes 1,000 messages through a COPY, a MOVE and an
// EXPUNGE of what was moved.
func BenchmarkCopyMoveExpunge(b *testing.B) {
	const n = 1000
	s, _ := filled(b, n, 4<<10)
	m := inbox(b, s, "a@bench.test").(*mailbox)
	open := func(name string) store.Mailbox {
		box, err := (&account{s: s, id: m.account}).Open(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		return box
	}
	archive, trash := open("Archive"), open("Trash")
	var spent [4]time.Duration
	for range b.N {
		start := time.Now()
		step := func(i int, err error, got int) {
			if err != nil || got != n {
				b.Fatal(i, got, err)
			}
			spent[i] += time.Since(start)
			start = time.Now()
		}
		r, err := m.Copy(b.Context(), store.AllUIDs(), "Archive", store.NoQuota())
		step(0, err, len(r.To))
		r, err = archive.Move(b.Context(), store.AllUIDs(), "Trash")
		step(1, err, len(r.To))
		f, err := trash.StoreFlags(b.Context(), store.AllUIDs(), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Deleted}}, 0)
		step(2, err, len(f.Changed))
		gone, err := trash.Expunge(b.Context(), store.AllUIDs())
		step(3, err, len(gone))
	}
	for i, name := range []string{"copied/s", "moved/s", "flagged/s", "expunged/s"} {
		b.ReportMetric(n*float64(b.N)/spent[i].Seconds(), name)
	}
}
