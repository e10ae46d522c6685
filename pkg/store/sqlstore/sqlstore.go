// Package sqlstore is the store's engine: one SQLite database for all
// accounts, with large bodies as files beside it.
//
// A body is kept once however many mailboxes hold it, together with what IMAP
// asks about it, rendered when it came in. What belongs to one copy (flags,
// dates, the trace fields of a delivery) is in its message row. Everything
// that was acknowledged is in a durable commit.
package sqlstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

var _ store.Store = (*Store)(nil)

// Options of Open.
type Options struct {
	// Dir is the store's folder; it is made if it is missing.
	Dir string
	// InlineLimit is the largest body kept in the database, in bytes; 0: 64 KiB.
	InlineLimit int64
	// Mailboxes are made in every new account, beside INBOX.
	Mailboxes []store.MailboxEntry
	// Reserve: see sqlite.Options.
	Reserve int
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// OnFatal: see sqlite.Options.
	OnFatal func(error)
	Log     *slog.Logger
}

// DefaultMailboxes are those of RFC 6154 that clients make by themselves
// under different names if they are not there.
func DefaultMailboxes() []store.MailboxEntry {
	return []store.MailboxEntry{
		{Name: "Archive", SpecialUse: `\Archive`}, {Name: "Drafts", SpecialUse: `\Drafts`}, {Name: "Junk", SpecialUse: `\Junk`},
		{Name: "Sent", SpecialUse: `\Sent`}, {Name: "Trash", SpecialUse: `\Trash`},
	}
}

// Store is an open store. It may be used from many goroutines.
type Store struct {
	o      Options
	db     *sqlite.DB
	bodies *blob.Folder
	// naming is held for reading from the moment a large body lies in its file
	// until the commit that names it, and for writing while files that nothing
	// names are removed.
	naming sync.RWMutex

	mu       sync.Mutex
	watchers map[int64]map[*func()]bool
}

// counters keeps what Status and quota ask for in the mailbox's row, in the
// transaction that changes the messages. 1 is store.Seen, 8 store.Deleted.
const counters = `
ALTER TABLE mailbox ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN unseen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE mailbox SET (messages, unseen, deleted, bytes) =
	(SELECT count(*), coalesce(sum(flags & 1 = 0), 0), coalesce(sum(flags & 8 <> 0), 0), coalesce(sum(size), 0) FROM message WHERE message.mailbox=mailbox.id);
CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
	UPDATE mailbox SET messages=messages+1, unseen=unseen+(NEW.flags & 1 = 0), deleted=deleted+(NEW.flags & 8 <> 0), bytes=bytes+NEW.size WHERE id=NEW.mailbox;
END;
CREATE TRIGGER message_gone AFTER DELETE ON message BEGIN
	UPDATE mailbox SET messages=messages-1, unseen=unseen-(OLD.flags & 1 = 0), deleted=deleted-(OLD.flags & 8 <> 0), bytes=bytes-OLD.size WHERE id=OLD.mailbox;
END;
CREATE TRIGGER message_flagged AFTER UPDATE OF flags ON message WHEN (OLD.flags & 9) <> (NEW.flags & 9) BEGIN
	UPDATE mailbox SET unseen=unseen+(NEW.flags & 1 = 0)-(OLD.flags & 1 = 0), deleted=deleted+(NEW.flags & 8 <> 0)-(OLD.flags & 8 <> 0) WHERE id=NEW.mailbox;
END`

func schema() []string {
	return []string{`
CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE mailbox (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	account     INTEGER NOT NULL REFERENCES account (id),
	name        TEXT NOT NULL,
	uidvalidity INTEGER NOT NULL,
	uidnext     INTEGER NOT NULL DEFAULT 1,
	modseq      INTEGER NOT NULL DEFAULT 1,
	recent      INTEGER NOT NULL DEFAULT 1,
	noselect    INTEGER NOT NULL DEFAULT 0,
	use         TEXT NOT NULL DEFAULT '',
	UNIQUE (account, name)
);
CREATE TABLE subscription (account INTEGER NOT NULL REFERENCES account (id), name TEXT NOT NULL, PRIMARY KEY (account, name)) WITHOUT ROWID;
CREATE TABLE body (
	id        INTEGER PRIMARY KEY,
	digest    BLOB NOT NULL UNIQUE,
	size      INTEGER NOT NULL,
	header    BLOB NOT NULL,
	envelope  BLOB NOT NULL,
	basic     BLOB NOT NULL,
	structure BLOB NOT NULL,
	parts     BLOB NOT NULL,
	messageid TEXT NOT NULL,
	content   BLOB -- NULL: in its file
);
CREATE TABLE message (
	mailbox  INTEGER NOT NULL REFERENCES mailbox (id),
	uid      INTEGER NOT NULL,
	modseq   INTEGER NOT NULL,
	flags    INTEGER NOT NULL,
	keywords TEXT NOT NULL,
	internal TEXT NOT NULL,
	saved    INTEGER NOT NULL,
	size     INTEGER NOT NULL,
	body     INTEGER NOT NULL REFERENCES body (id),
	prefix   BLOB NOT NULL,
	sentcopy INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX message_modseq ON message (mailbox, modseq);
CREATE INDEX message_body ON message (body);
CREATE INDEX body_messageid ON body (messageid) WHERE messageid <> '';
CREATE TABLE expunged (mailbox INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (mailbox, modseq, uid)) WITHOUT ROWID;
CREATE TABLE delivered (trace TEXT NOT NULL, mailbox INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (trace, mailbox)) WITHOUT ROWID;
CREATE INDEX delivered_at ON delivered (at);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID`, counters}
}

// Open opens the store in o.Dir. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.InlineLimit == 0 {
		o.InlineLimit = 64 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	db, err := sqlite.Open(ctx, filepath.Join(o.Dir, "store.db"), sqlite.Options{Migrations: schema(), OnFatal: o.OnFatal, Log: o.Log, Reserve: o.Reserve})
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	bodies, err := blob.OpenFolder(filepath.Join(o.Dir, "bodies"))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{o: o, db: db, bodies: bodies, watchers: map[int64]map[*func()]bool{}}, nil
}

// Close implements store.Store.
func (s *Store) Close() error { return s.db.Close() }

// watch implements Mailbox.Watch.
func (s *Store) watch(mailbox int64, wake func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[mailbox] == nil {
		s.watchers[mailbox] = map[*func()]bool{}
	}
	s.watchers[mailbox][&wake] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers[mailbox], &wake)
		if len(s.watchers[mailbox]) == 0 {
			delete(s.watchers, mailbox)
		}
	}
}

// wake tells the watchers of mailboxes that changed. wake functions do not
// block, so they are called under the lock: none is called after its stop.
func (s *Store) wake(mailboxes ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range mailboxes {
		for w := range s.watchers[m] {
			(*w)()
		}
	}
}

// body is a message's content on its way into the database.
type body struct {
	digest    blob.Digest
	size      int64
	scanned   *mime.Message
	content   []byte // nil: lies in its file
	messageID string
}

// take reads a message: scans it, and brings it into memory or its file. The
// caller holds s.naming for reading.
func (s *Store) take(ctx context.Context, in mail.Body) (*body, error) {
	b := &body{size: in.Size()}
	r, err := in.Open()
	if err != nil {
		return nil, fmt.Errorf("reading message: %w", err)
	}
	defer r.Close()
	h := sha256.New()
	var src io.Reader = io.TeeReader(r, h)
	if b.size <= s.o.InlineLimit {
		b.content = make([]byte, 0, b.size)
		src = io.TeeReader(src, appendWriter{&b.content})
	}
	if b.scanned, err = mime.Scan(src, mime.DefaultLimits()); err != nil {
		return nil, fmt.Errorf("reading message: %w", err)
	}
	if b.scanned.Size != b.size {
		return nil, fmt.Errorf("reading message: %w: %d bytes of %d", io.ErrUnexpectedEOF, b.scanned.Size, b.size)
	}
	h.Sum(b.digest[:0])
	b.messageID = b.scanned.MessageID
	if b.content == nil {
		if _, err := s.bodies.Put(ctx, in); err != nil {
			return nil, err
		}
	}
	return b, nil
}

type appendWriter struct{ to *[]byte }

func (w appendWriter) Write(p []byte) (int, error) {
	*w.to = append(*w.to, p...)
	return len(p), nil
}

// insertBody stores a body's row, unless the same body is there, and returns its id.
func insertBody(tx *sqlite.Tx, b *body) (int64, error) {
	var id int64
	if found, err := tx.Get("SELECT id FROM body WHERE digest=?", []any{b.digest[:]}, &id); err != nil || found {
		return id, err
	}
	var content any
	if b.content != nil {
		content = b.content
	}
	m := b.scanned
	id, _, err := tx.Exec("INSERT INTO body (digest, size, header, envelope, basic, structure, parts, messageid, content) VALUES (?,?,?,?,?,?,?,?,?)",
		b.digest[:], b.size, m.Header, m.AppendEnvelope(nil), m.AppendBody(nil), m.AppendBodyStructure(nil), m.AppendParts(nil), b.messageID, content)
	return id, err
}

// dropBodies removes bodies that no message names any more, and returns the
// digests whose files may go once that is committed.
func dropBodies(tx *sqlite.Tx, ids map[int64]bool) (files []blob.Digest, err error) {
	for id := range ids {
		var one int
		if used, err := tx.Get("SELECT 1 FROM message WHERE body=? LIMIT 1", []any{id}, &one); err != nil {
			return nil, err
		} else if used {
			continue
		}
		var digest []byte
		var inFile bool
		if found, err := tx.Get("SELECT digest, content IS NULL FROM body WHERE id=?", []any{id}, &digest, &inFile); err != nil {
			return nil, err
		} else if found && inFile {
			files = append(files, blob.Digest(digest))
		}
		if _, _, err := tx.Exec("DELETE FROM body WHERE id=?", id); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// removeFiles removes the files of dropped bodies that nobody stored again
// meanwhile. A file that stays by an error costs room, no mail: it is logged.
func (s *Store) removeFiles(ctx context.Context, files []blob.Digest) {
	if len(files) == 0 {
		return
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	for _, d := range files {
		var one int
		used := false
		err := s.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
			used, err = tx.Get("SELECT 1 FROM body WHERE digest=?", []any{d[:]}, &one)
			return err
		})
		if err == nil && !used {
			err = s.bodies.Remove(d)
		}
		if err != nil {
			s.o.Log.Warn("body file kept", "digest", d.String(), "err", err)
		}
	}
}

// forsake removes the file of a body that came in and was stored nowhere: it
// was refused, or there all along. After an error of the commit itself the file
// stays, since the commit may turn out to hold it.
func (s *Store) forsake(ctx context.Context, b *body, err error) {
	known := err == nil || errors.Is(err, sqlite.ErrFull) || errors.Is(err, store.ErrOverQuota) || errors.Is(err, store.ErrNoMailbox) || errors.Is(err, store.ErrNoMessage)
	if b.content == nil && known {
		s.removeFiles(context.WithoutCancel(ctx), []blob.Digest{b.digest})
	}
}

// failure makes an engine's error one of the contract's.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqlite.ErrFull):
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "insufficient system storage", Err: err}
	case errors.Is(err, sqlite.ErrFailed), errors.Is(err, sqlite.ErrClosed):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}
