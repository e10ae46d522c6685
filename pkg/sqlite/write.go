package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// maxGroup is how many Writes share one commit at the most: it bounds how long
// the first of them waits for the others.
const maxGroup = 256

type write struct {
	ctx  context.Context
	fn   func(*Tx) error
	err  error
	done chan struct{}
}

// Write runs fn in the writer's transaction and returns once the commit that
// holds it is durable. Writes that wait at the same time share one commit; an
// error of fn undoes its own work alone and comes back to its caller. fn runs
// on the writer's goroutine: it must be quick, touch nothing but the database
// and what its caller hands it, and never call Read or Write. It may be run
// again, after everything that it did to the database was undone, so it begins
// by clearing what it fills.
//
// A ctx that ends before fn began withdraws the Write; later it is carried to
// its end. ErrFull, ErrFailed, ErrClosed.
func (db *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	w := &write{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case db.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.quit:
		return ErrClosed
	}
	select {
	case <-w.done:
		return w.err
	case <-db.done: // closed while w lay in the channel; unless it was just served
		select {
		case <-w.done:
			return w.err
		default:
			return ErrClosed
		}
	}
}

func (db *DB) writeLoop(tx *Tx) {
	defer close(db.done)
	defer tx.close()
	var failed error
	group := make([]*write, 0, maxGroup)
	for {
		select {
		case w := <-db.writes:
			group = append(group[:0], w)
		case <-db.quit:
			return
		}
	collect:
		for len(group) < maxGroup {
			select {
			case w := <-db.writes:
				group = append(group, w)
			default:
				break collect
			}
		}
		if failed == nil {
			failed = db.commitGroup(tx, group)
			if failed != nil && db.o.OnFatal != nil {
				go db.o.OnFatal(fmt.Errorf("committing to %s: %w", db.path, failed))
			}
		} else {
			for _, w := range group {
				w.err = fmt.Errorf("%w: %w", ErrFailed, failed)
			}
		}
		for _, w := range group {
			close(w.done)
		}
	}
}

// commitGroup runs a group in one transaction and sets each write's error. It
// returns an error only if the outcome of the commit is unknown.
//
// Writes seldom fail, and savepoints are not for nothing: the group runs
// without them first, and once more with them if one of several failed.
func (db *DB) commitGroup(tx *Tx, group []*write) error {
	committed := false
	if db.o.Settled != nil {
		defer func() { db.o.Settled(committed) }()
	}
	again, err := db.tryGroup(tx, group, false)
	if again {
		if db.o.Settled != nil {
			db.o.Settled(false)
		}
		_, err = db.tryGroup(tx, group, true)
	}
	committed = err == nil && slices.ContainsFunc(group, func(w *write) bool { return w.err == nil })
	if committed {
		db.commits.Add(1)
	}
	return err
}

// tryGroup runs a group in one transaction, each write in a savepoint of its
// own if alone is set. again says that all is undone since a write failed that
// shared its transaction.
func (db *DB) tryGroup(tx *Tx, group []*write, alone bool) (again bool, err error) {
	if _, _, err := tx.Exec("BEGIN IMMEDIATE"); err != nil {
		return false, failAll(group, fmt.Errorf("beginning transaction: %w", err), nil)
	}
	for _, w := range group {
		if w.err = w.ctx.Err(); w.err != nil {
			continue
		}
		if alone {
			if err := runAlone(tx, w); err != nil {
				return false, rollback(tx, group, err)
			}
			continue
		}
		if w.err = guard(tx, w.fn); w.err == nil {
			continue
		}
		if len(group) == 1 || isFull(w.err) {
			err := w.err
			w.err = nil // set again, for the whole group
			return false, rollback(tx, group, err)
		}
		_, _, err := tx.Exec("ROLLBACK")
		return err == nil, failAll(group, err, err)
	}
	if db.o.BeforeCommit != nil {
		if err := guard(tx, db.o.BeforeCommit); err != nil {
			return false, rollback(tx, group, err)
		}
	}
	if _, _, err := tx.Exec("COMMIT"); err != nil {
		if isFull(err) {
			return false, rollback(tx, group, err)
		}
		_, _, _ = tx.Exec("ROLLBACK")
		return false, failAll(group, err, err)
	}
	return false, nil
}

// runAlone runs a write in a savepoint and sets its error. It returns one only
// if the whole transaction has to be undone.
func runAlone(tx *Tx, w *write) error {
	if _, _, err := tx.Exec("SAVEPOINT w"); err != nil {
		return err
	}
	if w.err = guard(tx, w.fn); w.err != nil {
		if err := w.err; isFull(err) {
			w.err = nil // set again, for the whole group
			return err
		}
		if _, _, err := tx.Exec("ROLLBACK TO w"); err != nil {
			return errors.Join(w.err, err)
		}
	}
	_, _, err := tx.Exec("RELEASE w")
	return err
}

// rollback undoes a group before its commit. A disk that is full, and an
// operation that SQLite refused, leave a database that goes on.
func rollback(tx *Tx, group []*write, cause error) error {
	if isFull(cause) {
		cause = fmt.Errorf("%w: %w", ErrFull, cause)
	}
	if _, _, err := tx.Exec("ROLLBACK"); err != nil && !isFull(cause) {
		return failAll(group, errors.Join(cause, err), errors.Join(cause, err))
	}
	return failAll(group, cause, nil)
}

func failAll(group []*write, err, result error) error {
	for _, w := range group {
		if w.err == nil {
			w.err = err
		}
	}
	return result
}
