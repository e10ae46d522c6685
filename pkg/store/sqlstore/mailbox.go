package sqlstore

import (
	"context"
	"errors"
	"math"
	"slices"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

type mailbox struct {
	s       *Store
	id      int64
	account int64
	name    string
	// reader is who uses it without owning it; nil: the owner does.
	reader *readerMarks
}

var (
	_ store.Mailbox  = (*mailbox)(nil)
	_ store.Searcher = (*mailbox)(nil)
	_ store.Lister   = (*mailbox)(nil)
)

// ID implements store.Mailbox.
func (m *mailbox) ID() int64 { return m.id }

// Name implements store.Mailbox.
func (m *mailbox) Name() string { return m.name }

// Status implements store.Mailbox.
func (m *mailbox) Status(ctx context.Context) (store.Status, error) {
	r, err := m.s.row(ctx, m.id)
	if err != nil {
		return store.Status{}, err
	}
	st := store.Status{
		UIDValidity: r.uidValidity, UIDNext: r.uidNext, HighestModSeq: r.modSeq,
		Messages: uint32(r.messages), Unseen: uint32(r.unseen), Deleted: uint32(r.deleted), Size: r.bytes,
	}
	if m.reader != nil {
		st.Unseen, err = m.reader.unseen(ctx, m)
		return st, err
	}
	if r.recent < r.uidNext && !m.s.boxes.get(m.id).since(r, &st.Recent) {
		err = m.s.db.Read(ctx, func(tx *sqlite.Tx) error {
			_, err := tx.Get("SELECT count(*) FROM message WHERE mailbox=? AND uid>=? AND uid<?", []any{m.id, int64(r.recent), int64(r.uidNext)}, &st.Recent)
			return err
		})
	}
	return st, failure(err)
}

// List implements store.Lister.
func (m *mailbox) List(ctx context.Context) (out store.Listing, err error) {
	err = m.s.view(ctx, m.id, func(r row, l *list) {
		out = store.Listing{UIDValidity: r.uidValidity, UIDNext: r.uidNext, HighestModSeq: r.modSeq,
			UIDs: slices.Clone(l.uids), Flags: slices.Clone(l.flags), Sets: slices.Clone(l.sets.sets)}
	})
	if err == nil && m.reader != nil {
		err = m.reader.applyToList(ctx, m, &out)
	}
	return out, err
}

// Changes implements store.Mailbox.
func (m *mailbox) Changes(ctx context.Context, since store.ModSeq) (c store.Changes, err error) {
	r, err := m.s.row(ctx, m.id)
	if err != nil {
		return c, err
	}
	if r.modSeq <= since {
		return store.Changes{Highest: r.modSeq, UIDNext: r.uidNext, Forgotten: r.forgotten}, nil
	}
	if err := m.s.view(ctx, m.id, func(now row, l *list) {
		r = now
		c = store.Changes{Highest: r.modSeq, UIDNext: r.uidNext, Forgotten: r.forgotten}
		for i, seq := range l.seqs {
			if seq > since {
				c.Messages = append(c.Messages, store.FlagState{UID: l.uids[i], ModSeq: seq, Flags: l.sets.get(l.flags[i])})
			}
		}
	}); err != nil {
		return c, err
	}
	if m.reader != nil {
		if err := m.reader.changes(ctx, m, since, &c); err != nil {
			return c, err
		}
	}
	if r.gone <= since {
		return c, nil
	}
	err = m.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		return tx.Query("SELECT uid FROM expunged WHERE mailbox=? AND modseq>? AND modseq<=?", []any{m.id, int64(since), int64(r.modSeq)},
			func(scan func(...any) error) error {
				var uid store.UID
				err := scan(&uid)
				c.Expunged = append(c.Expunged, uid)
				return err
			})
	})
	slices.Sort(c.Expunged)
	return c, failure(err)
}

// ClaimRecent implements store.Mailbox.
func (m *mailbox) ClaimRecent(ctx context.Context, claim bool) (first store.UID, err error) {
	r, err := m.s.row(ctx, m.id)
	if m.reader != nil {
		return math.MaxUint32, err
	}
	if err != nil || !claim || r.recent >= r.uidNext {
		return r.recent, err
	}
	err = m.s.write(ctx, func(g *group) error {
		c, err := g.mailbox(m.id)
		if err == nil {
			first, c.row.recent = c.row.recent, c.row.uidNext
		}
		return err
	})
	if errors.Is(err, store.ErrHeld) { // it can be looked at
		return r.recent, nil
	}
	return first, err
}

// Watch implements store.Mailbox.
func (m *mailbox) Watch(wake func()) (stop func()) { return m.s.watch(m.id, wake) }
