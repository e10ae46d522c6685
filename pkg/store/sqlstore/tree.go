package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"mailsrv/pkg/store"
)

// Create implements store.Account.
func (a *account) Create(ctx context.Context, name, use string) error {
	name, err := normalName(name)
	if err != nil {
		return err
	}
	return a.s.write(ctx, func(g *group) error {
		_, err := g.create(a.id, name, use)
		return err
	})
}

// create makes a mailbox and the levels above it that are missing.
func (g *group) create(account int64, name, use string) (int64, error) {
	if err := g.changeable(account); err != nil {
		return 0, err
	}
	var n int
	if _, err := g.Get("SELECT count(*) FROM mailbox WHERE account=?", []any{account}, &n); err != nil {
		return 0, err
	}
	full := func() error {
		if n++; n > maxMailboxes {
			return fmt.Errorf("%w: %d mailboxes", store.ErrTooMany, maxMailboxes)
		}
		return nil
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		var id int64
		if found, err := g.Get("SELECT id FROM mailbox WHERE account=? AND name=?", []any{account, name[:i]}, &id); err != nil {
			return 0, err
		} else if !found {
			if err := full(); err != nil {
				return 0, err
			}
			if id, err = g.insertMailbox(account, name[:i], "", false); err != nil {
				return 0, err
			}
			if err := g.inherit(account, name[:i], id); err != nil {
				return 0, err
			}
		}
	}
	// A name that a deletion left behind becomes a mailbox again, a new one.
	_, again, err := g.Exec("DELETE FROM mailbox WHERE account=? AND name=? AND noselect", account, name)
	if err != nil {
		return 0, err
	}
	n -= int(again)
	var taken int
	if found, err := g.Get("SELECT 1 FROM mailbox WHERE account=? AND name=?", []any{account, name}, &taken); err != nil || found {
		return 0, cmp.Or(err, store.ErrMailboxExists)
	}
	if err := full(); err != nil {
		return 0, err
	}
	id, err := g.insertMailbox(account, name, use, false)
	if err != nil {
		return 0, err
	}
	g.names[place{account, name}] = id
	return id, g.inherit(account, name, id)
}

// fits returns ErrBadName if a name below one that is renamed would become too
// long or too deep: nobody could open that mailbox any more.
func (g *group) fits(account int64, from, to string) error {
	return g.Query("SELECT name FROM mailbox WHERE account=? AND name>?||'/' AND name<?||'0'", []any{account, from, from}, func(scan func(...any) error) error {
		var name string
		if err := scan(&name); err != nil {
			return err
		}
		if _, err := normalName(to + name[len(from):]); err != nil {
			return fmt.Errorf("%w: %.40q below it would not fit", err, name)
		}
		return nil
	})
}

// insertMailbox makes a mailbox with a UIDVALIDITY that was never used before.
func (g *group) insertMailbox(account int64, name, use string, noSelect bool) (int64, error) {
	if _, _, err := g.Exec(`INSERT INTO counter (name, value) VALUES ('uidvalidity', ?)
		ON CONFLICT (name) DO UPDATE SET value=max(value+1, excluded.value)`, g.s.o.Now().Unix()); err != nil {
		return 0, err
	}
	g.treeChanged(account)
	id, _, err := g.Exec(`INSERT INTO mailbox (account, name, uidvalidity, use, noselect)
		VALUES (?, ?, (SELECT value FROM counter WHERE name='uidvalidity'), ?, ?)`, account, name, use, noSelect)
	return id, err
}

// named returns the mailbox of that name. ErrNoMailbox.
func (g *group) named(account int64, name string) (id int64, err error) {
	at := place{account, name}
	if id = g.names[at]; id != 0 {
		return id, nil
	}
	found, err := g.Get("SELECT id FROM mailbox WHERE account=? AND name=? AND NOT noselect", []any{account, name}, &id)
	if err != nil || !found {
		return 0, cmp.Or(err, store.ErrNoMailbox)
	}
	g.names[at] = id
	return id, nil
}

// Delete implements store.Account.
func (a *account) Delete(ctx context.Context, name string) error {
	name, err := normalName(name)
	if err != nil {
		return store.ErrNoMailbox
	}
	if name == "INBOX" {
		return store.ErrInbox
	}
	return a.s.write(ctx, func(g *group) error {
		if err := g.changeable(a.id); err != nil {
			return err
		}
		var id int64
		var noSelect, children bool
		found, err := g.Get(`SELECT id, noselect, EXISTS (SELECT 1 FROM mailbox c WHERE c.account=m.account AND c.name>m.name||'/' AND c.name<m.name||'0')
			FROM mailbox m WHERE account=? AND name=?`, []any{a.id, name}, &id, &noSelect, &children)
		switch {
		case err != nil:
			return err
		case !found:
			return store.ErrNoMailbox
		case noSelect && children:
			return store.ErrHasChildren
		}
		g.treeChanged(a.id)
		if err := g.eraseMailbox(id, noSelect, g.s.o.Now().Unix()); err != nil {
			return err
		}
		if children {
			_, err = g.insertMailbox(a.id, name, "", true)
		}
		return err
	})
}

// eraseMailbox deletes a mailbox; its messages count as removed at that time,
// in seconds since 1970, and can be had again until they are purged; 0: not.
func (g *group) eraseMailbox(id int64, noSelect bool, at int64) error {
	if !noSelect {
		c, err := g.mailbox(id)
		if err != nil {
			return err
		}
		g.treeChanged(c.row.account)
		g.kill(c)
	}
	if _, _, err := g.Exec(removeQuery, at, id); err != nil {
		return err
	}
	for _, q := range [...]string{"DELETE FROM message WHERE mailbox=?", "DELETE FROM expunged WHERE mailbox=?",
		"DELETE FROM delivered WHERE mailbox=?", "DELETE FROM listing WHERE mailbox=?",
		"DELETE FROM acl WHERE mailbox=?", "DELETE FROM seen WHERE mailbox=?", "DELETE FROM annotation WHERE mailbox=?",
		"DELETE FROM mailbox WHERE id=?"} {
		if _, _, err := g.Exec(q, id); err != nil {
			return err
		}
	}
	return nil
}

// Rename implements store.Account.
func (a *account) Rename(ctx context.Context, from, to string) error {
	from, err := normalName(from)
	if err != nil {
		return store.ErrNoMailbox
	}
	if to, err = normalName(to); err != nil {
		return err
	}
	if strings.HasPrefix(to, from+"/") && from != "INBOX" {
		return fmt.Errorf("%w: a mailbox cannot move below itself", store.ErrBadName)
	}
	if from == "INBOX" {
		return a.renameInbox(ctx, to)
	}
	return a.s.write(ctx, func(g *group) error {
		if err := g.changeable(a.id); err != nil {
			return err
		}
		var id int64
		if found, err := g.Get("SELECT id FROM mailbox WHERE account=? AND name=?", []any{a.id, from}, &id); err != nil || !found {
			return cmp.Or(err, store.ErrNoMailbox)
		}
		var taken int
		if found, err := g.Get("SELECT 1 FROM mailbox WHERE account=? AND (name=? OR name>?||'/' AND name<?||'0') LIMIT 1", []any{a.id, to, to, to}, &taken); err != nil || found {
			return cmp.Or(err, store.ErrMailboxExists)
		}
		if err := g.fits(a.id, from, to); err != nil {
			return err
		}
		g.treeChanged(a.id)
		clear(g.names)
		// Makes the levels above; the row of to itself is the renamed one.
		if i := strings.LastIndexByte(to, '/'); i > 0 {
			if _, err := g.create(a.id, to[:i], ""); err != nil && err != store.ErrMailboxExists {
				return err
			}
		}
		_, _, err := g.Exec(`UPDATE mailbox SET name=? || substr(name, length(?)+1) WHERE account=? AND (name=? OR name>?||'/' AND name<?||'0')`,
			to, from, a.id, from, from, from)
		return err
	})
}
