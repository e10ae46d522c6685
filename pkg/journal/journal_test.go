package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

func open(t testing.TB, o Options) *Journal {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "trace.db")
	}
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	j, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func names(t *testing.T, j *Journal, trace mail.TraceID) []string {
	t.Helper()
	events, err := j.Events(t.Context(), trace)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range events {
		list = append(list, e.Event+" to="+e.About["to"]+" err="+e.About["err"])
	}
	return list
}

func TestJournalFindsWhatWasLogged(t *testing.T) {
	j := open(t, Options{})
	// The log itself shows warnings alone: the journal keeps more than that.
	log := slog.New(j.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("role", "mta")
	one := log.With("trace", "one", "from", "Alice@Example.test")
	one.Info("accepted", "to", "bob@example.test carol@other.test", "message_id", "<M-1@example.test>")
	one.Debug("not kept")
	log.Info("queued", "trace", "one", "queue_id", 7)
	log.Info("about nothing", "to", "bob@example.test")
	log.Warn("refused", "trace", "two", "to", "bob@example.test", "err", errors.New("a \"quoted\" reason\nof two lines \x00"))

	if diff := cmp.Diff([]string{"accepted to=bob@example.test carol@other.test err=", "queued to= err="}, names(t, j, "one")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"refused to=bob@example.test err=a \"quoted\" reason\nof two lines \x00"}, names(t, j, "two")); diff != "" {
		t.Error(diff)
	}
	for what, want := range map[string][]mail.TraceID{
		"alice@example.test":   {"one"},
		"<bob@example.test>":   {"two", "one"},
		"CAROL@other.test":     {"one"},
		"<m-1@example.test>":   {"one"},
		"7":                    {"one"},
		"nobody@example.test":  nil,
		"bob@example.test err": nil,
		"":                     nil,
	} {
		got, err := j.Find(t.Context(), what, 10)
		if err != nil {
			t.Fatal(err)
		}
		if what == "<bob@example.test>" && len(got) == 2 && got[0] == "one" {
			got[0], got[1] = got[1], got[0] // of the same millisecond
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", what, diff)
		}
	}
}

func TestJournalOutlivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.db")
	j, err := Open(t.Context(), Options{Path: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	slog.New(j.Handler(slog.DiscardHandler)).Info("accepted", "trace", "one")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, open(t, Options{Path: path}), "one"); len(got) != 1 {
		t.Errorf("after a restart: %q", got)
	}
}

func TestJournalForgets(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	const share = 50
	j := open(t, Options{Keep: 30 * day, Now: clock, share: share})
	h := j.Handler(slog.DiscardHandler)
	log := func(age time.Duration, trace string) {
		r := slog.NewRecord(now.Add(-age), slog.LevelInfo, "accepted", 0)
		r.Add("trace", trace, "to", "bob@example.test")
		if err := h.Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 * share / 2 {
		log(40*day, fmt.Sprint("old", i))
	}
	log(29*day, "young")
	if err := j.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.prune(now)
	if got := append(names(t, j, "old0"), names(t, j, mail.TraceID(fmt.Sprint("old", share+1)))...); len(got) > 0 {
		t.Errorf("kept for more than 30 days: %q", got)
	}
	if got := names(t, j, "young"); len(got) != 1 {
		t.Errorf("after 29 days: %q", got)
	}
	if traces, err := j.Find(t.Context(), "bob@example.test", 100); err != nil || len(traces) != 1 {
		t.Errorf("found %v, %v", traces, err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	now := time.Now().Truncate(day).Add(12 * time.Hour)
	j := open(t, Options{MaxSize: 200 << 10, Now: func() time.Time { return now }})
	h := j.Handler(slog.DiscardHandler)
	for d := 5; d >= 0; d-- {
		for i := range 300 {
			r := slog.NewRecord(now.Add(-time.Duration(d)*day), slog.LevelInfo, "accepted", 0)
			r.Add("trace", fmt.Sprintf("%d-%d", d, i), "to", "bob@example.test", "text", string(make([]byte, 100)))
			if err := h.Handle(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	j.prune(now)
	if got := names(t, j, "5-0"); len(got) > 0 {
		t.Errorf("the oldest day is still there")
	}
	if got := names(t, j, "0-0"); len(got) != 1 {
		t.Errorf("today is gone")
	}
}

// TestJournalNeverBlocks floods it without a writer.
func TestJournalNeverBlocks(t *testing.T) {
	j := &Journal{o: Options{Now: time.Now}, events: make(chan event, 1)}
	log := slog.New(j.Handler(slog.DiscardHandler))
	for range 10 {
		log.Info("accepted", "trace", "one")
	}
	if n := j.lost.Load(); n != 9 {
		t.Errorf("%d lost", n)
	}
}

// BenchmarkJournal is what one message of four lines costs, the writing included.
func BenchmarkJournal(b *testing.B) {
	j := open(b, Options{})
	log := slog.New(j.Handler(slog.DiscardHandler)).With("role", "mta")
	n := 0
	for b.Loop() {
		n++
		l := log.With("trace", string(mail.NewTraceID()), "from", "alice@example.test")
		l.Info("domain decided", "domain", "example.test")
		l.Info("message stored", "to", "bob@example.test", "mailbox", "INBOX", "bytes", 4096)
		l.Info("message queued", "queue_id", n)
		l.Info("message accepted", "to", "bob@example.test", "message_id", fmt.Sprintf("<%d@example.test>", n))
		if n%1000 == 0 {
			if err := j.flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
