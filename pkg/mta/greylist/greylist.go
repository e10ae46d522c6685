// Package greylist asks strangers to come again (RFC 6647): a first contact
// between a network, a sender and a recipient is answered 451 until some
// minutes have passed. What is only fired once never comes back; a mail server
// does, and is known from then on.
//
// Contacts are kept in a database, so that a restart asks nobody twice.
package greylist

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/sqlite"
)

// Options of Open.
type Options struct {
	// Path is the database's file.
	Path string
	// Wait is how long a first contact is put off; 0: 5 minutes.
	Wait time.Duration
	// Window is within which time it must come back; 0: 24 hours. Memory is
	// for how long a network that did is known; 0: 36 days.
	Window, Memory time.Duration
	// Now is the clock; nil: time.Now.
	Now     func() time.Time
	OnFatal func(error)
	Log     *slog.Logger
}

// Check is the greylist. It may be used from many goroutines.
type Check struct {
	o  Options
	db *sqlite.DB
}

var _ mta.Check = (*Check)(nil)

// contact rows are triples that wait; network rows have proved themselves.
// Times are Unix seconds.
const schema = `
CREATE TABLE contact (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, first INTEGER NOT NULL);
CREATE INDEX contact_first ON contact (first);
CREATE TABLE network (prefix TEXT PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX network_seen ON network (seen);
`

// maxContacts bounds the contacts that wait; beyond it the oldest are dropped.
const maxContacts = 1_000_000

// Open opens the greylist. The caller closes it.
func Open(ctx context.Context, o Options) (*Check, error) {
	o.Wait = cmp.Or(o.Wait, 5*time.Minute)
	o.Window = cmp.Or(o.Window, 24*time.Hour)
	o.Memory = cmp.Or(o.Memory, 36*24*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	db, err := sqlite.Open(ctx, o.Path, sqlite.Options{Migrations: []string{schema}, OnFatal: o.OnFatal, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("opening greylist: %w", err)
	}
	return &Check{o: o, db: db}, nil
}

// Close frees the database.
func (c *Check) Close() error { return c.db.Close() }

// Check implements mta.Check.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtRecipient || !e.Stranger || e.Vouched {
		return nil
	}
	network := networkOf(e.Session.Client.Addr.Addr())
	now := c.o.Now()
	known, err := c.known(ctx, network, now)
	if err != nil {
		return fmt.Errorf("asking the greylist: %w", err)
	}
	if known {
		return nil
	}
	to := e.Recipients[len(e.Recipients)-1].Address.Key()
	wait, err := c.contact(ctx, network, identity(network, e.Sender.From.Key(), to), now)
	if err != nil {
		return fmt.Errorf("asking the greylist: %w", err)
	}
	if wait > 0 {
		return mail.TryLater(7, 1, fmt.Sprintf("we have not met before, come again in %d seconds", int(wait.Seconds())+1), nil)
	}
	return nil
}

// known reports whether the network has proved itself. A network is written
// again only after a day, so that its mail costs no write.
func (c *Check) known(ctx context.Context, network string, now time.Time) (bool, error) {
	var seen int64
	found := false
	err := c.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		found, err = tx.Get(`SELECT seen FROM network WHERE prefix = ?`, []any{network}, &seen)
		return err
	})
	if err != nil || !found || now.Sub(time.Unix(seen, 0)) > c.o.Memory {
		return false, err
	}
	if now.Sub(time.Unix(seen, 0)) < 24*time.Hour {
		return true, nil
	}
	return true, c.db.Write(ctx, func(tx *sqlite.Tx) error {
		_, _, err := tx.Exec(`UPDATE network SET seen = ? WHERE prefix = ?`, now.Unix(), network)
		return err
	})
}

// contact notes an attempt and returns how long it has still to wait.
func (c *Check) contact(ctx context.Context, network string, id []byte, now time.Time) (wait time.Duration, err error) {
	err = c.db.Write(ctx, func(tx *sqlite.Tx) error {
		var first int64
		found, err := tx.Get(`SELECT first FROM contact WHERE id = ?`, []any{id}, &first)
		if err != nil {
			return err
		}
		age := now.Sub(time.Unix(first, 0))
		switch {
		case !found || age > c.o.Window:
			wait = c.o.Wait
			return c.begin(tx, id, now)
		case age < c.o.Wait:
			wait = c.o.Wait - age
			return nil
		}
		wait = 0
		if _, _, err := tx.Exec(`DELETE FROM contact WHERE id = ?`, id); err != nil {
			return err
		}
		_, _, err = tx.Exec(`INSERT INTO network VALUES (?, ?) ON CONFLICT DO UPDATE SET seen = excluded.seen`, network, now.Unix())
		return err
	})
	return wait, err
}

// begin starts a contact's waiting, and forgets what is too old or too much: a
// few rows each time, so that no caller waits for a great cleaning.
func (c *Check) begin(tx *sqlite.Tx, id []byte, now time.Time) error {
	for _, s := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO contact (id, first) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET first = excluded.first`, []any{id, now.Unix()}},
		{`DELETE FROM contact WHERE seq IN (SELECT seq FROM contact WHERE first < ? ORDER BY first LIMIT 4)`, []any{now.Add(-c.o.Window).Unix()}},
		{`DELETE FROM contact WHERE seq IN (SELECT seq FROM contact WHERE seq <= (SELECT max(seq) FROM contact) - ? ORDER BY seq LIMIT 4)`, []any{maxContacts}},
		{`DELETE FROM network WHERE prefix IN (SELECT prefix FROM network WHERE seen < ? ORDER BY seen LIMIT 4)`, []any{now.Add(-c.o.Memory).Unix()}},
	} {
		if _, _, err := tx.Exec(s.text, s.args...); err != nil {
			return err
		}
	}
	return nil
}

// networkOf is what counts as one sender: big ones try again from a neighbour.
func networkOf(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p.String()
}

// identity is a contact's key, of one size whatever strangers send.
func identity(network string, from, to mail.Address) []byte {
	sum := sha256.Sum256([]byte(network + "\x00" + from.String() + "\x00" + to.String()))
	return sum[:16]
}
