package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// search holds the search index against the messages, and fills it again where
// it is not theirs.
func (i *inspection) search(ctx context.Context) error {
	x := i.s.search
	if what := x.damage(ctx); what != "" {
		f := store.Fault{What: "search index: " + what}
		if i.mend {
			if err := x.renew(ctx); err != nil {
				return err
			}
			f.Mended = true
		}
		if i.fault(f); !i.mend {
			return nil
		}
	}
	type named struct {
		id            int64
		account, name string
	}
	var all []named
	if err := i.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		all = all[:0]
		return tx.Query("SELECT mailbox.id, account.name, mailbox.name FROM mailbox JOIN account ON account.id=account WHERE NOT noselect ORDER BY 2, 3", nil,
			func(scan func(...any) error) error {
				var n named
				err := scan(&n.id, &n.account, &n.name)
				all = append(all, n)
				return err
			})
	}); err != nil {
		return err
	}
	for _, n := range all {
		agrees, err := x.agrees(ctx, n.id)
		if err != nil {
			return err
		}
		if agrees {
			continue
		}
		f := store.Fault{Account: n.account, Mailbox: n.name, What: "search index is not that of the messages"}
		if i.mend {
			if err := x.again(ctx, n.id); err != nil {
				return err
			}
			f.Mended = true
		}
		i.fault(f)
	}
	return nil
}

// damage asks SQLite about the index's own pages.
func (x *searchIndex) damage(ctx context.Context) (what string) {
	if err := x.read(ctx, func(tx *sqlite.Tx) error {
		_, err := tx.Get("PRAGMA quick_check(1)", nil, &what)
		return err
	}); err != nil && ctx.Err() == nil {
		return err.Error()
	}
	if what == "ok" {
		what = ""
	}
	return what
}

// again makes the index of a mailbox anew.
func (x *searchIndex) again(ctx context.Context, id int64) error {
	x.filling.Lock()
	err := x.drop(ctx, id)
	x.filling.Unlock()
	if err != nil {
		return err
	}
	return x.fill(ctx, id, true)
}

// agrees reports whether each segment of a mailbox is what would be built now of
// its messages that are there.
func (x *searchIndex) agrees(ctx context.Context, id int64) (bool, error) {
	x.filling.Lock()
	defer x.filling.Unlock()
	var live []store.UID
	var r row
	err := x.s.view(ctx, id, func(now row, l *list) { r, live = now, slices.Clone(l.uids) })
	if errors.Is(err, store.ErrNoMailbox) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var in indexed
	if err := x.read(ctx, func(tx *sqlite.Tx) (err error) {
		in, err = readIndexed(tx, id)
		return err
	}); err != nil {
		return false, ctx.Err()
	}
	if in.uidValidity != r.uidValidity {
		return in.uidValidity == 0, nil // never covered: to be filled
	}
	f := filling{x: x, m: &mailbox{s: x.s, id: id, account: r.account}, row: r, live: live}
	last := store.UID(0)
	for n := range in.segments {
		g := &in.segments[n]
		if g.uids[0] <= last {
			return false, nil
		}
		last = g.uids[len(g.uids)-1]
		if same, err := f.sameAsBuilt(ctx, g); !same || err != nil {
			return false, err
		}
	}
	return last <= in.upto && in.upto < r.uidNext && f.covers(&in), nil // what is not covered is found all the same, and slowly
}

// covers reports whether all messages up to the last that is covered are in segments.
func (f *filling) covers(in *indexed) bool {
	n := 0
	for i := range in.segments {
		n += f.count(&in.segments[i])
	}
	want, _ := slices.BinarySearch(f.live, in.upto+1)
	return n == want
}

// sameAsBuilt holds a segment against one that is built of its messages.
func (f *filling) sameAsBuilt(ctx context.Context, g *segment) (bool, error) {
	b := &f.x.builder
	b.reset()
	for m, err := range f.m.Messages(ctx, store.UIDSet(appendRanges(nil, g.uids)), store.FieldHeader|store.FieldParts|store.FieldText) {
		if err == nil {
			err = f.add(ctx, m)
		}
		if err != nil {
			return false, err
		}
	}
	built := slices.Clone(b.uids)
	there := func(u store.UID) bool { _, found := slices.BinarySearch(built, u); return found }
	var old segmentBuilder
	if err := f.x.read(ctx, func(tx *sqlite.Tx) error { old.reset(); return old.take(tx, g, there) }); err != nil {
		return false, nil // cannot be read: not the same
	}
	if !slices.Equal(old.uids, built) || old.maybe != b.maybe {
		return false, ctx.Err()
	}
	for n := range b.fields {
		if !bytes.Equal(old.fields[n], b.fields[n]) {
			return false, nil
		}
	}
	want := [][]byte{}
	for _, page := range b.grams.Pages() {
		want = append(want, bytes.Clone(page))
	}
	n := 0
	for _, page := range old.grams.Pages() {
		if n == len(want) || !bytes.Equal(page, want[n]) {
			return false, nil
		}
		n++
	}
	return n == len(want), nil
}
