// Package sqlstore is the store's engine: one SQLite database for all
// accounts, with larger bodies in packs and as files beside it.
//
// A body is kept once however many mailboxes hold it, together with what IMAP
// asks about it, rendered when it came in. What belongs to one copy (flags,
// dates, the trace fields of a delivery) is in its message row. Everything
// that was acknowledged is in a durable commit.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
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
	// PackLimit is the largest body kept in packs, in bytes; larger ones are
	// files of their own. 0: none is kept in packs.
	PackLimit int64
	// Mailboxes are made in every new account, beside INBOX.
	Mailboxes []store.MailboxEntry
	// Keep is how long removed messages can be had again; 0: not at all.
	Keep time.Duration
	// ExpungeLog is how many expunges of a mailbox are remembered at the least
	// for clients that come back; 0: 20000.
	ExpungeLog int
	// WarnAt are the parts of a quota, in percent, whose crossing Warn is told
	// of once it is durable; nil: none.
	WarnAt []int
	Warn   func(context.Context, store.QuotaWarning)
	// Memory bounds what is kept of mailboxes in memory, in bytes; 0: 256 MiB.
	Memory int64
	// Reserve: see sqlite.Options.
	Reserve int
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// OnFatal: see sqlite.Options.
	OnFatal func(error)
	Log     *slog.Logger

	// listFrom is listFrom, or less in tests.
	listFrom int
	// at is called at the points where a test has the process die.
	at func(point string)
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
	packs  *blob.Packs
	// naming is held for reading from the moment a large body lies in its file
	// until the commit that names it, and for writing while files that nothing
	// names are removed.
	naming sync.RWMutex
	// backups run, and doomed is what they keep from being removed; both under naming.
	backups int
	doomed  []stored

	search *searchIndex

	group  *group
	holds  sync.Map // of the ids of accounts that are held, to their store.Hold
	boxes  boxes
	pages  sync.Pool             // of *page
	failed atomic.Pointer[error] // a sync of a body's file

	// stop ends tidying, which pruned and listed belong to.
	stop     context.CancelFunc
	listed   time.Time
	tidied   sync.WaitGroup
	pruned   pruned
	warnings chan crossing

	mu       sync.Mutex
	watchers map[int64]map[*func()]bool
	// annotations are those who watch metadata.
	annotations map[*func(store.MetadataChange)]bool
}

// Open opens the store in o.Dir. The caller closes it.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.InlineLimit == 0 {
		o.InlineLimit = 64 << 10
	}
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	if o.ExpungeLog == 0 {
		o.ExpungeLog = 20_000
	}
	if o.listFrom == 0 {
		o.listFrom = listFrom
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.at == nil {
		o.at = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s := &Store{o: o, warnings: make(chan crossing, 64), watchers: map[int64]map[*func()]bool{}, annotations: map[*func(store.MetadataChange)]bool{}, boxes: boxes{budget: o.Memory, byID: map[int64]*box{}}}
	s.group = newGroup(s)
	var err error
	if s.db, err = sqlite.Open(ctx, filepath.Join(o.Dir, "store.db"), sqlite.Options{Migrations: schema(), OnFatal: o.OnFatal, Log: o.Log,
		Reserve: o.Reserve, BeforeCommit: s.group.flush, Settled: s.group.settled}); err != nil {
		return nil, fmt.Errorf("opening store: %w", failure(err))
	}
	if s.bodies, err = blob.OpenFolder(filepath.Join(o.Dir, "bodies")); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	if s.packs, err = blob.OpenPacks(filepath.Join(o.Dir, "packs")); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	if err = s.loadHolds(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store: %w", failure(err)), s.packs.Close(), s.db.Close())
	}
	if s.search, err = openSearch(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("opening store: %w", err), s.packs.Close(), s.db.Close())
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.tidied.Go(func() { s.tidyLoop(ctx) })
	s.tidied.Go(func() { s.search.loop(ctx) })
	return s, nil
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.stop()
	s.tidied.Wait()
	if err := s.saveListings(context.Background(), true); err != nil && !errors.Is(err, sqlite.ErrClosed) {
		s.o.Log.Warn("mailboxes not listed, and slower to select after the start", "err", err)
	}
	return errors.Join(s.search.close(), s.db.Close(), s.packs.Close())
}

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

// failure makes an engine's error one of the contract's.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqlite.ErrFull):
		return &mail.Status{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "insufficient system storage", Err: err}
	case sqlite.IsDamaged(err):
		return fmt.Errorf("%w: the database is damaged; run: mailsrv reconstruct, and what that cannot mend: mailsrv restore DIR: %w", store.ErrUnavailable, err)
	case errors.Is(err, sqlite.ErrFailed), errors.Is(err, sqlite.ErrClosed):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}
