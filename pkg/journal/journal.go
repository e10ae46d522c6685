// Package journal remembers for some weeks what became of each message: every
// line that a role logs about a trace is kept, in order, and found again by the
// trace, a Message-ID, an address or an id of the queue.
//
// It is fed by a slog.Handler, so that the journal and the log tell the same.
// Nothing waits for it: events are written in the background, some at a time. A
// crash loses those of the last second, and a flood what the buffer cannot
// hold; both only ever cost history, never mail.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// Options of Open.
type Options struct {
	// Path is the database's file.
	Path string
	// Keep is how long events are kept; 0: 30 days. MaxSize bounds the
	// database, in bytes, by dropping the oldest sooner; 0: 1 GiB.
	Keep    time.Duration
	MaxSize int64
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger

	// share is how many rows one commit of the pruning takes; 0: pruneShare.
	share int
}

// Journal is an open journal. Its methods may be called from many goroutines.
type Journal struct {
	o  Options
	db *sqlite.DB

	events  chan event
	flushes chan chan struct{}
	lost    atomic.Int64
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once
}

const (
	// buffered is how many events may wait to be written; more are lost.
	buffered = 8192
	// batch is how many events one commit takes at most.
	batch = 2000
	// delay is how long an event may wait for others.
	delay = time.Second
	// pruneEvery is how often what is too old is dropped.
	pruneEvery = time.Hour
)

// Open opens the journal. The caller closes it.
func Open(ctx context.Context, o Options) (*Journal, error) {
	o.Keep = cmp.Or(o.Keep, 30*24*time.Hour)
	o.MaxSize = cmp.Or(o.MaxSize, 1<<30)
	o.share = cmp.Or(o.share, pruneShare)
	if o.Now == nil {
		o.Now = time.Now
	}
	failed := func(err error) {
		o.Log.Error("journal failed, nothing more is kept of messages until the next start", "err", err)
	}
	db, err := sqlite.Open(ctx, o.Path, sqlite.Options{Migrations: migrations, OnFatal: failed, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("opening journal: %w", err)
	}
	j := &Journal{o: o, db: db, events: make(chan event, buffered), flushes: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{})}
	go j.run()
	return j, nil
}

// Close writes what waits, and frees the journal. What is logged later is lost.
func (j *Journal) Close() error {
	j.once.Do(func() { close(j.stop) })
	<-j.done
	if err := j.db.Close(); err != nil {
		return fmt.Errorf("closing journal: %w", err)
	}
	return nil
}

// event is one line about a message.
type event struct {
	trace mail.TraceID
	at    time.Time
	// line is a JSON object, and words are what the event is found by.
	line  []byte
	words []string
}

// add never blocks.
func (j *Journal) add(e event) {
	select {
	case j.events <- e:
	default:
		j.lost.Add(1)
	}
}

// flush waits until all that was added before is written.
func (j *Journal) flush(ctx context.Context) error {
	written := make(chan struct{})
	select {
	case j.flushes <- written:
	case <-j.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the one goroutine that writes.
func (j *Journal) run() {
	defer close(j.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var pending []event
	var pruned time.Time
	write := func() {
		if len(pending) > 0 {
			j.write(pending)
			pending = pending[:0]
		}
		if now := j.o.Now(); now.Sub(pruned) >= pruneEvery {
			pruned = now
			j.prune(now)
		}
	}
	drain := func() {
		for {
			select {
			case e := <-j.events:
				pending = append(pending, e)
			default:
				write()
				return
			}
		}
	}
	for {
		select {
		case <-j.stop:
			drain()
			return
		case written := <-j.flushes:
			drain()
			close(written)
		case <-timer.C:
			write()
		case e := <-j.events:
			if len(pending) == 0 {
				timer.Reset(delay)
			}
			if pending = append(pending, e); len(pending) >= batch {
				write()
			}
		}
	}
}

// write keeps events: one record for each message among them.
func (j *Journal) write(events []event) {
	if n := j.lost.Swap(0); n > 0 {
		j.o.Log.Warn("journal could not keep up", "lost", n)
	}
	var order []mail.TraceID
	records := make(map[mail.TraceID]*record)
	for _, e := range events {
		r := records[e.trace]
		if r == nil {
			r = &record{at: e.at, words: make(map[string]bool)}
			records[e.trace] = r
			order = append(order, e.trace)
		}
		r.lines = append(append(r.lines, e.line...), '\n')
		for _, w := range e.words {
			r.words[w] = true
		}
	}
	err := j.db.Write(context.Background(), func(tx *sqlite.Tx) error {
		lines := rows{tx: tx, insert: "INSERT INTO records (trace, at, lines)", width: 3}
		words := rows{tx: tx, insert: "INSERT OR IGNORE INTO words (day, word, trace, at)", width: 4}
		for _, trace := range order {
			r := records[trace]
			if err := lines.add(string(trace), r.at.UnixMilli(), string(r.lines)); err != nil {
				return err
			}
			for w := range r.words {
				if err := words.add(dayOf(r.at), w, string(trace), r.at.UnixMilli()); err != nil {
					return err
				}
			}
		}
		return errors.Join(lines.flush(), words.flush())
	})
	if err != nil && !errors.Is(err, sqlite.ErrFailed) {
		j.o.Log.Warn("journal not written", "lost", len(events), "err", err)
	}
}
