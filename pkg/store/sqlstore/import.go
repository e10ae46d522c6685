package sqlstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// cargoMemory bounds the octets of bodies that wait for their commit in memory.
const cargoMemory = 4 << 20

// importer takes cargo into an account that arrives.
type importer struct {
	s       *Store
	account int64
	mailbox int64 // 0: none yet
	from    *bufio.Reader
	batch   []store.CarriedMessage
	bodies  []mail.Body
	waiting int64 // octets of bodies
	spooled []*os.File
}

// Import implements store.Carrier.
func (s *Store) Import(ctx context.Context, account string, from io.Reader) (err error) {
	i := &importer{s: s, from: bufio.NewReaderSize(from, 64<<10)}
	defer i.clear()
	c, err := s.Census(ctx, account, false)
	if err == nil && c.Hold != store.HoldArriving {
		err = store.ErrHeld
	}
	if err == nil {
		err = s.carry(ctx, func(g *group) error {
			_, err := g.Get("SELECT id FROM account WHERE name=? AND hold=?", []any{account, string(store.HoldArriving)}, &i.account)
			return err
		})
	}
	for done := false; err == nil && !done; {
		done, err = i.next(ctx)
	}
	return wrapped("importing", account, err)
}

// carry is write for what a Carrier does.
func (s *Store) carry(ctx context.Context, fn func(*group) error) error {
	return s.write(ctx, func(g *group) error {
		g.carrying = true
		return fn(g)
	})
}

// next takes one record.
func (i *importer) next(ctx context.Context) (done bool, err error) {
	r, err := store.ReadRecord(i.from)
	if err != nil {
		return false, err
	}
	if r.Message != nil {
		return false, i.message(ctx, r)
	}
	if err := i.flush(ctx); err != nil {
		return false, err
	}
	return r.End, i.s.carry(ctx, func(g *group) error {
		if err := i.arriving(g); err != nil {
			return err
		}
		switch {
		case r.Mailbox != nil:
			return i.open(g, r.Mailbox)
		case r.Rest != nil:
			return i.rest(g, r.Rest)
		case r.Annotation != nil:
			value := notNil(r.Annotation.Value)
			_, _, err := g.Exec("INSERT OR REPLACE INTO annotation (mailbox, account, entry, value) VALUES (?,?,?,?)", i.mailbox, i.account, r.Annotation.Entry, value)
			return err
		}
		return i.lists(g, r)
	})
}

// arriving looks that nobody has ended the arrival.
func (i *importer) arriving(g *group) error {
	var one int
	found, err := g.Get("SELECT 1 FROM account WHERE id=? AND hold=?", []any{i.account, string(store.HoldArriving)}, &one)
	if err == nil && !found {
		err = store.ErrHeld
	}
	return err
}

// open makes the mailbox that what follows belongs to, or goes on with it.
func (i *importer) open(g *group, m *store.CarriedMailbox) error {
	name, err := normalName(m.Name)
	if err != nil || name != m.Name {
		return fmt.Errorf("%w: mailbox %q", store.ErrCargo, m.Name)
	}
	var id int64
	var validity uint32
	var noSelect bool
	found, err := g.Get("SELECT id, uidvalidity, noselect FROM mailbox WHERE account=? AND name=?", []any{i.account, name}, &id, &validity, &noSelect)
	if err != nil {
		return err
	}
	if found && (validity != m.UIDValidity || noSelect != m.NoSelect) {
		if err := g.eraseMailbox(id, noSelect, 0); err != nil {
			return err
		}
		found = false
	}
	if !found {
		// Mailboxes made here later must not get a UIDVALIDITY that this account knows.
		if _, _, err := g.Exec(`INSERT INTO counter (name, value) VALUES ('uidvalidity', ?) ON CONFLICT (name) DO UPDATE SET value=max(value, excluded.value)`,
			int64(m.UIDValidity)); err != nil {
			return err
		}
		if id, _, err = g.Exec(`INSERT INTO mailbox (account, name, uidvalidity, uidnext, recent, modseq, gone, forgotten, noselect, use) VALUES (?,?,?,?,?,?,?,?,?,?)`,
			i.account, name, int64(m.UIDValidity), int64(m.UIDNext), int64(m.Recent), int64(m.ModSeq), int64(m.Gone), int64(m.Forgotten), m.NoSelect, m.Use); err != nil {
			return err
		}
	}
	i.mailbox = id
	if _, _, err := g.Exec("DELETE FROM acl WHERE mailbox=?", id); err != nil {
		return err
	}
	for _, grant := range m.ACL {
		if _, err := store.ParseRights(grant[1]); err != nil {
			return fmt.Errorf("%w: rights of mailbox %q: %w", store.ErrCargo, m.Name, err)
		}
		if _, _, err := g.Exec("INSERT INTO acl (mailbox, identifier, rights) VALUES (?,?,?)", id, grant[0], grant[1]); err != nil {
			return err
		}
	}
	return nil
}

// rest takes what belongs to no mailbox, in the place of what came before.
func (i *importer) rest(g *group, r *store.CarriedRest) error {
	i.mailbox = 0
	for _, q := range [...]string{"UPDATE removed SET at=0 WHERE account=?", "DELETE FROM subscription WHERE account=?", "DELETE FROM annotation WHERE account=? AND mailbox=0"} {
		if _, _, err := g.Exec(q, i.account); err != nil {
			return err
		}
	}
	for _, name := range r.Subscriptions {
		if _, _, err := g.Exec("INSERT OR IGNORE INTO subscription (account, name) VALUES (?,?)", i.account, name); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) lists(g *group, r store.Record) error {
	if len(r.Expunged)+len(r.Traces) > 0 && i.mailbox == 0 {
		return fmt.Errorf("%w: a list of no mailbox", store.ErrCargo)
	}
	for _, x := range r.Expunged {
		if _, _, err := g.Exec("INSERT OR IGNORE INTO expunged (mailbox, modseq, uid) VALUES (?,?,?)", i.mailbox, int64(x.ModSeq), int64(x.UID)); err != nil {
			return err
		}
	}
	for _, x := range r.Traces {
		if _, _, err := g.Exec("INSERT OR IGNORE INTO delivered (trace, mailbox, at) VALUES (?,?,?)", x.Trace, i.mailbox, x.At); err != nil {
			return err
		}
	}
	return nil
}

// message takes a message and its body; it is written with others.
func (i *importer) message(ctx context.Context, r store.Record) error {
	if i.mailbox == 0 && r.Message.Removed == nil {
		return fmt.Errorf("%w: a message of no mailbox", store.ErrCargo)
	}
	body, err := i.body(r.Size)
	if err != nil {
		return err
	}
	i.batch, i.bodies, i.waiting = append(i.batch, *r.Message), append(i.bodies, body), i.waiting+r.Size
	if len(i.batch) == cargoPage || i.waiting >= cargoMemory {
		return i.flush(ctx)
	}
	return nil
}

// body reads a body: a large one into a file of its own meanwhile. Nothing of
// the store is held while a slow sender takes its time.
func (i *importer) body(size int64) (mail.Body, error) {
	if size <= 1<<20 {
		var b bytes.Buffer
		if _, err := io.CopyN(&b, i.from, size); err != nil {
			return nil, fmt.Errorf("%w: reading: %w", store.ErrCargo, err)
		}
		return mail.Bytes(b.Bytes()), nil
	}
	f, err := os.CreateTemp(i.s.o.Dir, "cargo-*")
	if err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	i.spooled = append(i.spooled, f)
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	if _, err := io.CopyN(f, i.from, size); err != nil {
		return nil, fmt.Errorf("%w: spooling: %w", store.ErrCargo, err)
	}
	return spooledBody{f, size}, nil
}

// spooledBody is a body in a file without a name.
type spooledBody struct {
	file *os.File
	size int64
}

// Open implements mail.Body.
func (b spooledBody) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(b.file, 0, b.size)), nil
}

// Size implements mail.Body.
func (b spooledBody) Size() int64 { return b.size }

func (i *importer) clear() {
	for _, f := range i.spooled {
		_ = f.Close() // it was only read
	}
	i.batch, i.bodies, i.spooled, i.waiting = nil, nil, nil, 0
}

// flush writes the messages that wait, in one commit.
func (i *importer) flush(ctx context.Context) error {
	if len(i.batch) == 0 {
		return nil
	}
	defer i.clear()
	incoming := make([]store.Incoming, len(i.batch))
	for n, b := range i.bodies {
		incoming[n].Body = b
	}
	return i.s.bring(ctx, incoming, func(bodies []*body) error {
		for n, b := range bodies {
			if b.digest != blob.Digest(i.batch[n].Digest) {
				return fmt.Errorf("%w: message %d does not have its hash", store.ErrCargo, i.batch[n].UID)
			}
		}
		return i.s.carry(ctx, func(g *group) error {
			if err := i.arriving(g); err != nil {
				return err
			}
			return i.write(g, bodies)
		})
	})
}

func (i *importer) write(g *group, bodies []*body) error {
	for n, m := range i.batch {
		id, err := bodies[n].insert(g)
		if err != nil {
			return err
		}
		size := bodies[n].size + int64(len(m.Prefix))
		if m.Removed != nil {
			_, _, err = g.Exec(`INSERT INTO removed (at, account, name, uidvalidity, uid, flags, keywords, internal, zone, size, body, prefix) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
				m.Removed.At, i.account, m.Removed.Mailbox, int64(m.Removed.UIDValidity), int64(m.UID), int64(m.System), m.Keywords, m.Internal, m.Zone, size, id, notNil(m.Prefix))
		} else {
			err = i.place(g, m, id, size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// place gives a message its place in the mailbox.
func (i *importer) place(g *group, m store.CarriedMessage, body, size int64) error {
	c, err := g.mailbox(i.mailbox)
	if err != nil {
		return err
	}
	if m.UID == 0 || m.UID >= c.row.uidNext || m.ModSeq > c.row.modSeq {
		return fmt.Errorf("%w: message %d is not of its mailbox", store.ErrCargo, m.UID)
	}
	if _, _, err := g.Exec(`INSERT INTO message (mailbox, uid, modseq, flags, keywords, internal, zone, saved, size, body, prefix, sentcopy) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		i.mailbox, int64(m.UID), int64(m.ModSeq), int64(m.System), m.Keywords, m.Internal, m.Zone, m.Saved, size, body, notNil(m.Prefix), m.SentCopy); err != nil {
		return err
	}
	g.count(c, 1, store.SystemFlags(m.System), size)
	c.reload = true
	return nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
