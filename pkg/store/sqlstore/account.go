package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// Limits of an account (hardening.md section 3).
const (
	maxMailboxes = 5000
	maxName      = 255
	maxLevels    = 20
)

type account struct {
	s    *Store
	id   int64
	name string
}

var _ store.Account = (*account)(nil)

// Account implements store.Store.
func (s *Store) Account(ctx context.Context, name string) (store.Account, error) {
	a := &account{s: s, name: name}
	found := false
	err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		found, err = tx.Get("SELECT id FROM account WHERE name=?", []any{name}, &a.id)
		return err
	})
	if err == nil && !found {
		err = s.write(ctx, func(g *group) (err error) {
			a.id, err = g.account(name)
			return err
		})
	}
	if err != nil {
		return nil, failure(fmt.Errorf("opening account %s: %w", name, err))
	}
	return a, nil
}

// account returns the account's id, and makes it with its mailboxes if it is
// new.
func (g *group) account(name string) (id int64, err error) {
	if id = g.accounts[name]; id != 0 {
		return id, nil
	}
	found, err := g.Get("SELECT id FROM account WHERE name=?", []any{name}, &id)
	if err != nil {
		return 0, err
	}
	if !found {
		if id, err = g.newAccount(name); err != nil {
			return 0, err
		}
	}
	g.accounts[name] = id
	return id, nil
}

func (g *group) newAccount(name string) (id int64, err error) {
	if id, err = g.insertAccount(name, store.HoldNone); err != nil {
		return 0, err
	}
	if store.IsSharedAccount(name) {
		return id, nil
	}
	for _, m := range append([]store.MailboxEntry{{Name: "INBOX"}}, g.s.o.Mailboxes...) {
		if _, err := g.insertMailbox(id, m.Name, m.SpecialUse, false); err != nil {
			return 0, err
		}
		if _, _, err := g.Exec("INSERT INTO subscription (account, name) VALUES (?,?)", id, m.Name); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// Name implements store.Account.
func (a *account) Name() string { return a.name }

// normalName brings INBOX, alone or as the first level, into its one spelling,
// and refuses names that cannot be.
func normalName(name string) (string, error) {
	first, rest, more := strings.Cut(name, "/")
	if strings.EqualFold(first, "INBOX") {
		if name = "INBOX"; more {
			name += "/" + rest
		}
	}
	switch {
	case name == "", len(name) > maxName, !utf8.ValidString(name), strings.Count(name, "/") >= maxLevels,
		strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.Contains(name, "//"),
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 }):
		return "", store.ErrBadName
	}
	return name, nil
}

// Mailboxes implements store.Account.
func (a *account) Mailboxes(ctx context.Context) ([]store.MailboxEntry, error) {
	var list []store.MailboxEntry
	err := a.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		list = list[:0]
		if err := tx.Query(`SELECT id, name, noselect, use, EXISTS (SELECT 1 FROM subscription s WHERE s.account=m.account AND s.name=m.name)
			FROM mailbox m WHERE account=?`, []any{a.id}, func(scan func(...any) error) error {
			var e store.MailboxEntry
			err := scan(&e.ID, &e.Name, &e.NoSelect, &e.SpecialUse, &e.Subscribed)
			list = append(list, e)
			return err
		}); err != nil {
			return err
		}
		return tx.Query(`SELECT name FROM subscription s WHERE account=? AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.account=s.account AND m.name=s.name)`,
			[]any{a.id}, func(scan func(...any) error) error {
				e := store.MailboxEntry{NonExistent: true, Subscribed: true}
				err := scan(&e.Name)
				list = append(list, e)
				return err
			})
	})
	slices.SortFunc(list, func(x, y store.MailboxEntry) int {
		if x.Name == "INBOX" || y.Name == "INBOX" {
			return cmp.Compare(btoi(x.Name != "INBOX"), btoi(y.Name != "INBOX"))
		}
		// With the separator first, inferiors come right after their superior.
		return strings.Compare(strings.ReplaceAll(x.Name, "/", "\x00"), strings.ReplaceAll(y.Name, "/", "\x00"))
	})
	parents := map[string]bool{}
	for _, e := range list {
		if !e.NonExistent {
			for i := strings.LastIndexByte(e.Name, '/'); i > 0; i = strings.LastIndexByte(e.Name[:i], '/') {
				parents[e.Name[:i]] = true
			}
		}
	}
	for i := range list {
		list[i].HasChildren = parents[list[i].Name]
	}
	return list, failure(err)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Open implements store.Account.
func (a *account) Open(ctx context.Context, name string) (store.Mailbox, error) {
	name, err := normalName(name)
	if err != nil {
		return nil, store.ErrNoMailbox
	}
	m := &mailbox{s: a.s, account: a.id}
	found := false
	err = a.s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		found, err = tx.Get("SELECT id FROM mailbox WHERE account=? AND name=? AND NOT noselect", []any{a.id, name}, &m.id)
		return err
	})
	if err == nil && !found {
		err = store.ErrNoMailbox
	}
	if err != nil {
		return nil, failure(err)
	}
	m.name = name
	return m, nil
}

// Subscribe implements store.Account.
func (a *account) Subscribe(ctx context.Context, name string, on bool) error {
	name, err := normalName(name)
	if err != nil {
		return err
	}
	return a.s.write(ctx, func(g *group) error {
		if err := g.changeable(a.id); err != nil {
			return err
		}
		g.treeChanged(a.id)
		var n int
		if _, err := g.Get("SELECT count(*) FROM subscription WHERE account=?", []any{a.id}, &n); err != nil {
			return err
		}
		if on && n >= 2*maxMailboxes {
			return fmt.Errorf("%w: %d subscriptions", store.ErrTooMany, n)
		}
		query := "DELETE FROM subscription WHERE account=? AND name=?"
		if on {
			query = "INSERT OR IGNORE INTO subscription (account, name) VALUES (?,?)"
		}
		_, _, err := g.Exec(query, a.id, name)
		return err
	})
}

// Usage implements store.Account.
func (a *account) Usage(ctx context.Context) (u store.Usage, err error) {
	err = a.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		u, err = usage(tx, a.id)
		return err
	})
	return u, failure(err)
}

func usage(tx *sqlite.Tx, account int64) (u store.Usage, err error) {
	_, err = tx.Get("SELECT coalesce(sum(bytes), 0), coalesce(sum(messages), 0) FROM mailbox WHERE account=?", []any{account}, &u.Bytes, &u.Messages)
	return u, err
}

// WatchTree implements store.TreeWatcher.
func (a *account) WatchTree(wake func()) (stop func()) { return a.s.watch(treeOf(a.id), wake) }

// treeOf is an account's tree among what is watched, beside the mailboxes.
func treeOf(account int64) int64 { return -account }
