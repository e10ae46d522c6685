package sqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

var _ store.Carrier = (*Store)(nil)

// loadHolds reads which accounts are held.
func (s *Store) loadHolds(ctx context.Context) error {
	return s.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT id, hold FROM account WHERE hold<>''", nil, func(scan func(...any) error) error {
			var id int64
			var hold string
			err := scan(&id, &hold)
			s.holds.Store(id, store.Hold(hold))
			return err
		})
	})
}

// changeable returns ErrHeld for an account that is held, unless a Carrier writes.
func (g *group) changeable(account int64) error {
	if g.carrying {
		return nil
	}
	if _, held := g.s.holds.Load(account); held {
		return store.ErrHeld
	}
	return nil
}

// hold sets an account's hold. No write behind this one in its commit gets past
// it, and none that came before is left when the write has returned.
func (s *Store) hold(ctx context.Context, account string, hold store.Hold, until int64) error {
	var id int64
	var before any
	err := s.write(ctx, func(g *group) error {
		found, err := g.Get("SELECT id FROM account WHERE name=?", []any{account}, &id)
		if err != nil || !found {
			return cmp.Or(err, store.ErrNoAccount)
		}
		before, _ = s.holds.Load(id)
		if hold != store.HoldNone {
			s.holds.Store(id, hold)
		}
		_, _, err = g.Exec("UPDATE account SET hold=?, until=? WHERE id=?", string(hold), until, id)
		return err
	})
	switch {
	case err != nil && id != 0 && before == nil:
		s.holds.Delete(id)
	case err == nil && hold == store.HoldNone:
		s.holds.Delete(id)
	}
	return err
}

// Seal implements store.Carrier.
func (s *Store) Seal(ctx context.Context, account string, until time.Time) error {
	at := int64(0)
	if !until.IsZero() {
		at = until.Unix()
	}
	c, err := s.Census(ctx, account, false)
	if err == nil && c.Hold == store.HoldArriving {
		err = store.ErrHeld
	}
	if err == nil {
		err = s.hold(ctx, account, store.HoldSealed, at)
	}
	return wrapped("sealing", account, err)
}

// Open implements store.Carrier.
func (s *Store) Open(ctx context.Context, account string) error {
	return wrapped("opening", account, s.hold(ctx, account, store.HoldNone, 0))
}

func wrapped(doing, account string, err error) error {
	if err != nil {
		return fmt.Errorf("%s account %s: %w", doing, account, err)
	}
	return nil
}

// Receive implements store.Carrier.
func (s *Store) Receive(ctx context.Context, account string) error {
	c, err := s.Census(ctx, account, false)
	switch {
	case errors.Is(err, store.ErrNoAccount):
	case err != nil:
		return wrapped("receiving", account, err)
	case c.Hold == store.HoldArriving:
		return nil
	case c.Hold == store.HoldNone && c.Messages > 0:
		return wrapped("receiving", account, fmt.Errorf("%w: %d messages", store.ErrAccountInUse, c.Messages))
	case c.Hold == store.HoldNone: // whoever writes now comes too late or has the account refused below
		if err := s.hold(ctx, account, store.HoldSealed, 0); err != nil {
			return wrapped("receiving", account, err)
		}
		if c, err = s.Census(ctx, account, false); err == nil && c.Messages > 0 {
			return wrapped("receiving", account, errors.Join(store.ErrAccountInUse, s.hold(ctx, account, store.HoldNone, 0)))
		}
		fallthrough
	default:
		if err = cmp.Or(err, s.Drop(ctx, account)); err != nil {
			return wrapped("receiving", account, err)
		}
	}
	return wrapped("receiving", account, s.write(ctx, func(g *group) error {
		id, err := g.insertAccount(account, store.HoldArriving)
		if err == nil {
			s.holds.Store(id, store.HoldArriving) // an id is used once
		}
		return err
	}))
}

// insertAccount makes an account with an id that was never used: a session of
// an account that was dropped must not find itself in another.
func (g *group) insertAccount(name string, hold store.Hold) (id int64, err error) {
	id, _, err = g.Exec(`INSERT INTO account (id, name, hold) VALUES (1+max((SELECT coalesce(max(id), 0) FROM account),
		coalesce((SELECT value FROM counter WHERE name='account'), 0)), ?, ?)`, name, string(hold))
	return id, err
}

// Drop implements store.Carrier. It goes mailbox by mailbox, so that others are
// not kept waiting; the account's row goes last.
func (s *Store) Drop(ctx context.Context, account string) error {
	for {
		done := false
		err := s.write(ctx, func(g *group) (err error) {
			g.carrying = true
			done, err = g.dropSome(account)
			return err
		})
		if err != nil || done {
			return wrapped("dropping", account, err)
		}
	}
}

// dropSome removes one mailbox of a held account, or what is left of it.
func (g *group) dropSome(account string) (done bool, err error) {
	var id, mailbox int64
	var hold string
	var noSelect bool
	found, err := g.Get("SELECT id, hold FROM account WHERE name=?", []any{account}, &id, &hold)
	if err != nil || !found {
		return true, err
	}
	if hold == "" {
		return false, store.ErrAccountInUse
	}
	if found, err = g.Get("SELECT id, noselect FROM mailbox WHERE account=? LIMIT 1", []any{id}, &mailbox, &noSelect); err != nil {
		return false, err
	}
	if found {
		return false, g.eraseMailbox(mailbox, noSelect, 0)
	}
	for _, q := range [...]string{"UPDATE removed SET at=0 WHERE account=?", "DELETE FROM subscription WHERE account=?",
		"DELETE FROM annotation WHERE account=?", "DELETE FROM seen WHERE account=?",
		`INSERT INTO counter (name, value) VALUES ('account', ?) ON CONFLICT (name) DO UPDATE SET value=max(value, excluded.value)`,
		"DELETE FROM account WHERE id=?"} {
		if _, _, err := g.Exec(q, id); err != nil {
			return false, err
		}
	}
	clear(g.accounts)
	clear(g.names)
	delete(g.usage, id)
	return true, nil
}

// dropMoved drops accounts that moved away and were kept for long enough.
func (s *Store) dropMoved(ctx context.Context) error {
	var names []string
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		names = names[:0]
		return tx.Query("SELECT name FROM account WHERE hold=? AND until BETWEEN 1 AND ?", []any{string(store.HoldSealed), s.o.Now().Unix()}, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		})
	}); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.Drop(ctx, name); err != nil {
			return err
		}
		s.o.Log.Info("account that moved away dropped", "account", name)
	}
	return nil
}

// carriedRow is a row of mailbox with its id.
type carriedRow struct {
	id int64
	store.CarriedMailbox
	messages, bytes int64
	last            store.UID
}

const carriedQuery = `SELECT id, name, uidvalidity, uidnext, recent, modseq, gone, forgotten, noselect, use, messages, bytes,
	coalesce((SELECT max(uid) FROM message WHERE mailbox=mailbox.id), 0) FROM mailbox WHERE account=?1 AND (?2 OR name=?3) ORDER BY name`

// carried reads all mailboxes of an account, or the one of that name.
func carried(tx *sqlite.Tx, account int64, all bool, name string) (rows []carriedRow, err error) {
	err = tx.Query(carriedQuery, []any{account, all, name}, func(scan func(...any) error) error {
		var r carriedRow
		err := scan(&r.id, &r.Name, &r.UIDValidity, &r.UIDNext, &r.Recent, &r.ModSeq, &r.Gone, &r.Forgotten, &r.NoSelect, &r.Use, &r.messages, &r.bytes, &r.last)
		rows = append(rows, r)
		return err
	})
	for i := range rows {
		if err == nil {
			var l store.ACL
			l, err = readACL(tx, rows[i].id)
			for _, g := range l {
				rows[i].ACL = append(rows[i].ACL, [2]string{g.Identifier, g.Rights.String()})
			}
		}
	}
	return rows, err
}

// holder is an account's id and hold. ErrNoAccount.
func holder(tx *sqlite.Tx, account string) (id int64, hold store.Hold, until int64, err error) {
	var text string
	found, err := tx.Get("SELECT id, hold, until FROM account WHERE name=?", []any{account}, &id, &text, &until)
	if err == nil && !found {
		err = store.ErrNoAccount
	}
	return id, store.Hold(text), until, err
}

// Census implements store.Carrier.
func (s *Store) Census(ctx context.Context, account string, closely bool) (c store.Census, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		c = store.Census{}
		id, hold, until, err := holder(tx, account)
		if err != nil {
			return err
		}
		c.Hold = hold
		if until > 0 {
			c.Until = time.Unix(until, 0)
		}
		rows, err := carried(tx, id, true, "")
		if err != nil {
			return err
		}
		for _, r := range rows {
			m := store.MailboxCensus{Name: r.Name, UIDValidity: r.UIDValidity, UIDNext: r.UIDNext, ModSeq: r.ModSeq, Messages: r.messages, Bytes: r.bytes, Last: r.last}
			if closely {
				if m.Sum, err = sum(tx, id, r); err != nil {
					return err
				}
			}
			c.Messages, c.Bytes = c.Messages+r.messages, c.Bytes+r.bytes
			c.Mailboxes = append(c.Mailboxes, m)
		}
		if closely {
			var subscriptions []string
			if subscriptions, err = subscribed(tx, id); err == nil {
				var notes []store.Annotation
				notes, err = annotations(tx, 0, id)
				c.Rest = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q", subscriptions, notes)))
			}
		}
		return err
	})
	if err != nil {
		return store.Census{}, wrapped("looking at", account, failure(err))
	}
	return c, nil
}

// sum is a hash over a mailbox and its messages.
func sum(tx *sqlite.Tx, account int64, r carriedRow) (string, error) {
	h := sha256.New()
	e := json.NewEncoder(h)
	notes, err := annotations(tx, r.id, account)
	if err == nil {
		err = errors.Join(e.Encode(r.CarriedMailbox), e.Encode(notes))
	}
	if err != nil {
		return "", err
	}
	err = tx.Query(`SELECT uid, modseq, flags, keywords, internal, zone, saved, sentcopy, prefix, digest FROM message CROSS JOIN body ON id=body WHERE mailbox=? ORDER BY uid`,
		[]any{r.id}, func(scan func(...any) error) error {
			var m store.CarriedMessage
			if err := scan(&m.UID, &m.ModSeq, &m.System, &m.Keywords, &m.Internal, &m.Zone, &m.Saved, &m.SentCopy, &m.Prefix, &m.Digest); err != nil {
				return err
			}
			return e.Encode(m)
		})
	if err != nil {
		return "", err
	}
	err = tx.Query("SELECT modseq, uid FROM expunged WHERE mailbox=? ORDER BY modseq, uid", []any{r.id}, func(scan func(...any) error) error {
		var x store.CarriedExpunge
		if err := scan(&x.ModSeq, &x.UID); err != nil {
			return err
		}
		return e.Encode(x)
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// annotations are those of a mailbox, 0: of the server, that count for an account.
func annotations(tx *sqlite.Tx, mailbox, account int64) (list []store.Annotation, err error) {
	err = tx.Query("SELECT entry, value FROM annotation WHERE mailbox=? AND account=? ORDER BY entry", []any{mailbox, account}, func(scan func(...any) error) error {
		var a store.Annotation
		err := scan(&a.Entry, &a.Value)
		list = append(list, a)
		return err
	})
	return list, err
}

func subscribed(tx *sqlite.Tx, account int64) (names []string, err error) {
	err = tx.Query("SELECT name FROM subscription WHERE account=? ORDER BY name", []any{account}, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}
