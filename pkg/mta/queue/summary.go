package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"mailsrv/pkg/sqlite"
)

// Counts is how many recipients wait.
type Counts struct {
	Pending, Held int64
}

// Counts counts the recipients that wait.
func (q *Queue) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		_, err := tx.Get("SELECT count(*) FILTER (WHERE state=0), count(*) FILTER (WHERE state=1) FROM recipients", nil, &c.Pending, &c.Held)
		return err
	})
	if err != nil {
		return Counts{}, fmt.Errorf("counting queue: %w", err)
	}
	return c, nil
}

// Flow is what the attempts since the start came to; the counts are recipients.
type Flow struct {
	Delivered, Deferred, Failed int64
	// Active is how many attempts run now.
	Active int
}

// flow counts; its zero value is ready.
type flow struct{ delivered, deferred, failed atomic.Int64 }

func (f *flow) add(o Outcome) {
	f.delivered.Add(int64(o.Delivered))
	f.deferred.Add(int64(o.Deferred))
	f.failed.Add(int64(o.Failed))
}

// Flow tells how the queue does.
func (q *Queue) Flow() Flow {
	q.mu.Lock()
	active := q.plan.active + q.plan.slow
	q.mu.Unlock()
	return Flow{q.flow.delivered.Load(), q.flow.deferred.Load(), q.flow.failed.Load(), active}
}

// Summary is what waits for one destination.
type Summary struct {
	Destination string
	Counts
	// Oldest is when the first of its messages arrived; Next is when the next
	// attempt is due, zero if all are held.
	Oldest, Next time.Time
	// Status is the reply to the last attempt, empty before the first.
	Status string
	// Active is how many attempts run now, Paused until when the destination is
	// left alone for its trouble; zero: it is not.
	Active int
	Paused time.Time
}

// Summaries tells what waits for each destination, the longest line first.
func (q *Queue) Summaries(ctx context.Context) ([]Summary, error) {
	var list []Summary
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query(`SELECT destination, count(*) FILTER (WHERE state=0), count(*) FILTER (WHERE state=1), min(e.arrived),
			coalesce(min(next) FILTER (WHERE state=0), 0),
			coalesce((SELECT l.status FROM recipients l WHERE l.destination=r.destination AND l.state=0 ORDER BY l.tried DESC LIMIT 1), '')
			FROM recipients r JOIN entries e ON e.id=r.entry WHERE state IN (0, 1) GROUP BY destination ORDER BY count(*) DESC, destination`,
			nil, func(scan func(...any) error) error {
				var s Summary
				var oldest, next int64
				if err := scan(&s.Destination, &s.Pending, &s.Held, &oldest, &next, &s.Status); err != nil {
					return err
				}
				s.Oldest = time.UnixMilli(oldest)
				if s.Pending > 0 {
					s.Next = time.UnixMilli(next)
				}
				list = append(list, s)
				return nil
			})
	})
	if err != nil {
		return nil, fmt.Errorf("summing up the queue: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for i := range list {
		if d := q.plan.byName[list[i].Destination]; d != nil {
			list[i].Active = d.active
			if d.pausedUntil.After(now) {
				list[i].Paused = d.pausedUntil
			}
		}
	}
	return list, nil
}
