// Package autoreply answers messages in the name of users who are away: an
// action of the MTA, and so a mail.Deliverer whose delivery is a reply in the
// queue. What the reply says is in the user's entry, read anew each time.
//
// It keeps the manners of RFC 3834: nothing that came from a program or a list
// is answered, replies have a null reverse-path and say what they are, and in
// the mode vacation one sender hears of it once in a while, over restarts too.
package autoreply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/sqlite"
)

// Options of Open.
type Options struct {
	// Path is the database of who was told; it is made if it is missing.
	Path string
	// Directory holds the users, Queue takes the replies.
	Directory directory.Directory
	Queue     mail.Deliverer
	// Signer signs the replies in the name of the user's domain, as what the user
	// sends is signed; nil: they go unsigned.
	Signer mta.Signer
	// Hostname is our name in Message-IDs.
	Hostname string
	// OnFatal: see sqlite.Options.
	OnFatal func(error)
	Log     *slog.Logger
}

// Replier sends replies. It may be used from many goroutines.
type Replier struct {
	o   Options
	db  *sqlite.DB
	now func() time.Time
}

var _ mail.Deliverer = (*Replier)(nil)

// migrations build the memory. Times are Unix seconds.
var migrations = []string{`
CREATE TABLE told (
	account TEXT NOT NULL,
	sender  TEXT NOT NULL, -- lower case
	trace   TEXT NOT NULL, -- of the message that was answered last
	until   INTEGER NOT NULL, -- before that the sender hears nothing again
	PRIMARY KEY (account, sender)
) WITHOUT ROWID;
CREATE INDEX stale ON told (until);
`}

// Open opens the memory of a Replier. The caller closes it.
func Open(ctx context.Context, o Options) (*Replier, error) {
	db, err := sqlite.Open(ctx, o.Path, sqlite.Options{Migrations: migrations, OnFatal: o.OnFatal, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("opening the memory of automatic replies: %w", err)
	}
	return &Replier{o: o, db: db, now: time.Now}, nil
}

// Close frees the memory.
func (r *Replier) Close() error { return r.db.Close() }

// Deliver implements mail.Deliverer: nil once the reply is durable in the
// queue, or none is due.
func (r *Replier) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	errs := make([]error, len(env.To))
	for i, to := range env.To {
		errs[i] = r.deliver(ctx, env, to, body)
	}
	return errs
}

func (r *Replier) deliver(ctx context.Context, env mail.Envelope, to mail.Recipient, body mail.Body) error {
	who, err := r.o.Directory.Recipient(ctx, to.Address)
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && who.User == nil:
		return nil // gone meanwhile
	case err != nil:
		return mail.TryLater(4, 3, "the directory does not answer, try again later", err)
	}
	u := who.User
	m, err := readMessage(body, u.AutoReply.Mode == directory.ReplyEcho)
	if err != nil {
		return err
	}
	log := r.o.Log.With("trace", string(env.Trace), "account", u.Account(), "to", env.From.String())
	if why := m.unanswered(env.From, u); why != "" {
		log.Info("no automatic reply", "why", why)
		return nil
	}
	if u.AutoReply.Mode == directory.ReplyVacation {
		first, err := r.remember(ctx, u, env)
		if err != nil {
			return err
		}
		if !first {
			log.Info("no automatic reply", "why", "the sender was told")
			return nil
		}
	}
	reply := reply{user: u, message: m, to: env.From, internal: r.isInternal(ctx, env.From, u), hostname: r.o.Hostname, at: r.now(), trace: mail.NewTraceID()}
	text := reply.append(nil)
	if r.o.Signer != nil {
		head, err := r.o.Signer.Sign(ctx, u.Mail.Domain, mail.Bytes(text))
		if err != nil {
			return fmt.Errorf("signing a reply: %w", err)
		}
		text = append(head, text...)
	}
	out := mail.Envelope{To: []mail.Recipient{{Address: env.From, Notify: "NEVER"}}, Trace: reply.trace, EightBit: m.eightBit,
		SMTPUTF8: !env.From.IsASCII() || !u.Mail.IsASCII()}
	if err := r.o.Queue.Deliver(ctx, out, mail.Bytes(text))[0]; err != nil {
		return fmt.Errorf("queueing a reply: %w", err)
	}
	log.Info("automatic reply sent", "reply", string(reply.trace))
	return nil
}

// isInternal reports whether the sender is of the user's own domain.
func (r *Replier) isInternal(ctx context.Context, from mail.Address, u *directory.User) bool {
	d, err := r.o.Directory.Domain(ctx, from.Domain)
	return err == nil && d.Name == u.Domain
}

// remember notes that the sender is told now, and reports whether he was not
// told lately. An attempt that is repeated for the same message is told again:
// nobody knows how far the first one came.
func (r *Replier) remember(ctx context.Context, u *directory.User, env mail.Envelope) (first bool, err error) {
	now := r.now()
	account, sender := u.Account(), env.From.Key().String()
	err = r.db.Write(ctx, func(tx *sqlite.Tx) error {
		var trace string
		var until int64
		found, err := tx.Get("SELECT trace, until FROM told WHERE account=? AND sender=?", []any{account, sender}, &trace, &until)
		if err != nil {
			return err
		}
		if first = !found || until <= now.Unix() || trace == string(env.Trace); !first {
			return nil
		}
		if _, _, err := tx.Exec("DELETE FROM told WHERE until<=?", now.Unix()); err != nil {
			return err
		}
		_, _, err = tx.Exec("INSERT OR REPLACE INTO told (account, sender, trace, until) VALUES (?, ?, ?, ?)",
			account, sender, string(env.Trace), now.Add(u.AutoReply.Interval).Unix())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remembering who was told: %w", err)
	}
	return first, nil
}
