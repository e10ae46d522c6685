package sqlstore

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// cargoPage is how many messages, and cargoList how many other entries, are
// read or written at a time.
const (
	cargoPage = 64
	cargoList = 2000
)

// parcel is a message on its way out. Text of one in a file is nil.
type parcel struct {
	store.CarriedMessage
	id           int64 // of a removed one
	body         int64
	size         int64
	header, text []byte
	inFile       bool
}

// Export implements store.Carrier.
func (s *Store) Export(ctx context.Context, account, mailbox string, above store.UID, to io.Writer) error {
	var id int64
	var rows []carriedRow
	var subscriptions []string
	var notes []store.Annotation
	err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		if id, _, _, err = holder(tx, account); err != nil {
			return err
		}
		if mailbox == "" {
			if subscriptions, err = subscribed(tx, id); err == nil {
				notes, err = annotations(tx, 0, id)
			}
			return err
		}
		if rows, err = carried(tx, id, false, mailbox); err == nil && len(rows) == 0 {
			err = store.ErrNoMailbox
		}
		if err == nil {
			notes, err = annotations(tx, rows[0].id, id)
		}
		return err
	})
	if err == nil && mailbox == "" {
		err = s.exportRest(ctx, id, subscriptions, notes, to)
	} else if err == nil {
		err = s.exportMailbox(ctx, rows[0], notes, above, to)
	}
	if err == nil {
		err = store.WriteRecord(to, store.Record{End: true})
	}
	return wrapped("exporting", account, failure(err))
}

const (
	exportQuery = `SELECT 0, body.id, uid, modseq, flags, keywords, internal, zone, saved, sentcopy, prefix, digest, '', 0, 0, body.size, header, text, text IS NULL
		FROM message CROSS JOIN body ON id=body WHERE mailbox=? AND uid>? ORDER BY uid LIMIT ?`
	exportRemovedQuery = `SELECT removed.id, body.id, uid, 0, flags, keywords, internal, zone, 0, 0, prefix, digest, name, uidvalidity, at, body.size, header, text, text IS NULL
		FROM removed CROSS JOIN body ON body.id=body WHERE account=? AND removed.id>? AND at>0 ORDER BY removed.id LIMIT ?`
)

// parcels reads some messages; q is one of the two queries.
func (s *Store) parcels(ctx context.Context, q string, of, above int64) (page []parcel, err error) {
	err = s.db.Read(ctx, func(tx *sqlite.Tx) error {
		page = page[:0]
		return tx.Query(q, []any{of, above, cargoPage}, func(scan func(...any) error) error {
			var p parcel
			var r store.Removal
			err := scan(&p.id, &p.body, &p.UID, &p.ModSeq, &p.System, &p.Keywords, &p.Internal, &p.Zone, &p.Saved, &p.SentCopy, &p.Prefix, &p.Digest,
				&r.Mailbox, &r.UIDValidity, &r.At, &p.size, &p.header, &p.text, &p.inFile)
			if p.id > 0 {
				p.Removed = &r
			}
			page = append(page, p)
			return err
		})
	})
	return page, err
}

// exportMailbox writes a mailbox, its log of expunges, what was delivered to it,
// and its messages.
func (s *Store) exportMailbox(ctx context.Context, r carriedRow, notes []store.Annotation, above store.UID, to io.Writer) error {
	if err := store.WriteRecord(to, store.Record{Mailbox: &r.CarriedMailbox}); err != nil {
		return err
	}
	if err := exportNotes(notes, to); err != nil {
		return err
	}
	if err := s.exportLists(ctx, r.id, to); err != nil {
		return err
	}
	for {
		page, err := s.parcels(ctx, exportQuery, r.id, int64(above))
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := s.exportParcel(ctx, &page[i], to); err != nil {
				return err
			}
		}
		above = page[len(page)-1].UID
	}
}

// exportRest writes what belongs to no mailbox.
func (s *Store) exportRest(ctx context.Context, account int64, subscriptions []string, notes []store.Annotation, to io.Writer) error {
	if err := store.WriteRecord(to, store.Record{Rest: &store.CarriedRest{Subscriptions: subscriptions}}); err != nil {
		return err
	}
	if err := exportNotes(notes, to); err != nil {
		return err
	}
	for last := int64(0); ; {
		page, err := s.parcels(ctx, exportRemovedQuery, account, last)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := s.exportParcel(ctx, &page[i], to); err != nil {
				return err
			}
		}
		last = page[len(page)-1].id
	}
}

func (s *Store) exportParcel(ctx context.Context, p *parcel, to io.Writer) error {
	if err := store.WriteRecord(to, store.Record{Message: &p.CarriedMessage, Size: p.size}); err != nil {
		return err
	}
	var body io.Reader = io.MultiReader(bytes.NewReader(p.header), bytes.NewReader(p.text))
	if p.inFile {
		f, err := s.openOutside(ctx, p)
		if err != nil {
			return damagedFile(p.Digest, err)
		}
		defer f.Close()
		body = f
	}
	n, err := io.Copy(to, io.LimitReader(body, p.size))
	if err == nil && n != p.size {
		err = damagedFile(p.Digest, fmt.Errorf("%w: %d octets of %d", io.ErrUnexpectedEOF, n, p.size))
	}
	if err != nil {
		return fmt.Errorf("writing message %d: %w", p.UID, err)
	}
	return nil
}

// openOutside opens a body that is not in the database, where it lies now.
func (s *Store) openOutside(ctx context.Context, p *parcel) (io.ReadCloser, error) {
	s.naming.RLock()
	defer s.naming.RUnlock()
	b := stored{digest: blob.Digest(p.Digest), size: p.size}
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		_, err := tx.Get("SELECT coalesce(pack, 0), coalesce(place, 0) FROM body WHERE id=?", []any{p.body}, &b.place.Pack, &b.place.Offset)
		return err
	}); err != nil {
		return nil, err
	}
	return s.opens(b)()
}

// exportLists writes a mailbox's expunges and traces.
func (s *Store) exportLists(ctx context.Context, mailbox int64, to io.Writer) error {
	var expunged []store.CarriedExpunge
	var traces []store.CarriedTrace
	if err := s.db.Read(ctx, func(tx *sqlite.Tx) error {
		expunged, traces = expunged[:0], traces[:0]
		if err := tx.Query("SELECT modseq, uid FROM expunged WHERE mailbox=? ORDER BY modseq, uid", []any{mailbox}, func(scan func(...any) error) error {
			var x store.CarriedExpunge
			err := scan(&x.ModSeq, &x.UID)
			expunged = append(expunged, x)
			return err
		}); err != nil {
			return err
		}
		return tx.Query("SELECT trace, at FROM delivered WHERE mailbox=? ORDER BY trace", []any{mailbox}, func(scan func(...any) error) error {
			var x store.CarriedTrace
			err := scan(&x.Trace, &x.At)
			traces = append(traces, x)
			return err
		})
	}); err != nil {
		return err
	}
	for len(expunged) > 0 {
		n := min(len(expunged), cargoList)
		if err := store.WriteRecord(to, store.Record{Expunged: expunged[:n]}); err != nil {
			return err
		}
		expunged = expunged[n:]
	}
	for len(traces) > 0 {
		n := min(len(traces), cargoList)
		if err := store.WriteRecord(to, store.Record{Traces: traces[:n]}); err != nil {
			return err
		}
		traces = traces[n:]
	}
	return nil
}

func exportNotes(notes []store.Annotation, to io.Writer) error {
	for i := range notes {
		if err := store.WriteRecord(to, store.Record{Annotation: &notes[i]}); err != nil {
			return err
		}
	}
	return nil
}
