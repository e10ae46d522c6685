package sqlstore

import (
	"context"
	"fmt"
	"math"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// removedRow is a row of removed with what it is to be found by.
type removedRow struct {
	id int64
	store.RemovedMessage
	flags          uint8
	keywords       string
	internal, size int64
	zone           int
	body           int64
	prefix         []byte
}

// choose returns the bounds of q in seconds, and its mailbox as it is spelled.
func choose(q store.Selection) (since, until int64, name string, err error) {
	since, until = 1, math.MaxInt64 // 0 is what nobody may have again
	if !q.Since.IsZero() {
		since = q.Since.Unix()
	}
	if !q.Until.IsZero() {
		until = q.Until.Unix()
	}
	if q.Mailbox != "" {
		if name, err = normalName(q.Mailbox); err != nil {
			return 0, 0, "", fmt.Errorf("%w: %q", err, q.Mailbox)
		}
	}
	return since, until, name, nil
}

// removed reads up to n rows that q chooses, behind the row id. Accounts that
// moved away count only if they are named.
func removed(tx *sqlite.Tx, q store.Selection, id int64, n int) (rows []removedRow, err error) {
	since, until, name, err := choose(q)
	if err != nil {
		return nil, err
	}
	err = tx.Query(`SELECT removed.id, at, account.name, removed.name, uid, flags, keywords, internal, zone, removed.size, body, prefix, messageid
		FROM removed JOIN account ON account.id=account JOIN body ON body.id=body
		WHERE removed.id>?1 AND at BETWEEN ?2 AND ?3 AND (account.name=?4 OR ?4='' AND account.hold='') AND (?5='' OR removed.name=?5) AND (?6='' OR messageid=?6)
		ORDER BY removed.id LIMIT ?7`, []any{id, since, until, q.Account, name, q.MessageID, n}, func(scan func(...any) error) error {
		var r removedRow
		var at int64
		err := scan(&r.id, &at, &r.Account, &r.Mailbox, &r.UID, &r.flags, &r.keywords, &r.internal, &r.zone, &r.size, &r.body, &r.prefix, &r.MessageID)
		r.At, r.Size = time.Unix(at, 0), r.size
		rows = append(rows, r)
		return err
	})
	return rows, err
}

// Removed implements store.Keeper.
func (s *Store) Removed(ctx context.Context, q store.Selection, each func(store.RemovedMessage)) error {
	last := int64(0)
	for {
		var rows []removedRow
		if err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
			rows, err = removed(tx, q, last, tidyBatch)
			return err
		}); err != nil || len(rows) == 0 {
			return failure(err)
		}
		for _, r := range rows {
			each(r.RemovedMessage)
			last = r.id
		}
	}
}

// Undelete implements store.Keeper.
func (s *Store) Undelete(ctx context.Context, q store.Selection) (n int, err error) {
	for {
		var rows []removedRow
		if err := s.write(ctx, func(g *group) (err error) {
			if rows, err = removed(g.Tx, q, 0, tidyBatch); err != nil {
				return err
			}
			for i := range rows {
				if err := g.undelete(&rows[i]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil || len(rows) == 0 {
			return n, err
		}
		n += len(rows)
	}
}

// undelete brings one message back. \Deleted would have it go with the next
// EXPUNGE.
func (g *group) undelete(r *removedRow) error {
	c, err := g.target(store.Target{Account: r.Account, Mailbox: r.Mailbox})
	if err != nil {
		return err
	}
	flags := flagsOf(r.flags&^uint8(store.Deleted), r.keywords)
	at := time.Unix(r.internal, 0).In(time.FixedZone("", r.zone*60))
	if _, err := g.add(c, message{flags: flags, internal: at, size: r.size, body: r.body, prefix: r.prefix}); err != nil {
		return err
	}
	_, _, err = g.Exec("DELETE FROM removed WHERE id=?", r.id)
	return err
}

// Purge implements store.Keeper.
func (s *Store) Purge(ctx context.Context, until time.Time) (int, error) {
	n, err := s.purge(ctx, until)
	return n, failure(err)
}
