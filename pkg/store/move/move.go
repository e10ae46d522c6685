// Package move brings a user's mailbox to another store while the user works on
// the day after: with UIDs, UIDVALIDITY, flags and MODSEQ, so that clients
// notice nothing but a BYE.
//
// # Who holds the state
//
// Nothing of a move is kept by the command that drives it. The user's entry in
// the directory holds the journal (directory.Move), each store whether its
// account may be changed (store.Hold); both survive the death of any of them,
// and the command too may die anywhere: the same command goes on.
//
//	step            entry                      old store  new store
//	begin           copying, status hold       open       -
//	seal            copying                    sealed     -
//	copy, verify    copying                    sealed     arriving
//	flip            flipped, mailHost is new   sealed     arriving
//	open            flipped                    sealed     open
//	end             done, status as before     sealed     open
//
// At each moment one store at the most lets the account be changed, and it is
// the one that mailHost names. The flip is one change of one entry: before it
// Undo takes everything back; after it, a move back is a move like any other.
//
// On hold, logins are refused and the MTAs keep new mail in their queues
// (schema.md section 5); what an MTA sent before it knew is refused by the
// sealed store with a transient error, and so is what a session that lingers
// tries to change. Sessions end when the store is sealed.
//
// # How stores are reached
//
// By store.Carrier: over the control socket of a store on this machine, or
// through the IMAP door of one elsewhere as one of its proxies (carryclient).
// The cargo passes through whoever drives the move; stores need not know each
// other.
package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/store"
)

// Journal is what a move needs of the directory.
type Journal interface {
	User(ctx context.Context, login string) (directory.User, error)
	BeginMove(ctx context.Context, u directory.User, to string, now time.Time) error
	FlipMove(ctx context.Context, u directory.User) error
	UndoMove(ctx context.Context, u directory.User) error
	EndMove(ctx context.Context, u directory.User) error
}

var _ Journal = (*directory.Provisioner)(nil)

// Mover moves users. It may be used from many goroutines.
type Mover struct {
	Journal Journal
	// Stores returns the store of a mail host, which may be empty: that of users
	// without one. Its error says that there is none.
	Stores func(host string) (store.Carrier, error)
	// Same reports whether two mail hosts are one store.
	Same func(a, b string) bool
	// Keep is how long the old store keeps its copy, which nobody can change; 0: not at all.
	Keep time.Duration
	// Replace has an account give way that the new store holds already, with
	// mail of its own: what an old backup brought back, for one.
	Replace bool
	// Release has the MTA try held mail again; nil: it does so within minutes.
	Release func(context.Context) error
	// Progress is told of what is being done; total is in octets, 0 if there is
	// nothing to count. Nil: nobody is.
	Progress func(step string, done, total int64)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Report is what a move did, or would do.
type Report struct {
	Login     string `json:"login"`
	From      string `json:"from"`
	To        string `json:"to"`
	Mailboxes int    `json:"mailboxes"`
	Messages  int64  `json:"messages"`
	Bytes     int64  `json:"bytes"`
	// Resumed is the step at which an earlier attempt had ended; empty: there was none.
	Resumed string `json:"resumed,omitempty"`
	// Undone: the move was taken back.
	Undone bool `json:"undone,omitempty"`
}

// Errors of a Mover.
var (
	// ErrThere: the user's mailbox is in that store.
	ErrThere = errors.New("the mailbox is there already")
	// ErrOtherMove: an unfinished move goes elsewhere.
	ErrOtherMove = errors.New("another move is not finished")
	// ErrNothingToUndo: the user is not being moved, and never was.
	ErrNothingToUndo = errors.New("there is no move to undo")
	// ErrDiffers: the copy is not like the original, twice.
	ErrDiffers = errors.New("the copy differs from the original")
)

func (m *Mover) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

func (m *Mover) tell(step string, done, total int64) {
	if m.Progress != nil {
		m.Progress(step, done, total)
	}
}

// Plan says what Move would do, and changes nothing.
func (m *Mover) Plan(ctx context.Context, login, to string) (Report, error) {
	u, j, err := m.look(ctx, login)
	if err != nil {
		return Report{}, err
	}
	r := Report{Login: u.Account(), From: u.MailHost, To: to}
	if j.Unfinished() {
		r.From, r.Resumed = j.From, string(j.Step)
	}
	if err := m.may(u, j, to); err != nil {
		return r, err
	}
	from, target, err := m.ends(r.From, to)
	if err != nil {
		return r, err
	}
	c, err := from.Census(ctx, u.Account(), false)
	if err != nil && !errors.Is(err, store.ErrNoAccount) {
		return r, err
	}
	r.count(c)
	there, err := target.Census(ctx, u.Account(), false)
	switch {
	case errors.Is(err, store.ErrNoAccount):
		return r, nil
	case err == nil && there.Hold == store.HoldNone && there.Messages > 0 && !m.Replace:
		err = fmt.Errorf("%w: %s has %d messages of %s", store.ErrAccountInUse, to, there.Messages, r.Login)
	}
	return r, err
}

func (r *Report) count(c store.Census) {
	r.Mailboxes, r.Messages, r.Bytes = len(c.Mailboxes), c.Messages, c.Bytes
}

func (m *Mover) look(ctx context.Context, login string) (u directory.User, j directory.Move, err error) {
	if u, err = m.Journal.User(ctx, login); err != nil {
		return u, j, err
	}
	j, err = u.Move()
	return u, j, err
}

// may says whether a move of u to a host can begin, or go on.
func (m *Mover) may(u directory.User, j directory.Move, to string) error {
	switch {
	case j.Step == directory.MoveUndoing:
		return fmt.Errorf("%w: it is being undone; end that with --undo first", ErrOtherMove)
	case j.Unfinished() && !m.Same(j.To, to):
		return fmt.Errorf("%w: to %s; end it with --to %s, or take it back with --undo", ErrOtherMove, j.To, j.To)
	case !j.Unfinished() && m.Same(u.MailHost, to):
		return fmt.Errorf("%w: %s", ErrThere, to)
	}
	return nil
}

func (m *Mover) ends(from, to string) (a, b store.Carrier, err error) {
	if a, err = m.Stores(from); err != nil {
		return nil, nil, err
	}
	b, err = m.Stores(to)
	return a, b, err
}

// Move brings the user's mailbox to the store of a mail host, or goes on with
// that. After an error the user may be on hold: Move again, or Undo.
func (m *Mover) Move(ctx context.Context, login, to string) (r Report, err error) {
	u, j, err := m.look(ctx, login)
	if err != nil {
		return r, err
	}
	if err := m.may(u, j, to); err != nil {
		return r, err
	}
	if j.Unfinished() {
		r.Resumed = string(j.Step)
	} else {
		if r, err = m.Plan(ctx, login, to); err != nil { // before anybody is kept waiting
			return r, err
		}
		m.tell("holding new mail", 0, 0)
		if err := m.Journal.BeginMove(ctx, u, to, m.now()); err != nil {
			return r, err
		}
		if u, j, err = m.look(ctx, login); err != nil {
			return r, err
		}
	}
	r.Login, r.From, r.To = u.Account(), j.From, j.To
	from, target, err := m.ends(j.From, j.To)
	if err != nil {
		return r, err
	}
	if j.Step == directory.MoveCopying {
		if err := m.copy(ctx, u.Account(), from, target, &r); err != nil {
			return r, err
		}
		m.tell("changing the mail host", 0, 0)
		if err := ctx.Err(); err != nil { // a request under way might still be obeyed
			return r, err
		}
		if err := m.Journal.FlipMove(ctx, u); err != nil {
			return r, errors.Join(err, m.unsealOvertaken(ctx, login, j, err))
		}
	}
	return r, m.finish(ctx, login, from, target)
}

// unsealOvertaken opens what we sealed behind the back of somebody who has
// undone the move meanwhile.
func (m *Mover) unsealOvertaken(ctx context.Context, login string, j directory.Move, err error) error {
	if !errors.Is(err, directory.ErrMoving) {
		return nil
	}
	u, now, err := m.look(ctx, login)
	if err != nil || now.Unfinished() || !m.Same(u.MailHost, j.From) {
		return err
	}
	from, err := m.Stores(j.From)
	if err != nil {
		return err
	}
	return from.Open(ctx, u.Account())
}

// finish does what comes behind the flip.
func (m *Mover) finish(ctx context.Context, login string, from, target store.Carrier) error {
	u, _, err := m.look(ctx, login)
	if err != nil {
		return err
	}
	m.tell("opening the mailbox", 0, 0)
	if err := target.Open(ctx, u.Account()); err != nil && !errors.Is(err, store.ErrNoAccount) {
		return err
	}
	if err := m.keep(ctx, u.Account(), from); err != nil {
		return err
	}
	if err := m.Journal.EndMove(ctx, u); err != nil {
		return err
	}
	if m.Release == nil {
		return nil
	}
	m.tell("releasing held mail", 0, 0)
	return m.Release(ctx)
}

// keep says how long the old copy stays.
func (m *Mover) keep(ctx context.Context, account string, from store.Carrier) error {
	c, err := from.Census(ctx, account, false)
	switch {
	case errors.Is(err, store.ErrNoAccount):
		return nil
	case err != nil:
		return err
	case m.Keep <= 0 || c.Hold == store.HoldArriving: // there never was any mail
		return from.Drop(ctx, account)
	}
	return from.Seal(ctx, account, m.now().Add(m.Keep))
}

// copy seals the account and copies it, until it is the same in both stores.
func (m *Mover) copy(ctx context.Context, account string, from, to store.Carrier, r *Report) error {
	m.tell("ending sessions", 0, 0)
	err := from.Seal(ctx, account, time.Time{})
	if errors.Is(err, store.ErrNoAccount) || errors.Is(err, store.ErrHeld) {
		// Nobody ever wrote to it, and nobody shall while it moves.
		err = from.Receive(ctx, account)
	}
	if err != nil {
		return err
	}
	want, err := from.Census(ctx, account, true)
	if err != nil {
		return err
	}
	r.count(want)
	if want.Hold == store.HoldArriving {
		if want.Messages > 0 {
			return fmt.Errorf("%w: it is still to arrive where it is to go away", store.ErrHeld)
		}
		if err := to.Drop(ctx, account); !errors.Is(err, store.ErrAccountInUse) { // what an earlier move left; Plan saw that it is empty
			return err
		}
		return nil
	}
	for attempt := range 2 {
		if attempt > 0 { // an arrival from a move that was given up
			if err := to.Drop(ctx, account); err != nil {
				return err
			}
		}
		if err := m.carry(ctx, account, want, from, to); err != nil {
			return err
		}
		m.tell("verifying", 0, 0)
		got, err := to.Census(ctx, account, true)
		if err != nil {
			return err
		}
		difference := got.Differs(want)
		if difference == "" {
			return nil
		}
		if attempt > 0 {
			return fmt.Errorf("%w: %s", ErrDiffers, difference)
		}
	}
	return nil
}

// carry copies what is not there yet.
func (m *Mover) carry(ctx context.Context, account string, want store.Census, from, to store.Carrier) error {
	err := to.Receive(ctx, account)
	if errors.Is(err, store.ErrAccountInUse) && m.Replace {
		// It is not the user's mail host: nobody misses what is sealed there.
		if err = to.Seal(ctx, account, time.Time{}); err == nil {
			err = to.Receive(ctx, account)
		}
	}
	if err != nil {
		return err
	}
	got, err := to.Census(ctx, account, false)
	if err != nil {
		return err
	}
	there := map[string]store.MailboxCensus{}
	for _, box := range got.Mailboxes {
		there[box.Name] = box
	}
	c := cargo{m: m, from: from, to: to, account: account, total: want.Bytes}
	if err := c.carry(ctx, "", 0); err != nil {
		return err
	}
	for _, box := range want.Mailboxes {
		has, ok := there[box.Name]
		switch {
		case ok && has.UIDValidity != box.UIDValidity:
			has = store.MailboxCensus{}
		case ok && has.Messages == box.Messages && has.Last == box.Last:
			c.done += box.Bytes
			continue
		}
		c.done += has.Bytes
		if err := c.carry(ctx, box.Name, has.Last); err != nil {
			return fmt.Errorf("copying %s: %w", box.Name, err)
		}
	}
	return nil
}

// cargo is an account on its way.
type cargo struct {
	m           *Mover
	from, to    store.Carrier
	account     string
	done, total int64
}

// carry brings one mailbox over.
func (c *cargo) carry(ctx context.Context, mailbox string, above store.UID) error {
	r, w := io.Pipe()
	exported := make(chan error, 1)
	go func() {
		err := c.from.Export(ctx, c.account, mailbox, above, w)
		w.CloseWithError(err)
		exported <- err
	}()
	err := c.to.Import(ctx, c.account, &metered{r, c})
	_ = r.CloseWithError(io.ErrClosedPipe) // the exporter waits for nobody
	if exportErr := <-exported; exportErr != nil && !errors.Is(exportErr, io.ErrClosedPipe) {
		return exportErr // the cause, where the other saw a cut
	}
	return err
}

// metered counts what passes.
type metered struct {
	io.Reader
	c *cargo
}

// Read implements io.Reader.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.c.done += int64(n)
	m.c.m.tell("copying", min(m.c.done, m.c.total), m.c.total)
	return n, err
}

// Undo takes an unfinished move back, and moves the mailbox back if it was
// finished.
func (m *Mover) Undo(ctx context.Context, login string) (Report, error) {
	u, j, err := m.look(ctx, login)
	if err != nil {
		return Report{}, err
	}
	r := Report{Login: u.Account(), From: j.To, To: j.From, Undone: true}
	switch {
	case j.Step == directory.MoveFlipped: // the shortest way back leads over the end
		if r, err = m.Move(ctx, login, j.To); err != nil {
			return r, err
		}
		fallthrough
	case j.Step == directory.MoveDone && j.To != "" && j.From != "":
		r, err = m.Move(ctx, login, j.From)
		r.Undone = err == nil
		return r, err
	case !j.Unfinished():
		return r, fmt.Errorf("%w of %s", ErrNothingToUndo, login)
	}
	if j.Step == directory.MoveCopying {
		if err := m.Journal.UndoMove(ctx, u); err != nil {
			return r, err
		}
	}
	return r, m.restore(ctx, login, j, u.Account())
}

// restore has everything as it was before the move.
func (m *Mover) restore(ctx context.Context, login string, j directory.Move, account string) error {
	from, to, err := m.ends(j.From, j.To)
	if err != nil {
		return err
	}
	m.tell("dropping the copy", 0, 0)
	c, err := to.Census(ctx, account, false)
	if err == nil && c.Hold == store.HoldArriving { // a sealed one is of an earlier move, an open one somebody else's
		err = to.Drop(ctx, account)
	}
	if err != nil && !errors.Is(err, store.ErrNoAccount) && !errors.Is(err, store.ErrUnavailable) {
		return err // of a store that is down: it stays closed there, and gives way to the next move
	}
	m.tell("opening the mailbox", 0, 0)
	c, err = from.Census(ctx, account, false)
	if err == nil && c.Hold == store.HoldArriving {
		err = from.Drop(ctx, account)
	} else if err == nil && c.Hold == store.HoldSealed {
		err = from.Open(ctx, account)
	}
	if err != nil && !errors.Is(err, store.ErrNoAccount) {
		return err
	}
	u, _, err := m.look(ctx, login)
	if err != nil {
		return err
	}
	if err := m.Journal.EndMove(ctx, u); err != nil {
		return err
	}
	if m.Release == nil {
		return nil
	}
	return m.Release(ctx)
}
