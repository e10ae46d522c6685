package queue

import (
	"context"
	"fmt"
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

// Summary is what waits for one destination.
type Summary struct {
	Destination string
	Counts
	// Oldest is when the first of its messages arrived; Next is when the next
	// attempt is due, zero if all are held.
	Oldest, Next time.Time
	// Status is the reply to the last attempt, empty before the first.
	Status string
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
	return list, nil
}
