package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/sqlite"
)

// verdict is what an attempt came to for one recipient.
type verdict struct {
	recipientRow
	err error
	// action is what the sender hears: "failed", "delayed", "delivered",
	// "relayed" or nothing.
	action string
	// expansion takes the recipient's place; kept holds its messages where they
	// differ from that of the entry.
	expansion []mta.Message
	kept      []kept
}

// judge says what becomes of a recipient whose attempt ended in err.
func (q *Queue) judge(e entryRow, r recipientRow, err error, now time.Time) verdict {
	v := verdict{recipientRow: r, err: err}
	if errors.Is(err, errStopped) {
		return v
	}
	since := r.tried
	if since.IsZero() {
		since = e.arrived
	}
	v.attempts++
	v.tried = now
	// Only time in which we tried counts, about as much as we meant to wait: a
	// clock that leaps ahead, or a week in which we were down, must not make
	// the whole queue bounce at once.
	waited := min(max(now.Sub(since), 0), 2*q.backoff(v.attempts))
	var expansion *mta.Expansion
	var handed *mta.Handed
	switch {
	case errors.As(err, &handed):
		v.state, v.status, v.action, v.err = Delivered, "250 2.1.5 relayed", "relayed", nil
		if handed.Final {
			v.status, v.action = "250 2.1.5 delivered", "delivered"
		}
		return v
	case err == nil:
		v.state, v.status = Delivered, "250 2.1.5 delivered"
		if r.Mailbox != "" { // the next hop reports what it was handed (RFC 3461 §5.2.2)
			v.action = "delivered"
		}
		return v
	case errors.As(err, &expansion):
		v.state, v.status, v.expansion = Delivered, expansion.Error(), expansion.Messages
		return v
	}
	st := mail.StatusOf(err)
	v.status = st.Reply()
	if isOutage(err) {
		v.attempts = r.attempts // it never came to one
		v.next = now.Add(jitter(q.soon(v.waited)))
	} else {
		v.next = now.Add(jitter(q.backoff(v.attempts)))
	}
	switch {
	case st.Permanent():
		v.state, v.action = Failed, "failed"
	case errors.Is(err, mta.ErrHold):
		// No lifetime runs while the entry says hold, which may end any time: by
		// whoever moves the mailbox to another store, for one.
		v.next = now.Add(jitter(min(q.backoff(v.attempts), retryHeld)))
	default:
		v.waited += waited
		v.late(q.o, e)
	}
	return v
}

// retryHeld is how long, at the most, mail waits after its recipient's hold.
const retryHeld = time.Minute

// late deals with a recipient that was tried for long.
func (v *verdict) late(o Options, e entryRow) {
	lifetime := o.Lifetime
	if e.env.From.IsNull() {
		lifetime = o.BounceLifetime
	}
	switch {
	case v.waited >= lifetime:
		v.state, v.action = Failed, "failed"
		v.status = (&mail.Status{Code: 554, Enhanced: [3]int{5, 4, 7},
			Text: fmt.Sprintf("gave up after %d attempts, the last: %s", v.attempts, v.status)}).Reply()
	case !v.warned && o.DelayWarning > 0 && v.waited >= o.DelayWarning:
		v.warned, v.action = true, "delayed"
	}
}

// backoff is the wait after the n-th attempt in a row.
func (q *Queue) backoff(n int) time.Duration {
	return q.o.Backoff[min(max(n, 1), len(q.o.Backoff))-1]
}

// jitter varies d by up to a fifth.
func jitter(d time.Duration) time.Duration {
	if d < 5 {
		return d
	}
	return d - d/5 + rand.N(2*d/5)
}

// probeAfter is how long a destination waits after an outage of ours. The host
// is not to blame and does not see us ask: as soon as we can, its mail goes on.
const probeAfter = 4 * time.Second

// probeEach spreads the destinations that an outage keeps waiting.
const probeEach = 20 * time.Millisecond

// soon is the wait of a recipient who was kept waiting by an outage of ours:
// short, and in time as long as that after any other failure.
func (q *Queue) soon(waited time.Duration) time.Duration {
	return min(max(probeAfter, waited/500), q.o.Backoff[len(q.o.Backoff)-1])
}

// isOutage reports whether something of ours failed, and not the next hop.
func isOutage(err error) bool { return errors.Is(err, mail.ErrOutage) && !mail.IsPermanent(err) }

// inTrouble reports whether an error is about the host and not the recipient:
// as the client knows, or the status says (RFC 3463 §3.5: network and routing;
// §3.4: the system is full, or takes no messages). Others of the same
// destination need not be tried now.
func inTrouble(err error) bool {
	st, ok := errors.AsType[*mail.Status](err)
	if !ok || st.Permanent() {
		return false
	}
	return errors.Is(err, mta.ErrHost) || st.Enhanced[1] == 4 || st.Enhanced[1] == 3 && (st.Enhanced[2] == 1 || st.Enhanced[2] == 2)
}

// recovered makes all due that waits for a destination which was in trouble and
// is well again: it waited for the host, and not for itself.
func (q *Queue) recovered(d *destination, now time.Time) {
	err := q.db.Write(context.Background(), func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec("UPDATE recipients SET next=?1 WHERE state=0 AND destination=?2 AND next>?1 AND (status LIKE '___ 4.4.%' OR status LIKE '___ 4.3.%')",
			now.UnixMilli(), d.name)
		return err
	})
	if err != nil { // they are tried in their own time
		q.o.Log.Error("making due what waited for a host", "destination", d.name, "err", err)
		return
	}
	q.expect(now, d.name)
}

// conditionOf is how an attempt found its host, by what became of all of it.
func conditionOf(errs []error) condition {
	switch {
	case slices.ContainsFunc(errs, func(err error) bool { return !inTrouble(err) && !isOutage(err) }):
		return well
	case slices.ContainsFunc(errs, isOutage):
		return outage
	case len(errs) > 0:
		return troubled
	}
	return well
}

// settle writes an attempt's outcome: states, bounces, what recipients expanded
// to, and the end of an entry with nobody left to try, all in one commit.
func (q *Queue) settle(ctx context.Context, d *destination, e entryRow, rows []recipientRow, errs []error, body mail.Body, start time.Time) {
	now := q.now()
	verdicts := make([]verdict, len(rows))
	for i, r := range rows {
		verdicts[i] = q.judge(e, r, errs[i], now)
	}
	err := q.write(ctx, e, body, now, verdicts)
	out := Outcome{Destination: d.name, Took: now.Sub(start)}
	for _, v := range verdicts {
		q.logAttempt(e, v, out.Took)
		switch {
		case v.err == nil || v.expansion != nil:
			out.Delivered++
		case v.state == Failed:
			out.Failed++
		default:
			out.Deferred++
		}
	}
	q.flow.add(out)
	q.mu.Lock()
	how := conditionOf(errs[:len(rows)])
	recovered := q.plan.found(d, how, now, func(n int) time.Duration {
		if how == outage { // which may be that of all destinations
			return jitter(max(probeAfter, min(time.Duration(len(q.plan.byName))*probeEach, q.backoff(n))))
		}
		return jitter(q.backoff(n))
	})
	q.mu.Unlock()
	if err != nil {
		// The rows are as they were, and the next process delivers again; the
		// stores know the trace and take no second copy.
		q.expect(now.Add(afterFault), d.name)
	} else {
		for _, v := range verdicts {
			if v.state == Pending {
				q.expect(v.next, d.name)
			}
		}
	}
	if recovered {
		q.recovered(d, now)
	}
	if q.o.Attempted != nil {
		q.o.Attempted(out)
	}
}

// write commits the verdicts, and tries again for as long as the database is
// full or failing: what was delivered must not be delivered again for want of a
// note. Nothing else is tried meanwhile, since nothing could be written of it.
func (q *Queue) write(ctx context.Context, e entryRow, body mail.Body, now time.Time, verdicts []verdict) error {
	err := q.newChange(e, body, now).write(slices.Clone(verdicts))
	if err == nil {
		return nil
	}
	q.stall(1)
	defer q.stall(-1)
	for {
		q.o.Log.Error("writing the outcome of an attempt", "trace", string(e.env.Trace), "queue_id", e.id, "err", err)
		again := time.After(againAfter)
		if errors.Is(err, sqlite.ErrFailed) || errors.Is(err, sqlite.ErrClosed) {
			again = nil // a restart is due
		}
		select {
		case <-ctx.Done():
			return err
		case <-again:
		}
		if err = q.newChange(e, body, now).write(slices.Clone(verdicts)); err == nil {
			return nil
		}
	}
}

// stall counts the attempts whose outcome cannot be written.
func (q *Queue) stall(n int) {
	q.mu.Lock()
	q.stalled += n
	q.mu.Unlock()
	q.nudge()
}

func (q *Queue) logAttempt(e entryRow, v verdict, took time.Duration) {
	log := q.o.Log.With("trace", string(e.env.Trace), "queue_id", e.id, "to", v.Address.String(), "attempt", v.attempts, "duration", took)
	if v.Action != "" {
		log = log.With("action", v.Action)
	}
	st := mail.StatusOf(v.err)
	switch {
	case v.err == nil:
		log.Info("message delivered")
	case v.expansion != nil:
		log.Info("recipient expanded", "err", v.err)
	case v.state == Failed:
		log.Warn("message failed", "code", st.Code, "status", v.status, "err", v.err)
	default:
		log.Info("message deferred", "code", st.Code, "next", v.next, "err", v.err)
	}
}

// change is one commit that moves recipients of an entry on.
type change struct {
	q    *Queue
	e    entryRow
	body mail.Body
	now  time.Time
	// fresh are the destinations of new entries; gone says the entry ended.
	fresh []string
	gone  bool
}

func (q *Queue) newChange(e entryRow, body mail.Body, now time.Time) *change {
	return &change{q: q, e: e, body: body, now: now}
}

// write commits the verdicts and what follows from them.
func (c *change) write(verdicts []verdict) error {
	original, err := c.original(verdicts)
	if err != nil {
		return err
	}
	defer func() {
		for _, v := range verdicts {
			for _, k := range v.kept {
				c.q.release(k, err)
			}
		}
	}()
	for i := range verdicts {
		if err := c.keep(&verdicts[i]); err != nil {
			return err
		}
	}
	// Not the attempt's context: what happened must be written down.
	err = c.q.db.Write(context.Background(), func(tx *sqlite.Tx) error {
		reports := make(map[string][]recipientRow)
		for _, v := range verdicts {
			alive, err := update(tx, v.recipientRow)
			if err != nil {
				return err
			}
			if !alive {
				continue // deleted by the administrator meanwhile
			}
			for i, m := range v.expansion {
				if err := c.expand(tx, m, v.kept[i]); err != nil {
					return err
				}
			}
			if wants(v.Notify, v.action) {
				reports[v.action] = append(reports[v.action], v.recipientRow)
			}
		}
		for _, action := range []string{"failed", "delayed", "delivered", "relayed"} {
			if err := c.report(tx, action, reports[action], original); err != nil {
				return err
			}
		}
		return c.end(tx)
	})
	if err != nil {
		return err
	}
	c.q.expect(c.now, c.fresh...)
	if c.gone && c.e.digest != nil {
		if err := c.q.files.forget(c.e.digest); err != nil {
			c.q.o.Log.Warn("message file left behind", "queue_id", c.e.id, "err", err)
		}
	}
	return nil
}

// wants reports whether a NOTIFY list asks for a report of an action; an empty
// one asks for those of bad news (RFC 3461 §4.1).
func wants(notify, action string) bool {
	keyword := map[string]string{"failed": "FAILURE", "delayed": "DELAY", "delivered": "SUCCESS", "relayed": "SUCCESS"}[action]
	if notify == "" {
		return keyword == "FAILURE" || keyword == "DELAY"
	}
	return keyword != "" && slices.Contains(strings.Split(notify, ","), keyword)
}

// original reads what a report would quote, if there will be one.
func (c *change) original(verdicts []verdict) (original, error) {
	told := func(v verdict) bool { return wants(v.Notify, v.action) }
	if c.e.env.From.IsNull() || !slices.ContainsFunc(verdicts, told) {
		return original{}, nil
	}
	bad := func(v verdict) bool { return v.state != Delivered }
	return readOriginal(c.body, c.e.env.Ret == "FULL" && !c.e.env.Binary && !c.e.env.RequireTLS && slices.ContainsFunc(verdicts, bad))
}

// update writes a recipient's row, unless it is done with; a hold that was laid
// on it meanwhile stays if it is still to be tried.
func update(tx *sqlite.Tx, r recipientRow) (alive bool, err error) {
	var tried int64
	if !r.tried.IsZero() {
		tried = r.tried.UnixMilli()
	}
	_, n, err := tx.Exec(`UPDATE recipients SET state=CASE WHEN ?1=0 THEN state ELSE ?1 END, attempts=?2, waited=?3, tried=?4, next=?5, warned=?6, status=?7
		WHERE entry=?8 AND n=?9 AND state IN (0, 1)`, r.state, r.attempts, r.waited.Milliseconds(), tried, r.next.UnixMilli(), r.warned, r.status, r.entry, r.n)
	if err != nil {
		return false, fmt.Errorf("updating recipient: %w", err)
	}
	return n > 0, nil
}

// keep makes the messages of an expansion ready that are not that of the entry.
func (c *change) keep(v *verdict) error {
	for _, m := range v.expansion {
		var k kept
		if m.Body != nil {
			var err error
			if k, err = c.q.keep(context.Background(), m.Body); err != nil {
				return err
			}
		}
		v.kept = append(v.kept, k)
	}
	return nil
}

// expand adds an entry with the same message, or one of its own.
func (c *change) expand(tx *sqlite.Tx, m mta.Message, k kept) error {
	e := c.e
	e.env, e.arrived = m.Envelope, c.now
	var err error
	if m.Body != nil {
		e.size, e.digest = m.Body.Size(), k.digest
		_, err = e.insertWith(tx, c.q.o.Destination, k)
	} else {
		var id int64
		id, err = e.insert(tx, c.q.o.Destination)
		if err == nil && e.digest == nil {
			_, _, err = tx.Exec("INSERT INTO bodies (entry, body) SELECT ?, body FROM bodies WHERE entry=?", id, c.e.id)
		}
	}
	c.fresh = append(c.fresh, destinationsOf(e.env.To, c.q.o.Destination)...)
	return err
}

// report adds a DSN to the sender of the entry about some of its recipients.
// Nobody is told of the failure of a message with a null reverse-path (RFC 5321
// §4.5.5), or with one that nothing vouches for: he may never have sent it.
func (c *change) report(tx *sqlite.Tx, action string, rows []recipientRow, o original) error {
	if len(rows) == 0 || c.e.env.From.IsNull() {
		return nil
	}
	if c.e.env.Proof == mail.Unproven {
		c.q.o.Log.Warn("nobody told, the sender is unproven", "trace", string(c.e.env.Trace), "queue_id", c.e.id, "action", action, "from", c.e.env.From.String())
		return nil
	}
	r := report{action: action, entry: c.e, rows: rows, original: o, hostname: c.q.o.Hostname, at: c.now,
		trace: mail.NewTraceID(), retryFor: c.q.o.Lifetime}
	text := r.append(nil)
	env := mail.Envelope{To: []mail.Recipient{{Address: c.e.env.From}}, Trace: r.trace, SMTPUTF8: r.utf8(), EightBit: o.eightBit, RequireTLS: c.e.env.RequireTLS}
	dsn := entryRow{env: env, arrived: c.now, size: int64(len(text))}
	id, err := dsn.insertWith(tx, c.q.o.Destination, kept{text: text})
	if err != nil {
		return fmt.Errorf("queueing a report: %w", err)
	}
	c.q.o.Log.Info("report queued", "trace", string(c.e.env.Trace), "queue_id", id, "about", c.e.id, "action", action, "to", c.e.env.From.String(), "report", string(r.trace))
	c.fresh = append(c.fresh, destinationsOf(env.To, c.q.o.Destination)...)
	return nil
}

// end deletes the entry once nobody is left to try.
func (c *change) end(tx *sqlite.Tx) error {
	_, n, err := tx.Exec("DELETE FROM entries WHERE id=?1 AND NOT EXISTS (SELECT 1 FROM recipients WHERE entry=?1 AND state IN (0, 1))", c.e.id)
	if err != nil {
		return fmt.Errorf("ending entry: %w", err)
	}
	c.gone = n > 0
	return nil
}
