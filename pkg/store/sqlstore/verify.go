package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

var _ store.Keeper = (*Store)(nil)

// Verify implements store.Keeper.
func (s *Store) Verify(ctx context.Context, report func(store.Fault)) (store.Tally, error) {
	return s.inspect(ctx, report, false)
}

// Reconstruct implements store.Keeper.
func (s *Store) Reconstruct(ctx context.Context, report func(store.Fault)) (store.Tally, error) {
	return s.inspect(ctx, report, true)
}

// inspection is one look at everything.
type inspection struct {
	s      *Store
	report func(store.Fault)
	mend   bool
	tally  store.Tally
}

func (s *Store) inspect(ctx context.Context, report func(store.Fault), mend bool) (store.Tally, error) {
	i := &inspection{s: s, report: report, mend: mend}
	for _, step := range []func(context.Context) error{i.database, i.bodies, i.mailboxes, i.sharing, i.search} {
		if err := step(ctx); err != nil {
			return i.tally, failure(err)
		}
	}
	return i.tally, nil
}

func (i *inspection) fault(f store.Fault) {
	i.tally.Faults++
	if !f.Mended {
		i.tally.Left++
	}
	i.report(f)
}

// try mends a fault, if that is wanted, and reports it.
func (i *inspection) try(ctx context.Context, f store.Fault, mend func(*group) error) error {
	if i.mend {
		if err := i.s.write(ctx, mend); err != nil {
			return err
		}
		f.Mended = true
	}
	i.fault(f)
	return nil
}

// database asks SQLite about its own pages and indexes.
func (i *inspection) database(ctx context.Context) error {
	var lines []string
	check := func(tx *sqlite.Tx) error {
		lines = lines[:0]
		return tx.Query("PRAGMA integrity_check(100)", nil, func(scan func(...any) error) error {
			var line string
			err := scan(&line)
			if line != "ok" {
				lines = append(lines, line)
			}
			return err
		})
	}
	if err := i.s.db.Read(ctx, check); err != nil {
		return err
	}
	found := append([]string(nil), lines...)
	if len(found) > 0 && i.mend {
		if err := i.s.db.Write(ctx, func(tx *sqlite.Tx) error { _, _, err := tx.Exec("REINDEX"); return err }); err != nil {
			return err
		}
		if err := i.s.db.Read(ctx, check); err != nil {
			return err
		}
	}
	for _, line := range found {
		i.fault(store.Fault{What: "database: " + line, Mended: i.mend && len(lines) == 0})
	}
	return nil
}

// bodyRow is a body with all that is kept of it.
type bodyRow struct {
	id, size  int64
	messageID string
	digest    []byte
	header    []byte
	text      []byte
	inFile    bool
	place     blob.Place // of its file, if that is a pack
	named     bool       // by a message, or a removed one
	outlined  bool

	envelope, basic, structure, parts []byte
}

const bodyQuery = `SELECT body.id, size, messageid, digest, header, text, text IS NULL, coalesce(pack, 0), coalesce(place, 0), outline.body IS NOT NULL,
	coalesce(envelope, x''), coalesce(basic, x''), coalesce(structure, x''), coalesce(parts, x''),
	EXISTS (SELECT 1 FROM message WHERE message.body=body.id) OR EXISTS (SELECT 1 FROM removed WHERE removed.body=body.id)
	FROM body LEFT JOIN outline ON outline.body=body.id WHERE body.id>? ORDER BY body.id LIMIT 32`

// bodies holds every body against its hash, and what was rendered of it
// against what would be rendered now.
func (i *inspection) bodies(ctx context.Context) error {
	last := int64(0)
	for {
		var page []bodyRow
		if err := i.s.db.Read(ctx, func(tx *sqlite.Tx) error {
			return tx.Query(bodyQuery, []any{last}, func(scan func(...any) error) error {
				var b bodyRow
				err := scan(&b.id, &b.size, &b.messageID, &b.digest, &b.header, &b.text, &b.inFile, &b.place.Pack, &b.place.Offset, &b.outlined,
					&b.envelope, &b.basic, &b.structure, &b.parts, &b.named)
				page = append(page, b)
				return err
			})
		}); err != nil || len(page) == 0 {
			return err
		}
		for n := range page {
			if err := i.body(ctx, &page[n]); err != nil {
				return err
			}
		}
		last = page[len(page)-1].id
	}
}

func (i *inspection) body(ctx context.Context, b *bodyRow) error {
	i.tally.Bodies++
	i.tally.Bytes += b.size
	if !b.named {
		return i.try(ctx, store.Fault{What: fmt.Sprintf("body %d belongs to no message", b.id)}, func(g *group) error {
			_, err := dropBodies(g.Tx, []int64{b.id}) // what lies outside goes with the next sweep
			return err
		})
	}
	var content io.Reader = io.MultiReader(bytes.NewReader(b.header), bytes.NewReader(b.text))
	if b.inFile {
		i.tally.Files++
		f, err := i.s.opens(stored{blob.Digest(b.digest), b.place, b.size})()
		if errors.Is(err, fs.ErrNotExist) {
			return i.lost(ctx, b, "file of the body is missing: "+blob.Digest(b.digest).String())
		}
		if err != nil {
			return err
		}
		defer f.Close()
		content = f
	}
	h := sha256.New()
	m, err := mime.Scan(io.TeeReader(content, h), mime.DefaultLimits())
	switch {
	case err != nil:
		return i.lost(ctx, b, err.Error())
	case m.Size != b.size:
		return i.lost(ctx, b, fmt.Sprintf("body has %d bytes of %d", m.Size, b.size))
	case !bytes.Equal(h.Sum(nil), b.digest):
		return i.lost(ctx, b, "body does not have its hash")
	}
	if b.outlined && b.messageID == m.MessageID && bytes.Equal(b.envelope, m.AppendEnvelope(nil)) && bytes.Equal(b.basic, m.AppendBody(nil)) &&
		bytes.Equal(b.structure, m.AppendBodyStructure(nil)) && bytes.Equal(b.parts, m.AppendParts(nil)) && bytes.Equal(b.header, m.Header) {
		return nil
	}
	return i.try(ctx, store.Fault{What: fmt.Sprintf("outline of body %d is not that of the message", b.id)}, func(g *group) error {
		if _, _, err := g.Exec("UPDATE body SET messageid=? WHERE id=?", m.MessageID, b.id); err != nil {
			return err
		}
		_, _, err := g.Exec("INSERT OR REPLACE INTO outline (body, envelope, basic, structure, parts) VALUES (?,?,?,?,?)",
			b.id, m.AppendEnvelope(nil), m.AppendBody(nil), m.AppendBodyStructure(nil), m.AppendParts(nil))
		return err
	})
}

// lost reports, for every message that has it, a body that cannot be made again.
func (i *inspection) lost(ctx context.Context, b *bodyRow, what string) error {
	var faults []store.Fault
	err := i.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		faults = faults[:0]
		return tx.Query(`SELECT account.name, mailbox.name, uid FROM message JOIN mailbox ON mailbox.id=mailbox JOIN account ON account.id=account WHERE body=?`,
			[]any{b.id}, func(scan func(...any) error) error {
				f := store.Fault{What: what}
				err := scan(&f.Account, &f.Mailbox, &f.UID)
				faults = append(faults, f)
				return err
			})
	})
	for _, f := range faults {
		i.fault(f)
	}
	if err == nil && len(faults) == 0 {
		i.fault(store.Fault{What: fmt.Sprintf("removed message, body %d: %s", b.id, what)})
	}
	return err
}

// mailboxes holds every mailbox's row against its messages.
func (i *inspection) mailboxes(ctx context.Context) error {
	type named struct {
		id            int64
		account, name string
	}
	var all []named
	if err := i.s.db.Read(ctx, func(tx *sqlite.Tx) error {
		if _, err := tx.Get("SELECT count(*) FROM account", nil, &i.tally.Accounts); err != nil {
			return err
		}
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
		err := i.mailbox(ctx, n.id, store.Fault{Account: n.account, Mailbox: n.name})
		if err != nil && !errors.Is(err, store.ErrNoMailbox) { // deleted meanwhile
			return err
		}
	}
	return nil
}

// counted is what a mailbox's messages say its row should be.
type counted struct {
	messages, unseen, deleted, bytes int64
	uid                              store.UID // the last that was given
	modSeq, gone                     store.ModSeq
	again                            int // expunged UIDs that are there
}

func (c *counted) read(tx *sqlite.Tx, id int64) error {
	if _, err := tx.Get(`SELECT count(*), coalesce(sum(flags & 1 = 0), 0), coalesce(sum(flags & 8 <> 0), 0), coalesce(sum(size), 0), coalesce(max(uid), 0), coalesce(max(modseq), 0)
		FROM message WHERE mailbox=?`, []any{id}, &c.messages, &c.unseen, &c.deleted, &c.bytes, &c.uid, &c.modSeq); err != nil {
		return err
	}
	var last store.UID
	_, err := tx.Get(`SELECT coalesce(max(e.modseq), 0), coalesce(max(e.uid), 0), count(m.uid) FROM expunged e LEFT JOIN message m USING (mailbox, uid) WHERE e.mailbox=?`,
		[]any{id}, &c.gone, &last, &c.again)
	c.uid = max(c.uid, last)
	return err
}

func (i *inspection) mailbox(ctx context.Context, id int64, at store.Fault) error {
	i.tally.Mailboxes++
	var r row
	var c counted
	var broken []store.Fault
	var orphans []victim
	if err := i.s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
		if r, err = readRow(tx, id); err == nil {
			err = c.read(tx, id)
		}
		if err != nil {
			return err
		}
		broken, orphans = nil, nil
		return tx.Query(`SELECT uid, flags, message.size, body.id IS NULL, coalesce(body.size, 0)+length(prefix) FROM message LEFT JOIN body ON body.id=body
			WHERE mailbox=? AND (body.id IS NULL OR message.size<>body.size+length(prefix)) ORDER BY uid`, []any{id}, func(scan func(...any) error) error {
			var v victim
			var missing bool
			var size int64
			if err := scan(&v.uid, &v.flags, &v.size, &missing, &size); err != nil {
				return err
			}
			f := at
			f.UID, f.What = v.uid, fmt.Sprintf("size is %d and not %d", v.size, size)
			if missing {
				f.What = "body is missing; the message cannot be made again"
				orphans = append(orphans, v)
			}
			broken = append(broken, f)
			return nil
		})
	}); err != nil {
		return err
	}
	i.tally.Messages += int(c.messages)
	for _, f := range broken {
		if err := i.try(ctx, f, func(g *group) error {
			if _, _, err := g.Exec("UPDATE message SET size=(SELECT body.size FROM body WHERE id=body)+length(prefix) WHERE mailbox=? AND uid=? AND EXISTS (SELECT 1 FROM body WHERE id=body)", id, int64(f.UID)); err != nil {
				return err
			}
			return g.recount(id)
		}); err != nil {
			return err
		}
	}
	if len(orphans) > 0 && i.mend {
		if err := i.s.write(ctx, func(g *group) error {
			g.carrying = true // what is held is mended too
			c, err := g.mailbox(id)
			if err != nil {
				return err
			}
			return g.erase(c, orphans, runsOf(orphans))
		}); err != nil {
			return err
		}
	}
	if what := c.against(&r); what != "" && len(broken) == 0 {
		at.What = what
		return i.try(ctx, at, func(g *group) error { return g.recount(id) })
	}
	return i.memory(ctx, id, at)
}

// against says what is wrong with a row.
func (c *counted) against(r *row) string {
	switch {
	case r.messages != c.messages, r.unseen != c.unseen, r.deleted != c.deleted, r.bytes != c.bytes:
		return fmt.Sprintf("counters are %d messages, %d unseen, %d deleted, %d bytes and not %d, %d, %d, %d",
			r.messages, r.unseen, r.deleted, r.bytes, c.messages, c.unseen, c.deleted, c.bytes)
	case r.uidNext <= c.uid:
		return fmt.Sprintf("UIDNEXT is %d and the last UID %d", r.uidNext, c.uid)
	case r.modSeq < c.modSeq, r.modSeq < c.gone:
		return fmt.Sprintf("HIGHESTMODSEQ is %d, below that of a change, %d", r.modSeq, max(c.modSeq, c.gone))
	case c.again > 0:
		return fmt.Sprintf("%d UIDs were expunged and are there", c.again)
	}
	return ""
}

// recount makes a mailbox's row anew from its messages. Nothing in it goes back.
func (g *group) recount(id int64) error {
	g.carrying = true // what is held is mended too
	c, err := g.mailbox(id)
	if err != nil {
		return err
	}
	var n counted
	if err := n.read(g.Tx, id); err != nil {
		return err
	}
	if _, _, err := g.Exec("DELETE FROM expunged WHERE mailbox=?1 AND uid IN (SELECT uid FROM message WHERE mailbox=?1)", id); err != nil {
		return err
	}
	g.measure(c.row.account, n.bytes-c.row.bytes, n.messages-c.row.messages)
	c.row.messages, c.row.unseen, c.row.deleted, c.row.bytes = n.messages, n.unseen, n.deleted, n.bytes
	c.row.uidNext = max(c.row.uidNext, n.uid+1)
	c.row.modSeq = max(c.row.modSeq, n.modSeq, n.gone) + 1 // whoever knew the old state looks again
	c.reload = true
	return nil
}

// memory holds what memory has of a mailbox, be it from its listing, against
// its rows.
func (i *inspection) memory(ctx context.Context, id int64, at store.Fault) error {
	b := i.s.boxes.get(id)
	b.mu.RLock()
	loaded := b.list != nil
	b.mu.RUnlock()
	if !loaded {
		return nil
	}
	agrees := true
	// On the writer's goroutine nothing changes meanwhile; a group that is half
	// done is left alone.
	err := i.s.write(ctx, func(g *group) error {
		if g.changes[id] != nil {
			return nil
		}
		r, err := readRow(g.Tx, id)
		if err != nil {
			return err
		}
		l, err := readList(g.Tx, id, r)
		if err != nil {
			return err
		}
		b.mu.RLock()
		defer b.mu.RUnlock()
		agrees = b.list == nil || b.list.equal(l)
		return nil
	})
	if err == nil && !agrees {
		at.What = "what memory has of the mailbox is not what its rows say"
		return i.try(ctx, at, func(g *group) error { return g.recount(id) }) // which has it read anew, from the rows
	}
	return err
}

func (l *list) equal(other *list) bool {
	if len(l.uids) != len(other.uids) {
		return false
	}
	for i := range l.uids {
		if l.uids[i] != other.uids[i] || l.seqs[i] != other.seqs[i] || !l.sets.get(l.flags[i]).Equal(other.sets.get(other.flags[i])) {
			return false
		}
		if l.items[i] != other.items[i] {
			return false
		}
	}
	return true
}
