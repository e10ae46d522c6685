package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// Times of the scheduler itself.
const (
	// longestNap bounds how late it notices that the clock was set.
	longestNap = time.Minute
	// clockJump is by how much the clock must leap for the schedule to be read
	// again.
	clockJump = time.Minute
	// afterFault is how long it waits after a fault of the database, and
	// againAfter before it writes an outcome again.
	afterFault = 10 * time.Second
	againAfter = time.Second
	// startHerd is over how long the destinations that are overdue at the
	// start are spread.
	startHerd = 4 * time.Second
)

// flightKey is one attempt: the recipients of an entry at one destination.
type flightKey struct {
	entry       int64
	destination string
}

// Serve makes the attempts that are due until ctx ends, lets those in flight
// end within the grace period, and returns nil. It is called once.
func (q *Queue) Serve(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var attempts sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	wall, steady := q.now(), time.Now()
	for ctx.Err() == nil {
		now := q.now()
		if jump := now.Round(0).Sub(wall.Round(0)) - time.Since(steady); jump.Abs() > clockJump {
			q.o.Log.Warn("the clock was set, reading the schedule again", "by", jump)
			if err := q.reload(work); err != nil {
				q.o.Log.Error("reading the schedule", "err", err)
			}
		}
		wall, steady = now, time.Now()
		timer.Reset(q.launch(work, &attempts))
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
	}
	end := time.AfterFunc(q.o.Grace, stop)
	defer end.Stop()
	attempts.Wait()
	return nil
}

// launch starts every attempt that may start now, and returns how long there
// will be none.
func (q *Queue) launch(ctx context.Context, attempts *sync.WaitGroup) time.Duration {
	for {
		now := q.now()
		q.mu.Lock()
		if q.stalled > 0 {
			q.mu.Unlock()
			return longestNap
		}
		d, n, next := q.plan.take(now)
		q.mu.Unlock()
		if d == nil {
			if next.IsZero() {
				return longestNap
			}
			return min(next.Sub(now), longestNap)
		}
		keys, due, err := q.candidates(ctx, d.name, n, now)
		if err != nil {
			q.o.Log.Error("reading what is due", "destination", d.name, "err", err)
			due = now.Add(afterFault)
		}
		q.mu.Lock()
		for range n - len(keys) {
			q.plan.finish(d, false)
		}
		if !due.IsZero() {
			q.plan.expect(d.name, due)
		}
		q.mu.Unlock()
		for _, k := range keys {
			attempts.Go(func() { q.attempt(ctx, d, k) })
		}
	}
}

var errEnough = errors.New("enough rows read")

// candidates finds up to n entries with recipients due at the destination,
// takes them in hand, and says when the next one is due; zero: none is left.
func (q *Queue) candidates(ctx context.Context, name string, n int, now time.Time) (keys []flightKey, due time.Time, err error) {
	err = q.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT entry, next FROM recipients WHERE state=0 AND destination=? ORDER BY next", []any{name},
			func(scan func(...any) error) error {
				k := flightKey{destination: name}
				var ms int64
				if err := scan(&k.entry, &ms); err != nil {
					return err
				}
				if at := time.UnixMilli(ms); at.After(now) {
					due = at
					return errEnough
				}
				if !q.mayTake(k) {
					return nil
				}
				if len(keys) == n {
					due = now
					return errEnough
				}
				q.take(k)
				keys = append(keys, k)
				return nil
			})
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err != nil {
		for _, k := range keys {
			q.drop(k)
		}
		keys = nil
	}
	return keys, due, err
}

// mayTake reports whether nobody has that attempt, or the whole entry, in hand.
// Whoever has is told that the destination waits for them.
func (q *Queue) mayTake(k flightKey) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, in := range []flightKey{k, {entry: k.entry, destination: wholeEntry}} {
		if waiting, ok := q.flight[in]; ok {
			if !slices.Contains(waiting, k.destination) {
				q.flight[in] = append(waiting, k.destination)
			}
			return false
		}
	}
	return true
}

func (q *Queue) take(k flightKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.flight[k] = nil
}

// drop gives an attempt out of hand, and has the destinations that waited for
// it looked at: recipients of theirs became due meanwhile.
func (q *Queue) drop(k flightKey) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range q.flight[k] {
		q.plan.expect(name, q.now())
	}
	delete(q.flight, k)
	q.nudge()
}

// expect makes the scheduler look at the destinations at that time.
func (q *Queue) expect(at time.Time, names ...string) {
	q.mu.Lock()
	for _, n := range names {
		q.plan.expect(n, at)
	}
	q.mu.Unlock()
	q.nudge()
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// reload reads from the database when each destination is due, after a start or
// a jump of the clock. A time that lies further ahead than any wait we give was
// written by a clock that was wrong: such recipients are due now.
func (q *Queue) reload(ctx context.Context) error {
	now := q.now()
	longest := q.o.Backoff[len(q.o.Backoff)-1]
	err := q.db.Write(ctx, func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec("UPDATE recipients SET next=? WHERE state=0 AND next>?", now.UnixMilli(), now.Add(2*longest).UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("setting times right: %w", err)
	}
	err = q.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT destination, min(next) FROM recipients WHERE state=0 GROUP BY destination", nil,
			func(scan func(...any) error) error {
				var name string
				var ms int64
				if err := scan(&name, &ms); err != nil {
					return err
				}
				at := time.UnixMilli(ms)
				if !at.After(now) {
					at = now.Add(rand.N(q.herd))
				}
				q.expect(at, name)
				return nil
			})
	})
	if err != nil {
		return fmt.Errorf("reading the schedule: %w", err)
	}
	return nil
}

// attempt delivers one entry to its recipients at one destination, and writes
// down what came of it.
func (q *Queue) attempt(ctx context.Context, d *destination, k flightKey) {
	slow, ended := false, false
	late := time.AfterFunc(slowAfter, func() {
		q.mu.Lock()
		slow = !ended && q.plan.overdue()
		q.mu.Unlock()
		q.nudge()
	})
	defer func() {
		late.Stop()
		q.drop(k) // before finish, which forgets a destination that nobody waits for
		q.mu.Lock()
		ended = true
		q.plan.finish(d, slow)
		q.mu.Unlock()
		q.nudge()
	}()
	start := q.now()
	e, rows, body, err := q.load(ctx, k, start)
	if err != nil {
		q.o.Log.Error("reading a queued message", "queue_id", k.entry, "err", err)
		q.expect(start.Add(afterFault), k.destination)
		return
	}
	if len(rows) == 0 {
		return // deleted or held meanwhile
	}
	env := e.env
	for _, r := range rows {
		env.To = append(env.To, r.Recipient)
	}
	errs := q.deliver(ctx, env, body)
	if ctx.Err() != nil {
		// We were stopped in the middle: nobody is to blame, and nothing that
		// failed counts.
		for i := range errs {
			if errs[i] != nil {
				errs[i] = errStopped
			}
		}
	}
	q.settle(ctx, d, e, rows, errs, body, start)
}

// errStopped is the outcome of an attempt that a shutdown cut off.
var errStopped = errors.New("attempt cut off by shutdown")

// deliver calls Next; its panic is a transient failure.
func (q *Queue) deliver(ctx context.Context, env mail.Envelope, body mail.Body) (errs []error) {
	defer func() {
		if p := recover(); p != nil {
			q.o.Log.Error("panic in a delivery", "trace", string(env.Trace), "panic", p, "stack", string(debug.Stack()))
			errs = mail.All(len(env.To), fmt.Errorf("panic: %v", p))
		}
	}()
	return q.o.Next.Deliver(ctx, env, body)
}

// load reads what an attempt needs.
func (q *Queue) load(ctx context.Context, k flightKey, now time.Time) (e entryRow, rows []recipientRow, body mail.Body, err error) {
	err = q.db.Read(ctx, func(tx *sqlite.Tx) error {
		var found bool
		if e, found, err = find(tx, k.entry); err != nil || !found {
			return err
		}
		// The plus signs keep SQLite from the index of the whole destination.
		err := tx.Query("SELECT "+recipientColumns+" FROM recipients WHERE entry=? AND +destination=? AND +state=0 AND +next<=? ORDER BY n",
			[]any{k.entry, k.destination, now.UnixMilli()}, func(scan func(...any) error) error {
				r, err := scanRecipient(scan)
				rows = append(rows, r)
				return err
			})
		if err != nil {
			return err
		}
		body, err = q.body(tx, e)
		return err
	})
	return e, rows, body, err
}
