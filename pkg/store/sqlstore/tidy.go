package sqlstore

import (
	"context"
	"errors"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

const (
	// tidyEvery is how often the store looks after itself.
	tidyEvery = time.Minute
	// forgetAfter is how long a trace is remembered: longer than any queue tries.
	forgetAfter = 14 * 24 * time.Hour
	// tidyBatch is how many rows go in one commit, so that deliveries come between.
	tidyBatch = 256
	// graceOfExpunged is how long an expunge stays in the log however long that
	// is: longer than a session sleeps.
	graceOfExpunged = time.Hour
)

// tidyLoop runs until the store is closed.
func (s *Store) tidyLoop(ctx context.Context) {
	log := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.o.Log.Warn("store not tidied", "what", what, "err", err)
		}
	}
	log("orphaned body files", s.sweep(ctx))
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	tidy := func() {
		_, err := s.purge(ctx, s.o.Now().Add(-s.o.Keep))
		log("removed messages", err)
		log("accounts that moved away", s.dropMoved(ctx))
		log("traces", s.forgetTraces(ctx, s.o.Now().Add(-forgetAfter)))
		log("expunge log", s.pruneExpunged(ctx))
		if now := s.o.Now(); now.Sub(s.listed) >= listEvery {
			s.listed = now
			log("listings", s.saveListings(ctx, false))
		}
	}
	for tidy(); ; {
		select {
		case <-ticker.C:
			tidy()
		case c := <-s.warnings:
			log("quota warning", s.warn(ctx, c))
		case <-ctx.Done():
			return
		}
	}
}

// warn tells of a crossing.
func (s *Store) warn(ctx context.Context, c crossing) error {
	w := store.QuotaWarning{Percent: c.percent, Quota: c.quota}
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		if w.Usage, err = usage(tx, c.account); err == nil {
			_, err = tx.Get("SELECT name FROM account WHERE id=?", []any{c.account}, &w.Account)
		}
		return err
	}); err != nil {
		return err
	}
	s.o.Warn(ctx, w)
	return nil
}

// sweep removes body files that nothing names: of bodies that a crash kept from
// being committed.
func (s *Store) sweep(ctx context.Context) error {
	var orphans []stored
	for d, err := range s.bodies.All() {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		known, err := s.named(ctx, d)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if orphans = append(orphans, stored{digest: d}); len(orphans) == tidyBatch {
			s.removeBodies(ctx, orphans)
			orphans = orphans[:0]
		}
	}
	s.removeBodies(ctx, orphans)
	return s.sweepPacks(ctx)
}

// errBackup: nothing is swept while a backup runs, which may name what is not
// named any more.
var errBackup = errors.New("a backup runs")

// sweepPacks frees the room of bodies in packs that nothing names, and removes
// packs without bodies.
func (s *Store) sweepPacks(ctx context.Context) error {
	err := s.packs.Sweep(func(pack int64) (named []blob.Extent, err error) {
		s.naming.RLock()
		defer s.naming.RUnlock()
		if s.backups > 0 {
			return nil, errBackup
		}
		err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
			named = named[:0]
			return tx.Query("SELECT place, size FROM body WHERE pack=? ORDER BY place", []any{pack}, func(scan func(...any) error) error {
				var e blob.Extent
				err := scan(&e.Offset, &e.Size)
				named = append(named, e)
				return err
			})
		})
		return named, err
	})
	if errors.Is(err, errBackup) {
		return nil // at the next start
	}
	return err
}

// purge frees what was removed before a time, and what is not to be had again.
func (s *Store) purge(ctx context.Context, until time.Time) (n int, err error) {
	for {
		var ids, bodies []int64
		var outside []stored
		err := s.db.Write(ctx, func(tx *sqlite.Tx) (err error) {
			ids, bodies = ids[:0], bodies[:0]
			if err := tx.Query("SELECT id, body FROM removed WHERE at<? LIMIT ?", []any{until.Unix(), tidyBatch}, func(scan func(...any) error) error {
				var id, body int64
				err := scan(&id, &body)
				ids, bodies = append(ids, id), append(bodies, body)
				return err
			}); err != nil {
				return err
			}
			for _, id := range ids {
				if _, _, err := tx.Exec("DELETE FROM removed WHERE id=?", id); err != nil {
					return err
				}
			}
			outside, err = dropBodies(tx, bodies)
			return err
		})
		if err != nil || len(ids) == 0 {
			return n, err
		}
		n += len(ids)
		s.removeBodies(ctx, outside)
	}
}

func (s *Store) forgetTraces(ctx context.Context, until time.Time) error {
	for {
		var n int64
		err := s.db.Write(ctx, func(tx *sqlite.Tx) (err error) {
			_, n, err = tx.Exec("DELETE FROM delivered WHERE (trace, mailbox) IN (SELECT trace, mailbox FROM delivered WHERE at<? LIMIT ?)", until.Unix(), tidyBatch)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// pruned is what the last pruning found: where each long log ended then.
type pruned struct {
	at  time.Time
	end map[int64]store.ModSeq
}

// pruneExpunged cuts logs of expunges that are longer than the bound, once an
// hour and only what was there an hour before: every session has heard of it.
func (s *Store) pruneExpunged(ctx context.Context) error {
	now := s.o.Now()
	if now.Sub(s.pruned.at) < graceOfExpunged {
		return nil
	}
	before := s.pruned.end
	s.pruned = pruned{at: now, end: map[int64]store.ModSeq{}}
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT mailbox, max(modseq) FROM expunged GROUP BY mailbox HAVING count(*)>?", []any{s.o.ExpungeLog},
			func(scan func(...any) error) error {
				var id int64
				var end store.ModSeq
				err := scan(&id, &end)
				s.pruned.end[id] = end
				return err
			})
	}); err != nil {
		return err
	}
	for id := range s.pruned.end {
		if end := before[id]; end > 0 {
			if err := s.write(ctx, func(g *group) error { return g.cutLog(id, end) }); err != nil && !errors.Is(err, store.ErrHeld) {
				return err
			}
		}
	}
	return nil
}

// cutLog drops all but the newest expunges of a mailbox, and nothing behind end.
func (g *group) cutLog(id int64, end store.ModSeq) error {
	c, err := g.mailbox(id)
	if err != nil {
		return err
	}
	var last store.ModSeq
	found, err := g.Get("SELECT modseq FROM expunged WHERE mailbox=? ORDER BY modseq DESC LIMIT 1 OFFSET ?", []any{id, g.s.o.ExpungeLog}, &last)
	if err != nil || !found {
		return err
	}
	last = min(last, end)
	c.row.forgotten = max(c.row.forgotten, last)
	_, _, err = g.Exec("DELETE FROM expunged WHERE mailbox=? AND modseq<=?", id, int64(last))
	return err
}
