package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

var _ store.Sharer = (*Store)(nil)

// Granted implements store.Sharer.
func (s *Store) Granted(ctx context.Context, identifiers []string) (list []store.SharedMailbox, err error) {
	args := make([]any, len(identifiers))
	for i, id := range identifiers {
		args[i] = id
	}
	query := `SELECT account.name, mailbox.name, noselect, use, identifier, rights
		FROM acl JOIN mailbox ON mailbox.id=acl.mailbox JOIN account ON account.id=mailbox.account
		WHERE acl.mailbox IN (SELECT mailbox FROM acl WHERE identifier IN (?` + strings.Repeat(",?", max(len(args)-1, 0)) + `)
			UNION SELECT mailbox FROM acl WHERE identifier>='` + store.GroupPrefix + `' AND identifier<'group>')
		ORDER BY account.name, mailbox.name, identifier`
	if len(args) == 0 {
		args = append(args, nil)
	}
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		list = list[:0]
		return tx.Query(query, args, func(scan func(...any) error) error {
			var m store.SharedMailbox
			var g store.Grant
			var letters string
			err := scan(&m.Account, &m.Name, &m.NoSelect, &m.SpecialUse, &g.Identifier, &letters)
			if err == nil {
				g.Rights, err = store.ParseRights(letters)
			}
			if n := len(list) - 1; n < 0 || list[n].Account != m.Account || list[n].Name != m.Name {
				list = append(list, m)
			}
			list[len(list)-1].ACL = append(list[len(list)-1].ACL, g)
			return err
		})
	})
	return list, failure(err)
}

// placed returns the mailbox of that name in the account of that name.
// ErrNoMailbox.
func placed(tx *sqlite.Tx, account, name string) (m mailbox, noSelect bool, err error) {
	if m.name, err = normalName(name); err != nil {
		return m, false, store.ErrNoMailbox
	}
	found, err := tx.Get("SELECT mailbox.id, account.id, noselect FROM account JOIN mailbox ON mailbox.account=account.id WHERE account.name=? AND mailbox.name=?",
		[]any{account, m.name}, &m.id, &m.account, &noSelect)
	if err == nil && !found {
		err = store.ErrNoMailbox
	}
	return m, noSelect, err
}

func readACL(tx *sqlite.Tx, mailbox int64) (l store.ACL, err error) {
	err = tx.Query("SELECT identifier, rights FROM acl WHERE mailbox=? ORDER BY identifier", []any{mailbox}, func(scan func(...any) error) error {
		var g store.Grant
		var letters string
		err := scan(&g.Identifier, &letters)
		if err == nil {
			g.Rights, err = store.ParseRights(letters)
		}
		l = append(l, g)
		return err
	})
	return l, err
}

// ACL implements store.Sharer.
func (s *Store) ACL(ctx context.Context, account, name string) (l store.ACL, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		m, _, err := placed(tx, account, name)
		if err == nil {
			l, err = readACL(tx, m.id)
		}
		return err
	})
	return l, failure(err)
}

// SetACL implements store.Sharer.
func (s *Store) SetACL(ctx context.Context, account, name, identifier string, change store.RightsChange, r store.Rights) error {
	err := s.write(ctx, func(g *group) error {
		m, noSelect, err := placed(g.Tx, account, name)
		if err == nil && noSelect {
			err = store.ErrNoMailbox
		}
		if err == nil {
			err = g.changeable(m.account)
		}
		if err != nil {
			return err
		}
		l, err := readACL(g.Tx, m.id)
		if err == nil {
			l, err = l.With(identifier, change, r)
		}
		if err != nil {
			return err
		}
		if _, _, err = g.Exec("DELETE FROM acl WHERE mailbox=? AND identifier=?", m.id, identifier); err != nil {
			return err
		}
		for _, e := range l {
			if e.Identifier == identifier {
				_, _, err = g.Exec("INSERT INTO acl (mailbox, identifier, rights) VALUES (?,?,?)", m.id, identifier, e.Rights.String())
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("setting rights of %q on %s of %s: %w", identifier, name, account, err)
	}
	return nil
}

// inherit gives a new mailbox the list of the one above it.
func (g *group) inherit(account int64, name string, id int64) error {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return nil
	}
	_, _, err := g.Exec(`INSERT OR IGNORE INTO acl (mailbox, identifier, rights)
		SELECT ?, identifier, rights FROM acl WHERE mailbox=(SELECT id FROM mailbox WHERE account=? AND name=?)`, id, account, name[:i])
	return err
}

// OpenAs implements store.Sharer.
func (s *Store) OpenAs(ctx context.Context, account, name, reader string) (store.SharedBox, error) {
	box := &sharedBox{}
	by := &readerMarks{}
	err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		m, noSelect, err := placed(tx, account, name)
		if err != nil {
			return err
		}
		found, err := tx.Get("SELECT id FROM account WHERE name=?", []any{reader}, &by.account)
		if err == nil && (noSelect || !found) {
			err = store.ErrNoMailbox
		}
		box.mailbox = m
		return err
	})
	if err != nil {
		return nil, failure(err)
	}
	box.s, box.reader = s, by
	return box, nil
}

// sharedBox is a mailbox as it is to a reader.
type sharedBox struct{ mailbox }

// ACL implements store.SharedBox.
func (b *sharedBox) ACL(ctx context.Context) (l store.ACL, err error) {
	err = b.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		if _, err := readRow(tx, b.id); err != nil {
			return err
		}
		l, err = readACL(tx, b.id)
		return err
	})
	return l, failure(err)
}
