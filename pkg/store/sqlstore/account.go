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
		err = s.db.Write(ctx, func(tx *sqlite.Tx) (err error) {
			a.id, err = s.ensureAccount(tx, name)
			return err
		})
	}
	if err != nil {
		return nil, failure(fmt.Errorf("opening account %s: %w", name, err))
	}
	return a, nil
}

// ensureAccount returns the account's id, and makes it with its mailboxes if
// it is new.
func (s *Store) ensureAccount(tx *sqlite.Tx, name string) (id int64, err error) {
	if found, err := tx.Get("SELECT id FROM account WHERE name=?", []any{name}, &id); err != nil || found {
		return id, err
	}
	if id, _, err = tx.Exec("INSERT INTO account (name) VALUES (?)", name); err != nil {
		return 0, err
	}
	for _, m := range append([]store.MailboxEntry{{Name: "INBOX"}}, s.o.Mailboxes...) {
		if _, err := s.insertMailbox(tx, id, m.Name, m.SpecialUse, false); err != nil {
			return 0, err
		}
		if _, _, err := tx.Exec("INSERT INTO subscription (account, name) VALUES (?,?)", id, m.Name); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// insertMailbox makes a mailbox with a UIDVALIDITY that was never used before.
func (s *Store) insertMailbox(tx *sqlite.Tx, account int64, name, use string, noSelect bool) (int64, error) {
	now := s.o.Now().Unix()
	if _, _, err := tx.Exec(`INSERT INTO counter (name, value) VALUES ('uidvalidity', ?)
		ON CONFLICT (name) DO UPDATE SET value=max(value+1, excluded.value)`, now); err != nil {
		return 0, err
	}
	id, _, err := tx.Exec(`INSERT INTO mailbox (account, name, uidvalidity, use, noselect)
		VALUES (?, ?, (SELECT value FROM counter WHERE name='uidvalidity'), ?, ?)`, account, name, use, noSelect)
	return id, err
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
		if err := tx.Query(`SELECT name, noselect, use, EXISTS (SELECT 1 FROM subscription s WHERE s.account=m.account AND s.name=m.name)
			FROM mailbox m WHERE account=?`, []any{a.id}, func(scan func(...any) error) error {
			var e store.MailboxEntry
			err := scan(&e.Name, &e.NoSelect, &e.SpecialUse, &e.Subscribed)
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

// write runs one change of the account's tree and wakes who watches.
func (a *account) write(ctx context.Context, fn func(*sqlite.Tx) error, wake ...int64) error {
	err := a.s.db.Write(ctx, fn)
	if err == nil {
		a.s.wake(wake...)
	}
	return failure(err)
}

// Create implements store.Account.
func (a *account) Create(ctx context.Context, name, use string) error {
	name, err := normalName(name)
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *sqlite.Tx) error {
		_, err := a.s.create(tx, a.id, name, use)
		return err
	})
}

// create makes a mailbox and the levels above it that are missing.
func (s *Store) create(tx *sqlite.Tx, account int64, name, use string) (int64, error) {
	var n int
	if _, err := tx.Get("SELECT count(*) FROM mailbox WHERE account=?", []any{account}, &n); err != nil {
		return 0, err
	}
	if n >= maxMailboxes {
		return 0, fmt.Errorf("%w: %d mailboxes", store.ErrTooMany, n)
	}
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		var id int64
		if found, err := tx.Get("SELECT id FROM mailbox WHERE account=? AND name=?", []any{account, name[:i]}, &id); err != nil {
			return 0, err
		} else if !found {
			if _, err := s.insertMailbox(tx, account, name[:i], "", false); err != nil {
				return 0, err
			}
		}
	}
	// A name that a deletion left behind becomes a mailbox again, a new one.
	if _, _, err := tx.Exec("DELETE FROM mailbox WHERE account=? AND name=? AND noselect", account, name); err != nil {
		return 0, err
	}
	id, err := s.insertMailbox(tx, account, name, use, false)
	if sqlite.IsUnique(err) {
		err = store.ErrMailboxExists
	}
	return id, err
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
	var id int64
	bodies := map[int64]bool{}
	d := &dropped{}
	err = a.write(ctx, func(tx *sqlite.Tx) error {
		var noSelect, children bool
		found, err := tx.Get(`SELECT id, noselect, EXISTS (SELECT 1 FROM mailbox c WHERE c.account=m.account AND c.name>m.name||'/' AND c.name<m.name||'0')
			FROM mailbox m WHERE account=? AND name=?`, []any{a.id, name}, &id, &noSelect, &children)
		switch {
		case err != nil:
			return err
		case !found:
			return store.ErrNoMailbox
		case noSelect && children:
			return store.ErrHasChildren
		}
		if err := eraseMailbox(tx, id, bodies); err != nil {
			return err
		}
		if children {
			if _, err := a.s.insertMailbox(tx, a.id, name, "", true); err != nil {
				return err
			}
		}
		d.files, err = dropBodies(tx, bodies)
		return err
	})
	if err == nil {
		a.s.wake(id)
		a.s.removeFiles(context.WithoutCancel(ctx), d.files)
	}
	return err
}

func eraseMailbox(tx *sqlite.Tx, id int64, bodies map[int64]bool) error {
	if err := tx.Query("SELECT DISTINCT body FROM message WHERE mailbox=?", []any{id}, func(scan func(...any) error) error {
		var b int64
		err := scan(&b)
		bodies[b] = true
		return err
	}); err != nil {
		return err
	}
	for _, q := range [...]string{"DELETE FROM message WHERE mailbox=?", "DELETE FROM expunged WHERE mailbox=?",
		"DELETE FROM delivered WHERE mailbox=?", "DELETE FROM mailbox WHERE id=?"} {
		if _, _, err := tx.Exec(q, id); err != nil {
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
	return a.write(ctx, func(tx *sqlite.Tx) error {
		var id int64
		if found, err := tx.Get("SELECT id FROM mailbox WHERE account=? AND name=?", []any{a.id, from}, &id); err != nil || !found {
			return cmp.Or(err, store.ErrNoMailbox)
		}
		var taken int
		if found, err := tx.Get("SELECT 1 FROM mailbox WHERE account=? AND (name=? OR name>?||'/' AND name<?||'0') LIMIT 1", []any{a.id, to, to, to}, &taken); err != nil || found {
			return cmp.Or(err, store.ErrMailboxExists)
		}
		// Makes the levels above; the row of to itself is the renamed one.
		if i := strings.LastIndexByte(to, '/'); i > 0 {
			if _, err := a.s.create(tx, a.id, to[:i], ""); err != nil && err != store.ErrMailboxExists {
				return err
			}
		}
		_, _, err := tx.Exec(`UPDATE mailbox SET name=? || substr(name, length(?)+1) WHERE account=? AND (name=? OR name>?||'/' AND name<?||'0')`,
			to, from, a.id, from, from, from)
		return err
	})
}

// renameInbox moves INBOX's messages to a new mailbox (RFC 9051 §6.3.6).
func (a *account) renameInbox(ctx context.Context, to string) error {
	inbox := &mailbox{s: a.s, account: a.id, name: "INBOX"}
	err := a.write(ctx, func(tx *sqlite.Tx) error {
		if _, err := a.s.create(tx, a.id, to, ""); err != nil {
			return err
		}
		if found, err := tx.Get("SELECT id FROM mailbox WHERE account=? AND name='INBOX'", []any{a.id}, &inbox.id); err != nil || !found {
			return cmp.Or(err, store.ErrNoMailbox)
		}
		_, _, err := inbox.transferIn(tx, store.AllUIDs(), to, store.NoQuota(), true)
		return err
	})
	if err == nil {
		a.s.wake(inbox.id)
	}
	return err
}

// Subscribe implements store.Account.
func (a *account) Subscribe(ctx context.Context, name string, on bool) error {
	name, err := normalName(name)
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *sqlite.Tx) error {
		var n int
		if _, err := tx.Get("SELECT count(*) FROM subscription WHERE account=?", []any{a.id}, &n); err != nil {
			return err
		}
		if on && n >= 2*maxMailboxes {
			return fmt.Errorf("%w: %d subscriptions", store.ErrTooMany, n)
		}
		query := "DELETE FROM subscription WHERE account=? AND name=?"
		if on {
			query = "INSERT OR IGNORE INTO subscription (account, name) VALUES (?,?)"
		}
		_, _, err := tx.Exec(query, a.id, name)
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

// room returns ErrOverQuota unless n more messages of size bytes in all fit.
func room(tx *sqlite.Tx, account int64, q store.Quota, size, n int64) error {
	if q.Bytes < 0 && q.Messages < 0 {
		return nil
	}
	u, err := usage(tx, account)
	if err != nil {
		return err
	}
	if q.Bytes >= 0 && u.Bytes+size > q.Bytes || q.Messages >= 0 && u.Messages+n > q.Messages {
		return store.ErrOverQuota
	}
	return nil
}
