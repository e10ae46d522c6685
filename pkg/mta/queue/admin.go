package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
)

// Errors of the administrator's commands.
var (
	// ErrNoEntry: there is no entry of that id.
	ErrNoEntry = errors.New("no such queue entry")
	// ErrInFlight: an attempt has the entry in hand; try again.
	ErrInFlight = errors.New("queue entry is being delivered; try again when the attempt has ended")
)

// wholeEntry stands for the destination while a command has an entry in hand.
const wholeEntry = "*"

// Entry is a queued message as the administrator sees it.
type Entry struct {
	ID      int64
	Trace   mail.TraceID
	From    mail.Address
	Size    int64 // bytes
	Arrived time.Time
	// Recipients holds those that List or Show was asked for, in order.
	Recipients []Recipient
}

// Recipient is a recipient of an Entry.
type Recipient struct {
	mail.Recipient
	State    State
	Attempts int
	// Tried is the time of the last attempt, zero before the first; Next that
	// of the one to come, if State is Pending.
	Tried, Next time.Time
	// Status is the reply to the last attempt.
	Status string
}

// Filter picks entries. Its zero value picks all.
type Filter struct {
	// From and To are the reverse-path, and a forward-path; zero: any.
	From, To mail.Address
	// Trace is the message's; empty: any.
	Trace mail.TraceID
	// Domain is that of a recipient; empty: any.
	Domain string
	// Before picks entries that arrived earlier; zero: any.
	Before time.Time
	// Status is a part of the reply to a recipient's last attempt, in any case
	// of ASCII letters; empty: any.
	Status string
	// After is the last ID of the page before; Limit the length of a page, 0: 100.
	After int64
	Limit int
}

// List returns a page of entries that have a recipient still to be delivered
// to, ascending by ID.
func (q *Queue) List(ctx context.Context, f Filter) ([]Entry, error) {
	if f.Limit <= 0 {
		f.Limit = 100
	}
	before := int64(0)
	if !f.Before.IsZero() {
		before = f.Before.UnixMilli()
	}
	var list []Entry
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		var rows []entryRow
		err := tx.Query("SELECT "+entryColumns+` FROM entries WHERE id>?1
			AND (?2='' AND ?3='' OR local=?2 AND domain=?3)
			AND (?8=0 OR arrived<?8) AND (?10='' OR trace=?10)
			AND EXISTS (SELECT 1 FROM recipients r WHERE r.entry=id AND r.state IN (0, 1)
				AND (?4='' OR r.local=?4) AND (?5='' OR r.domain=?5) AND (?6='' OR r.domain=?6)
				AND (?9='' OR instr(lower(r.status), lower(?9))>0))
			ORDER BY id LIMIT ?7`,
			[]any{f.After, f.From.Local, f.From.Domain, f.To.Local, f.To.Domain, f.Domain, f.Limit, before, f.Status, string(f.Trace)},
			func(scan func(...any) error) error {
				e, err := scanEntry(scan)
				rows = append(rows, e)
				return err
			})
		if err != nil {
			return err
		}
		for _, e := range rows {
			recipients, err := recipientsOf(tx, e.id)
			if err != nil {
				return err
			}
			list = append(list, e.public(recipients))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing queue: %w", err)
	}
	return list, nil
}

func (e *entryRow) public(rows []recipientRow) Entry {
	out := Entry{ID: e.id, Trace: e.env.Trace, From: e.env.From, Size: e.size, Arrived: e.arrived}
	for _, r := range rows {
		out.Recipients = append(out.Recipients, Recipient{Recipient: r.Recipient, State: r.state,
			Attempts: r.attempts, Tried: r.tried, Next: r.next, Status: r.status})
	}
	return out
}

// Show returns one entry with all its recipients, and its message, which can be
// opened as long as the entry is in the queue. ErrNoEntry.
func (q *Queue) Show(ctx context.Context, id int64) (Entry, mail.Body, error) {
	var out Entry
	var body mail.Body
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		e, found, err := find(tx, id)
		if err != nil || !found {
			return errors.Join(err, ErrNoEntry)
		}
		rows, err := recipientsOf(tx, id)
		if err != nil {
			return err
		}
		out = e.public(rows)
		body, err = q.body(tx, e)
		return err
	})
	if err != nil {
		return Entry{}, nil, fmt.Errorf("reading queue entry %d: %w", id, err)
	}
	return out, body, nil
}

// Flush makes the pending recipients of the entries due now, or of all entries
// if none is named, and ends the pauses of all destinations.
func (q *Queue) Flush(ctx context.Context, ids ...int64) error {
	now := q.now()
	err := q.db.Write(ctx, func(tx *sqlite.Tx) error {
		if len(ids) == 0 {
			_, _, err := tx.Exec("UPDATE recipients SET next=? WHERE state=0 AND next>?", now.UnixMilli(), now.UnixMilli())
			return err
		}
		for _, id := range ids {
			if _, _, err := tx.Exec("UPDATE recipients SET next=? WHERE entry=? AND +state=0", now.UnixMilli(), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("flushing queue: %w", err)
	}
	q.mu.Lock()
	q.plan.forgive(func(string) bool { return true })
	q.mu.Unlock()
	return q.refresh(ctx, now)
}

// Start makes the pending recipients of a destination due now, and those of its
// subdomains if wide, and ends their pauses. It returns how many there are.
func (q *Queue) Start(ctx context.Context, domain string, wide bool) (n int, err error) {
	now := q.now()
	err = q.db.Write(ctx, func(tx *sqlite.Tx) error {
		_, due, err := tx.Exec("UPDATE recipients SET next=? WHERE state=0 AND destination=?", now.UnixMilli(), domain)
		if err == nil && wide {
			var more int64
			_, more, err = tx.Exec("UPDATE recipients SET next=?1 WHERE state=0 AND substr(destination, -length(?2)-1)='.'||?2", now.UnixMilli(), domain)
			due += more
		}
		n = int(due)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("starting %s: %w", domain, err)
	}
	if n == 0 {
		return 0, nil
	}
	q.mu.Lock()
	q.plan.forgive(func(name string) bool {
		return name == domain || wide && strings.HasSuffix(name, "."+domain)
	})
	q.mu.Unlock()
	return n, q.refresh(ctx, now)
}

// refresh makes the scheduler look at every destination that has a recipient
// due by now.
func (q *Queue) refresh(ctx context.Context, now time.Time) error {
	var names []string
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT DISTINCT destination FROM recipients WHERE state=0 AND next<=?", []any{now.UnixMilli()}, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("reading the schedule: %w", err)
	}
	q.expect(now, names...)
	return nil
}

// Hold stops the attempts for the pending recipients of an entry. ErrNoEntry.
func (q *Queue) Hold(ctx context.Context, id int64) error {
	return q.move(ctx, id, "UPDATE recipients SET state=1 WHERE entry=? AND +state=0")
}

// Release undoes Hold, and stands for a moderator's approval; the recipients
// are due at once. ErrNoEntry.
func (q *Queue) Release(ctx context.Context, id int64) error {
	now := q.now()
	if err := q.move(ctx, id, "UPDATE recipients SET state=0, next=0, moderation=CASE moderation WHEN 1 THEN 2 ELSE moderation END WHERE entry=? AND state=1"); err != nil {
		return err
	}
	return q.refresh(ctx, now)
}

func (q *Queue) move(ctx context.Context, id int64, update string) error {
	err := q.db.Write(ctx, func(tx *sqlite.Tx) error {
		if _, found, err := find(tx, id); err != nil || !found {
			return errors.Join(err, ErrNoEntry)
		}
		_, _, err := tx.Exec(update, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("changing queue entry %d: %w", id, err)
	}
	return nil
}

// Delete drops an entry; nobody is told. ErrNoEntry, ErrInFlight.
func (q *Queue) Delete(ctx context.Context, id int64) error {
	return q.finish(ctx, id, "deleting", func(v *verdict) { v.state = Delivered })
}

// Return gives up on the recipients of an entry that are still to be delivered
// to, and tells the sender. ErrNoEntry, ErrInFlight.
func (q *Queue) Return(ctx context.Context, id int64) error {
	return q.finish(ctx, id, "returning", func(v *verdict) {
		v.state, v.action = Failed, "failed"
		if v.status == "" {
			v.status = "never tried"
		}
		v.status = (&mail.Status{Code: 554, Enhanced: [3]int{5, 7, 0}, Text: "returned by the administrator; last attempt: " + v.status}).Reply()
	})
}

// Awaiting lists the traces of the messages to a group that wait for a
// moderator's decision.
func (q *Queue) Awaiting(ctx context.Context, group mail.Address) (traces []mail.TraceID, err error) {
	err = q.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query(`SELECT DISTINCT trace FROM recipients JOIN entries ON id=entry
			WHERE recipients.domain=? AND recipients.local=? COLLATE NOCASE AND state=1 AND moderation=1`, []any{group.Domain, group.Local}, func(scan func(...any) error) error {
			var t string
			err := scan(&t)
			traces = append(traces, mail.TraceID(t))
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing what awaits a moderator: %w", err)
	}
	return traces, nil
}

// Decide ends the wait of a message for a moderator: it is due at once, or goes
// back to its sender. ErrNoEntry if it does not wait any more.
func (q *Queue) Decide(ctx context.Context, trace mail.TraceID, group mail.Address, approve bool) error {
	var id int64
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		found, err := tx.Get(`SELECT id FROM entries JOIN recipients ON id=entry
			WHERE trace=? AND recipients.domain=? AND recipients.local=? COLLATE NOCASE AND state=1 AND moderation=1`,
			[]any{string(trace), group.Domain, group.Local}, &id)
		if err == nil && !found {
			err = ErrNoEntry
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("looking for the message to moderate: %w", err)
	}
	if approve {
		return q.Release(ctx, id)
	}
	return q.finish(ctx, id, "refusing", func(v *verdict) {
		if v.Moderation != mail.Awaiting || v.Address.Key() != group.Key() {
			return
		}
		v.state, v.action = Failed, "failed"
		v.status = mail.Refuse(7, 2, "the list's moderator did not let the message pass").Reply()
	})
}

// finish ends an entry by verdict of the administrator.
func (q *Queue) finish(ctx context.Context, id int64, doing string, decide func(*verdict)) error {
	err := q.reserve(id)
	if err == nil {
		defer q.drop(flightKey{entry: id, destination: wholeEntry})
		err = q.finishReserved(ctx, id, decide)
	}
	if err != nil {
		return fmt.Errorf("%s queue entry %d: %w", doing, id, err)
	}
	return nil
}

func (q *Queue) finishReserved(ctx context.Context, id int64, decide func(*verdict)) error {
	var verdicts []verdict
	var e entryRow
	var body mail.Body
	now := q.now()
	err := q.db.Read(ctx, func(tx *sqlite.Tx) error {
		var found bool
		var err error
		if e, found, err = find(tx, id); err != nil || !found {
			return errors.Join(err, ErrNoEntry)
		}
		rows, err := recipientsOf(tx, id)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.state != Pending && r.state != Held {
				continue
			}
			if r.tried.IsZero() {
				r.tried = now
			}
			v := verdict{recipientRow: r}
			decide(&v)
			verdicts = append(verdicts, v)
		}
		body, err = q.body(tx, e)
		return err
	})
	if err != nil {
		return err
	}
	return q.newChange(e, body, now).write(verdicts)
}

// reserve takes a whole entry in hand, if no attempt has.
func (q *Queue) reserve(id int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range q.flight {
		if k.entry == id {
			return ErrInFlight
		}
	}
	q.flight[flightKey{entry: id, destination: wholeEntry}] = nil
	return nil
}
