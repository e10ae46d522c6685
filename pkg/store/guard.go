package store

import (
	"context"
	"iter"
	"time"

	"mailsrv/pkg/mail"
)

// Guarded is a mailbox that the user does not own.
type Guarded interface {
	Mailbox
	// Rights are the user's, now. ErrNoMailbox if there are none.
	Rights(ctx context.Context) (Rights, error)
	// Owner is the account that has the mailbox, and its quota. The name is that
	// of its quota root: the prefix of its mailboxes.
	Owner(ctx context.Context) (root string, a Account, q Quota, err error)
}

// RightsOn are the user's rights on a mailbox of a session's account.
func RightsOn(ctx context.Context, m Mailbox) (Rights, error) {
	if g, ok := m.(Guarded); ok {
		return g.Rights(ctx)
	}
	return AllRights, nil
}

// ownBox is a mailbox of the user's own: what it copies may go elsewhere.
type ownBox struct {
	Mailbox
	n *Namespaces
}

// Copy implements Mailbox.
func (b *ownBox) Copy(ctx context.Context, uids UIDSet, dst string, q Quota) (CopyResult, error) {
	if b.n.route(dst).account == "" {
		return b.Mailbox.Copy(ctx, uids, dst, q)
	}
	return b.n.transfer(ctx, b.Mailbox, uids, dst, false)
}

// Move implements Mailbox.
func (b *ownBox) Move(ctx context.Context, uids UIDSet, dst string) (CopyResult, error) {
	if b.n.route(dst).account == "" {
		return b.Mailbox.Move(ctx, uids, dst)
	}
	return b.n.transfer(ctx, b.Mailbox, uids, dst, true)
}

// Replace implements Mailbox.
func (b *ownBox) Replace(ctx context.Context, uid UID, dst string, by Incoming, q Quota) (UID, error) {
	if b.n.route(dst).account == "" {
		return b.Mailbox.Replace(ctx, uid, dst, by, q)
	}
	return b.n.replace(ctx, b.Mailbox, uid, dst, by, q)
}

// transfer copies or moves messages of a mailbox of the engine's to a name of
// the user's.
func (n *Namespaces) transfer(ctx context.Context, from Mailbox, uids UIDSet, dst string, move bool) (CopyResult, error) {
	p := n.route(dst)
	if p.account == "" {
		to, err := n.own.Open(ctx, dst)
		if err != nil {
			return CopyResult{}, err
		}
		return n.sharer.Transfer(ctx, from, uids, to, AllRights, QuotaOf(n.user, n.defaults), move)
	}
	to, err := n.openShared(ctx, p)
	if err != nil {
		return CopyResult{}, err
	}
	have, err := to.need(ctx, RightInsert)
	if err != nil {
		return CopyResult{}, err
	}
	q, err := n.quotaOf(ctx, p.account)
	if err != nil {
		return CopyResult{}, err
	}
	r, err := n.sharer.Transfer(ctx, from, uids, to.box, have, q, move)
	if !have.Has(RightRead) {
		r = CopyResult{} // who may only put something in learns no UIDs
	}
	return r, err
}

// replace is Replace over accounts: the new message is there before the old one goes.
func (n *Namespaces) replace(ctx context.Context, from Mailbox, uid UID, dst string, by Incoming, q Quota) (UID, error) {
	to, err := n.Open(ctx, dst)
	if err != nil {
		return 0, err
	}
	there := false
	for _, err := range from.Messages(ctx, UIDsOf(uid), 0) {
		if err != nil {
			return 0, err
		}
		there = true
	}
	if !there {
		return 0, ErrNoMessage
	}
	added, err := to.AppendAll(ctx, []Incoming{by}, q)
	if err != nil {
		return 0, err
	}
	if _, err := from.Remove(ctx, UIDsOf(uid)); err != nil {
		return 0, err
	}
	return added[0], nil
}

// guardedBox is a mailbox of somebody else's: each method wants its right.
type guardedBox struct {
	box   SharedBox
	n     *Namespaces
	place place
}

var _ Guarded = (*guardedBox)(nil)

// Rights implements Guarded.
func (b *guardedBox) Rights(ctx context.Context) (Rights, error) {
	l, err := b.box.ACL(ctx)
	if err != nil {
		return 0, err
	}
	r, err := b.n.rights(ctx, b.place.account, l)
	if err == nil && r == 0 {
		err = ErrNoMailbox
	}
	return r, err
}

// need returns the user's rights, and an error unless those are among them.
func (b *guardedBox) need(ctx context.Context, r Rights) (Rights, error) {
	have, err := b.Rights(ctx)
	if err == nil && !have.Has(r) {
		err = lacking(have)
	}
	return have, err
}

// Owner implements Guarded.
func (b *guardedBox) Owner(ctx context.Context) (root string, a Account, q Quota, err error) {
	root = b.place.prefix[:len(b.place.prefix)-1]
	if a, err = b.n.store.Account(ctx, b.place.account); err == nil {
		q, err = b.n.quotaOf(ctx, b.place.account)
	}
	return root, a, q, err
}

// ID implements Mailbox.
func (b *guardedBox) ID() int64 { return b.box.ID() }

// Name implements Mailbox.
func (b *guardedBox) Name() string { return b.place.prefix + b.box.Name() }

// Status implements Mailbox.
func (b *guardedBox) Status(ctx context.Context) (Status, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return Status{}, err
	}
	return b.box.Status(ctx)
}

// Messages implements Mailbox.
func (b *guardedBox) Messages(ctx context.Context, uids UIDSet, fields Fields) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		if _, err := b.need(ctx, RightRead); err != nil {
			yield(nil, err)
			return
		}
		b.box.Messages(ctx, uids, fields)(yield)
	}
}

// Body implements Mailbox.
func (b *guardedBox) Body(ctx context.Context, uid UID) (MessageBody, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return nil, err
	}
	return b.box.Body(ctx, uid)
}

// Append implements Mailbox. The quota is the owner's, whatever q is.
func (b *guardedBox) Append(ctx context.Context, body mail.Body, flags Flags, internalDate time.Time, q Quota) (UID, error) {
	uids, err := b.AppendAll(ctx, []Incoming{{Body: body, Flags: flags, InternalDate: internalDate}}, q)
	if err != nil {
		return 0, err
	}
	return uids[0], nil
}

// AppendAll implements Mailbox. Flags that the user may not set are left out.
func (b *guardedBox) AppendAll(ctx context.Context, messages []Incoming, _ Quota) ([]UID, error) {
	have, err := b.need(ctx, RightInsert)
	if err != nil {
		return nil, err
	}
	q, err := b.n.quotaOf(ctx, b.place.account)
	if err != nil {
		return nil, err
	}
	allowed := make([]Incoming, len(messages))
	for i, in := range messages {
		in.Flags = have.Allowed(in.Flags)
		allowed[i] = in
	}
	return b.box.AppendAll(ctx, allowed, q)
}

// Replace implements Mailbox.
func (b *guardedBox) Replace(ctx context.Context, uid UID, dst string, by Incoming, q Quota) (UID, error) {
	if _, err := b.need(ctx, RightRead|RightExpunge|RightFlagGone); err != nil {
		return 0, err
	}
	return b.n.replace(ctx, b, uid, dst, by, q)
}

// StoreFlags implements Mailbox. Flags that the user may not change stay as they
// are; ErrNoRight if that is all of them (RFC 4314 §4).
func (b *guardedBox) StoreFlags(ctx context.Context, uids UIDSet, change FlagChange, unchangedSince ModSeq) (StoreResult, error) {
	have, err := b.need(ctx, RightRead)
	if err != nil {
		return StoreResult{}, err
	}
	change.Within = have & (RightSeen | RightWrite | RightFlagGone)
	allowed := have.Allowed(change.Flags)
	if change.Within == 0 || allowed.Equal(Flags{}) && !change.Flags.Equal(Flags{}) {
		return StoreResult{}, ErrNoRight
	}
	return b.box.StoreFlags(ctx, uids, change, unchangedSince)
}

// Expunge implements Mailbox.
func (b *guardedBox) Expunge(ctx context.Context, uids UIDSet) ([]UID, error) {
	if _, err := b.need(ctx, RightExpunge); err != nil {
		return nil, err
	}
	return b.box.Expunge(ctx, uids)
}

// Remove implements Mailbox.
func (b *guardedBox) Remove(ctx context.Context, uids UIDSet) ([]UID, error) {
	if _, err := b.need(ctx, RightExpunge|RightFlagGone); err != nil {
		return nil, err
	}
	return b.box.Remove(ctx, uids)
}

// Copy implements Mailbox.
func (b *guardedBox) Copy(ctx context.Context, uids UIDSet, dst string, _ Quota) (CopyResult, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return CopyResult{}, err
	}
	return b.n.transfer(ctx, b.box, uids, dst, false)
}

// Move implements Mailbox (RFC 6851 §4.2).
func (b *guardedBox) Move(ctx context.Context, uids UIDSet, dst string) (CopyResult, error) {
	if _, err := b.need(ctx, RightRead|RightExpunge|RightFlagGone); err != nil {
		return CopyResult{}, err
	}
	return b.n.transfer(ctx, b.box, uids, dst, true)
}

// Changes implements Mailbox.
func (b *guardedBox) Changes(ctx context.Context, since ModSeq) (Changes, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return Changes{}, err
	}
	return b.box.Changes(ctx, since)
}

// ClaimRecent implements Mailbox.
func (b *guardedBox) ClaimRecent(ctx context.Context, claim bool) (UID, error) {
	return b.box.ClaimRecent(ctx, claim)
}

// Watch implements Mailbox.
func (b *guardedBox) Watch(wake func()) (stop func()) { return b.box.Watch(wake) }
