// Package queue keeps messages that could not be delivered at once, and tries
// again until they are, or until their lifetime ends and their sender is told
// (RFC 5321 §4.5.4, RFC 3464).
//
// It is an engine: a SQLite table of recipients, each with a state of its own,
// and the messages beside it, small ones in the database and large ones in
// files. It knows neither DNS nor directory nor protocol: where a recipient is
// to be found is the business of the Deliverer behind it (mta.Router), which is
// asked anew at each attempt.
//
// An attempt and its outcome, bounces included, are one commit: a crash can
// repeat a delivery whose outcome was not yet written, and never lose one or
// bounce it twice. Stores take a repeated delivery once, by its trace.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// Options of Open.
type Options struct {
	// Dir is the folder of the queue; it is made if it is missing.
	Dir string
	// Next takes the messages at each attempt.
	Next mail.Deliverer
	// Destination names what a recipient is scheduled by: all recipients of
	// one destination share its pauses and its bound on concurrency. nil: the
	// domain.
	Destination func(mail.Recipient) string
	// Hostname is our name in bounces.
	Hostname string
	// Lifetime is how long a recipient is tried; 0: 5 days. BounceLifetime is
	// that of messages with a null reverse-path; 0: 1 day.
	Lifetime, BounceLifetime time.Duration
	// DelayWarning is after how long the sender hears of a delay; 0: 4 hours,
	// negative: never.
	DelayWarning time.Duration
	// Backoff holds the waits after the first, second, ... attempt, each
	// varied by a fifth; the last one repeats. nil: 5, 10, 20, 40 min, 1.3 h, 2 h.
	Backoff []time.Duration
	// MaxConcurrent bounds the attempts that run at once; 0: 50. Those that take
	// longer than a quarter of a second do not count, up to four times as many.
	// MaxPerDestination bounds those to one destination, which begins with 5 and
	// gets more as they get through; 0: 20.
	MaxConcurrent, MaxPerDestination int
	// Grace is how long attempts in flight may go on after Serve was told to
	// stop; 0: 20 s.
	Grace time.Duration
	// OnFatal is called once if the database can no longer be trusted: the
	// process must stop accepting and start again.
	OnFatal func(error)
	Log     *slog.Logger
	// Attempted, if not nil, is called after each attempt.
	Attempted func(Outcome)
}

// Outcome is what one attempt came to; the counts are recipients.
type Outcome struct {
	Destination                 string
	Delivered, Deferred, Failed int
	Took                        time.Duration
}

// inline is up to how many bytes a message is kept inside the database.
const inline = 64 << 10

// Queue is an open queue. Its methods may be called from many goroutines.
type Queue struct {
	o     Options
	db    *sqlite.DB
	files *files
	now   func() time.Time
	herd  time.Duration

	flow flow

	mu   sync.Mutex
	plan schedule
	// flight holds the entries that an attempt, or a command of the
	// administrator, has in hand, with the destinations that wait for their end.
	flight map[flightKey][]string
	// stalled counts the attempts whose outcome cannot be written.
	stalled int
	wake    chan struct{} // holds one token
}

var _ mail.Deliverer = (*Queue)(nil)

// Open opens the queue in o.Dir, and makes it if it is missing. The caller runs
// Serve, and calls Close after it returned.
func Open(ctx context.Context, o Options) (*Queue, error) {
	q, err := open(ctx, o.withDefaults(), time.Now)
	if err != nil {
		return nil, fmt.Errorf("opening queue %s: %w", o.Dir, err)
	}
	return q, nil
}

func (o Options) withDefaults() Options {
	o.Lifetime = cmp.Or(o.Lifetime, 5*24*time.Hour)
	o.BounceLifetime = cmp.Or(o.BounceLifetime, 24*time.Hour)
	o.DelayWarning = cmp.Or(o.DelayWarning, 4*time.Hour)
	o.MaxConcurrent = cmp.Or(o.MaxConcurrent, 50)
	o.MaxPerDestination = cmp.Or(o.MaxPerDestination, 20)
	o.Grace = cmp.Or(o.Grace, 20*time.Second)
	if len(o.Backoff) == 0 {
		m := time.Minute
		o.Backoff = []time.Duration{5 * m, 10 * m, 20 * m, 40 * m, 78 * m, 120 * m}
	}
	if o.Destination == nil {
		o.Destination = func(r mail.Recipient) string { return strings.ToLower(r.Address.Domain) }
	}
	return o
}

func open(ctx context.Context, o Options, now func() time.Time) (*Queue, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	db, err := sqlite.Open(ctx, filepath.Join(o.Dir, "queue.db"), sqlite.Options{Migrations: migrations, OnFatal: o.OnFatal, Log: o.Log})
	if err != nil {
		return nil, err
	}
	q := &Queue{o: o, db: db, now: now, herd: startHerd, flight: make(map[flightKey][]string), wake: make(chan struct{}, 1)}
	q.plan = newSchedule(o.MaxConcurrent, o.MaxPerDestination)
	folder, err := blob.OpenFolder(filepath.Join(o.Dir, "bodies"))
	if err == nil {
		q.files = newFiles(folder, db)
		err = q.files.sweep()
	}
	if err == nil {
		err = q.reload(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return q, nil
}

// Close frees the queue.
func (q *Queue) Close() error { return q.db.Close() }

// Deliver implements mail.Deliverer: nil for all recipients once the message is
// durable in the queue.
func (q *Queue) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	if err := q.enqueue(ctx, env, body); err != nil {
		if errors.Is(err, sqlite.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = &mail.Status{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "no space left, try again later", Err: err}
		}
		return mail.All(len(env.To), fmt.Errorf("queueing: %w", err))
	}
	return make([]error, len(env.To))
}

func (q *Queue) enqueue(ctx context.Context, env mail.Envelope, body mail.Body) error {
	now := q.now()
	kept, err := q.keep(ctx, body)
	if err != nil {
		return err
	}
	defer func() { q.release(kept, err) }()
	e := entryRow{env: env, arrived: now, size: body.Size(), digest: kept.digest}
	var id int64
	err = q.db.Write(ctx, func(tx *sqlite.Tx) error {
		id, err = e.insertWith(tx, q.o.Destination, kept)
		return err
	})
	if err != nil {
		return err
	}
	q.o.Log.Info("message queued", "trace", string(env.Trace), "queue_id", id, "from", env.From.String(), "recipients", len(env.To), "bytes", e.size)
	q.expect(now, destinationsOf(env.To, q.o.Destination)...)
	return nil
}

// kept is a message that is ready to be named by an entry: its text, or the
// digest of its file.
type kept struct {
	text, digest []byte
	release      func() error // nil: there is no file
}

// keep makes a message ready; the caller releases it once the entry that names
// it is committed, or given up.
func (q *Queue) keep(ctx context.Context, body mail.Body) (k kept, err error) {
	if body.Size() <= inline {
		if k.text, err = readAll(body); err != nil {
			return kept{}, fmt.Errorf("reading the message: %w", err)
		}
		return k, nil
	}
	if k.digest, k.release, err = q.files.put(ctx, body); err != nil {
		return kept{}, fmt.Errorf("storing the message: %w", err)
	}
	return k, nil
}

// release ends what keep began, after a commit that ended with err. If nobody
// knows whether that was made, the file stays: the entry that names it may be
// there at the next start, which removes it otherwise.
func (q *Queue) release(k kept, err error) {
	if k.release == nil {
		return
	}
	release := k.release
	if err != nil && !errors.Is(err, sqlite.ErrFull) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		release = q.files.release
	}
	if err := release(); err != nil {
		q.o.Log.Warn("message file left behind", "err", err)
	}
}

// readAll reads a body that is known to be small.
func readAll(body mail.Body) ([]byte, error) {
	rc, err := body.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	text := make([]byte, body.Size())
	_, err = io.ReadFull(rc, text)
	return text, err
}

func destinationsOf(to []mail.Recipient, of func(mail.Recipient) string) []string {
	seen := make(map[string]bool)
	var names []string
	for _, r := range to {
		if d := of(r); !seen[d] {
			seen[d] = true
			names = append(names, d)
		}
	}
	return names
}
