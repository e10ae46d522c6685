package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

var (
	_ store.Annotator       = (*Store)(nil)
	_ store.MetadataWatcher = (*Store)(nil)
)

// metadata: account is who an entry counts for, the owner or the reader.
const metadata = `
CREATE TABLE annotation (
	mailbox INTEGER NOT NULL, -- 0: the server
	account INTEGER NOT NULL,
	entry   TEXT NOT NULL,
	value   BLOB NOT NULL,
	PRIMARY KEY (mailbox, account, entry)
) WITHOUT ROWID;
CREATE INDEX annotation_account ON annotation (account, length(value))`

// annotated finds the mailbox and the accounts for which its shared and private
// entries count. The server's shared entries have no account before they are
// made.
func annotated(tx *sqlite.Tx, account, name, reader string) (m mailbox, shared, private int64, err error) {
	if name != "" {
		noSelect := false
		if m, noSelect, err = placed(tx, account, name); err == nil && noSelect {
			err = store.ErrNoMailbox
		}
		shared = m.account
	} else {
		_, err = tx.Get("SELECT id FROM account WHERE name=?", []any{account}, &shared)
	}
	if err == nil {
		_, err = tx.Get("SELECT id FROM account WHERE name=?", []any{reader}, &private)
	}
	return m, shared, private, err
}

// Annotations implements store.Annotator.
func (s *Store) Annotations(ctx context.Context, account, mailbox, reader string) (list []store.Annotation, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		list = nil
		m, shared, private, err := annotated(tx, account, mailbox, reader)
		if err != nil {
			return err
		}
		return tx.Query(`SELECT entry, value FROM annotation WHERE mailbox=? AND
			(account=? AND entry LIKE '/private/%' OR account=? AND entry LIKE '/shared/%') ORDER BY entry`, []any{m.id, private, shared},
			func(scan func(...any) error) error {
				var a store.Annotation
				err := scan(&a.Entry, &a.Value)
				if a.Value == nil {
					a.Value = []byte{}
				}
				list = append(list, a)
				return err
			})
	})
	return list, failure(err)
}

// Annotate implements store.Annotator.
func (s *Store) Annotate(ctx context.Context, account, mailbox, reader string, changes []store.Annotation) error {
	err := s.write(ctx, func(g *group) error {
		m, shared, private, err := annotated(g.Tx, account, mailbox, reader)
		if err == nil && (shared == 0 || private == 0) {
			err = errors.New("an account that does not exist cannot have metadata")
		}
		if err == nil {
			err = cmp.Or(g.changeable(shared), g.changeable(private))
		}
		if err != nil {
			return err
		}
		for _, c := range changes {
			holder := shared
			if strings.HasPrefix(c.Entry, "/private/") {
				holder = private
			}
			if err := g.annotate(m.id, holder, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("annotating %q of %s: %w", mailbox, account, err)
	}
	told := store.MetadataChange{Account: account, Mailbox: mailbox, Reader: reader}
	for _, c := range changes {
		told.Entries = append(told.Entries, c.Entry)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.annotations {
		(*w)(told)
	}
	return nil
}

// WatchMetadata implements store.MetadataWatcher.
func (s *Store) WatchMetadata(told func(store.MetadataChange)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.annotations[&told] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.annotations, &told)
	}
}

func (g *group) annotate(mailbox, holder int64, c store.Annotation) error {
	if c.Value == nil {
		_, _, err := g.Exec("DELETE FROM annotation WHERE mailbox=? AND account=? AND entry=?", mailbox, holder, c.Entry)
		return err
	}
	if _, _, err := g.Exec("INSERT OR REPLACE INTO annotation (mailbox, account, entry, value) VALUES (?,?,?,?)", mailbox, holder, c.Entry, c.Value); err != nil {
		return err
	}
	var n, size int64
	if _, err := g.Get("SELECT count(*) FROM annotation WHERE mailbox=? AND account=? AND entry LIKE ?", []any{mailbox, holder, c.Entry[:strings.IndexByte(c.Entry[1:], '/')+2] + "%"}, &n); err != nil {
		return err
	}
	if _, err := g.Get("SELECT coalesce(sum(length(value)), 0) FROM annotation WHERE account=?", []any{holder}, &size); err != nil {
		return err
	}
	if n > store.MaxAnnotations || size > store.MaxAnnotated {
		return fmt.Errorf("%w: %d entries, %d bytes in all", store.ErrTooMany, n, size)
	}
	return nil
}
