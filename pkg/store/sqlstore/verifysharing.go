package sqlstore

import (
	"context"
	"fmt"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// sharing looks for what is kept of mailboxes and messages that are gone.
func (i *inspection) sharing(ctx context.Context) error {
	for _, x := range [...]struct{ what, table, gone string }{
		{"rights on mailboxes", "acl", "NOT EXISTS (SELECT 1 FROM mailbox WHERE id=acl.mailbox)"},
		{"metadata", "annotation", "mailbox<>0 AND NOT EXISTS (SELECT 1 FROM mailbox WHERE id=annotation.mailbox)"},
		{`users' own \Seen flags`, "seen", "NOT EXISTS (SELECT 1 FROM message WHERE message.mailbox=seen.mailbox AND message.uid=seen.uid)"},
	} {
		var n int
		if err := i.s.db.Read(ctx, func(tx *sqlite.Tx) error {
			_, err := tx.Get("SELECT count(*) FROM "+x.table+" WHERE "+x.gone, nil, &n)
			return err
		}); err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if err := i.try(ctx, store.Fault{What: fmt.Sprintf("%s of what is gone: %d entries", x.what, n)}, func(g *group) error {
			_, _, err := g.Exec("DELETE FROM " + x.table + " WHERE " + x.gone)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
