package directory

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Move is the journal of a mailbox's move to another store, which the user's
// entry itself holds: whoever goes on with the move finds it there, and the
// steps that count change it together with the mail host, all or nothing.
type Move struct {
	Step MoveStep
	// From and To are mail hosts. From is empty if the entry had none.
	From, To string
	// Status is what mailUserStatus was before; empty: there was none.
	Status  Status
	Started time.Time
}

// MoveStep is how far a move is.
type MoveStep string

// The steps. The mail host is From up to MoveFlipped, and To from then on.
const (
	// MoveNone: the user was never moved.
	MoveNone MoveStep = ""
	// MoveCopying: new mail is held, nobody logs in, the mail is being copied.
	MoveCopying MoveStep = "copying"
	// MoveUndoing: as it was is to be restored.
	MoveUndoing MoveStep = "undoing"
	// MoveFlipped: the mail host is To; mail is still held.
	MoveFlipped MoveStep = "flipped"
	// MoveDone: all is over; the old store may keep a copy.
	MoveDone MoveStep = "done"
)

// Unfinished reports whether somebody has to go on with the move.
func (m Move) Unfinished() bool {
	return m.Step == MoveCopying || m.Step == MoveUndoing || m.Step == MoveFlipped
}

// ErrMoving: somebody else changed the move, or the user's mail host, meanwhile.
var ErrMoving = errors.New("the user is being moved by somebody else")

// String is how the entry holds it.
func (m Move) String() string {
	return fmt.Sprintf("%s from=%s to=%s status=%s started=%d", m.Step, m.From, m.To, m.Status, m.Started.Unix())
}

// Move is the journal of the user's move.
func (u User) Move() (m Move, err error) {
	text := u.Entry.Value("mailsrvMove")
	for i, word := range strings.Fields(text) {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case i == 0:
			m.Step = MoveStep(word)
		case name == "from":
			m.From = value
		case name == "to":
			m.To = value
		case name == "status":
			m.Status = Status(value)
		case name == "started":
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return m, fmt.Errorf("reading mailsrvMove of %s: %w", u.DN, err)
			}
			m.Started = time.Unix(seconds, 0)
		}
	}
	switch m.Step {
	case MoveNone, MoveDone:
	case MoveCopying, MoveUndoing, MoveFlipped:
		if m.To == "" {
			return m, fmt.Errorf("reading mailsrvMove of %s: no host in %q", u.DN, text)
		}
	default:
		return m, fmt.Errorf("reading mailsrvMove of %s: unknown step in %q", u.DN, text)
	}
	return m, nil
}

// User returns the user who logs in as login, as Directory does.
func (p *Provisioner) User(ctx context.Context, login string) (User, error) {
	return p.view.User(ctx, login)
}

// BeginMove puts the user on hold, and notes that the mailbox goes to another
// host. ErrMoving.
func (p *Provisioner) BeginMove(ctx context.Context, u User, to string, now time.Time) error {
	m := Move{Step: MoveCopying, From: u.MailHost, To: strings.ToLower(to), Status: Status(u.Entry.Value("mailUserStatus")), Started: now}
	changes := []Change{{ReplaceValues, attr("mailUserStatus", string(Hold))}}
	if host := u.Entry.Value("mailHost"); host != "" { // it must be that still
		changes = append(changes, Change{DeleteValues, attr("mailHost", host)}, Change{AddValues, attr("mailHost", host)})
	}
	return p.journal(ctx, u, m, changes...)
}

// FlipMove makes the new host the user's mail host. ErrMoving.
func (p *Provisioner) FlipMove(ctx context.Context, u User) error {
	m, err := u.Move()
	if err != nil {
		return err
	}
	if m.Step != MoveCopying {
		return fmt.Errorf("moving %s: %w", u.DN, ErrMoving)
	}
	m.Step = MoveFlipped
	var changes []Change
	if host := u.Entry.Value("mailHost"); host != "" {
		changes = append(changes, Change{DeleteValues, attr("mailHost", host)})
	}
	return p.journal(ctx, u, m, append(changes, Change{AddValues, attr("mailHost", m.To)})...)
}

// UndoMove notes that the move is to be undone. ErrMoving.
func (p *Provisioner) UndoMove(ctx context.Context, u User) error {
	m, err := u.Move()
	if err != nil {
		return err
	}
	if m.Step != MoveCopying {
		return fmt.Errorf("moving %s: %w", u.DN, ErrMoving)
	}
	m.Step = MoveUndoing
	return p.journal(ctx, u, m)
}

// EndMove gives the user the status of before back. Whoever gave another one
// than hold meanwhile has the last word. ErrMoving.
func (p *Provisioner) EndMove(ctx context.Context, u User) error {
	m, err := u.Move()
	if err != nil {
		return err
	}
	if !m.Unfinished() || m.Step == MoveCopying {
		return fmt.Errorf("moving %s: %w", u.DN, ErrMoving)
	}
	if m.Step == MoveUndoing {
		m.To = ""
	}
	m.Step = MoveDone
	var changes []Change
	if parseStatus(u.Entry.Value("mailUserStatus")) == Hold {
		changes = append(changes, Change{DeleteValues, attr("mailUserStatus", u.Entry.Value("mailUserStatus"))})
		if m.Status != "" {
			changes = append(changes, Change{AddValues, attr("mailUserStatus", string(m.Status))})
		}
	}
	return p.journal(ctx, u, m, changes...)
}

// journal makes changes together with that of the journal, whose state must be
// the one that u has.
func (p *Provisioner) journal(ctx context.Context, u User, m Move, changes ...Change) error {
	if old := u.Entry.Value("mailsrvMove"); old != "" {
		changes = append(changes, Change{DeleteValues, attr("mailsrvMove", old)})
	}
	err := p.tree.Modify(ctx, u.DN, append(changes, Change{AddValues, attr("mailsrvMove", m.String())}))
	if r, ok := errors.AsType[*ResultError](err); ok && (r.Code == NoSuchAttribute || r.Code == AttributeOrValueExists || r.Code == ConstraintViolation) {
		err = fmt.Errorf("%w: %w", ErrMoving, err)
	}
	return wrap("moving "+u.Account(), err)
}
