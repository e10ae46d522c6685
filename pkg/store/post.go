package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// recipient finds who has an address, perhaps with a +detail of his own behind
// it (RFC 5233), which it returns.
func (d *Deliverer) recipient(ctx context.Context, a mail.Address) (who directory.Recipient, detail string, err error) {
	who, err = d.directory.Recipient(ctx, a)
	base, detail, sub := strings.Cut(a.Local, "+")
	if !sub || base == "" || !errors.Is(err, directory.ErrNotFound) {
		return who, "", err
	}
	who, err = d.directory.Recipient(ctx, mail.Address{Local: base, Domain: a.Domain})
	return who, detail, err
}

// posted is the mailbox of an account that mail to its +detail goes to: the one
// of that name, in any case, if the right p lets anyone post to it (RFC 4314
// §2.1); else INBOX, which is the empty name. Who sends is not known for sure,
// so what a user or a group is granted does not count.
func (d *Deliverer) posted(ctx context.Context, account, detail string) (string, error) {
	sharer, ok := d.store.(Sharer)
	if !ok {
		return "", nil
	}
	open, err := sharer.Granted(ctx, []string{Anyone})
	if err != nil {
		return "", fmt.Errorf("finding where mail to +%s may be posted: %w", detail, err)
	}
	found := ""
	for _, m := range open {
		if m.Account != account || m.NoSelect || !strings.EqualFold(m.Name, detail) || found == detail {
			continue
		}
		r, err := m.ACL.Rights(func(id string) (bool, error) { return id == Anyone, nil })
		if err == nil && r.Has(RightPost) {
			found = m.Name
		}
	}
	return found, nil
}
