package sqlstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"mailsrv/pkg/blob"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// identity tells the messages of a mailbox apart: what they say and when they came.
type identity [sha256.Size]byte

func identityOf(digest, prefix []byte, internal int64) identity {
	return sha256.Sum256(binary.BigEndian.AppendUint64(append(append([]byte(nil), digest...), prefix...), uint64(internal)))
}

// backedUp is a message of a backup.
type backedUp struct {
	account, mailbox string
	mailboxID        int64
	uid              store.UID
	flags            uint8
	keywords         string
	internal         int64
	zone             int
	prefix, digest   []byte
	size             int64
	header, text     []byte
	inFile           bool
}

const backedUpQuery = `SELECT account.name, mailbox.name, mailbox, uid, flags, keywords, internal, zone, prefix, digest, body.size, header, text, text IS NULL
	FROM message JOIN mailbox ON mailbox.id=mailbox JOIN account ON account.id=mailbox.account JOIN body ON body.id=body
	WHERE (mailbox, uid)>(?1, ?2) AND (?3='' OR account.name=?3) AND (?4='' OR mailbox.name=?4) AND (?5='' OR messageid=?5) AND internal BETWEEN ?6 AND ?7
	ORDER BY mailbox, uid LIMIT 64`

// Restore implements store.Keeper.
func (s *Store) Restore(ctx context.Context, dir string, q store.Selection) (n int, err error) {
	since, until, name, err := choose(q)
	if err != nil {
		return 0, err
	}
	tmp, err := os.MkdirTemp(s.o.Dir, "restore-*")
	if err != nil {
		return 0, fmt.Errorf("restoring: %w", err)
	}
	defer os.RemoveAll(tmp)
	bodies, err := openBackupBodies(dir)
	if err != nil {
		return 0, fmt.Errorf("restoring: %w", err)
	}
	// A copy, so that the backup stays as it is whatever its version.
	if err := copyFile(filepath.Join(dir, "store.db"), filepath.Join(tmp, "store.db")); err != nil {
		return 0, fmt.Errorf("restoring: %w", err)
	}
	db, err := sqlite.Open(ctx, filepath.Join(tmp, "store.db"), sqlite.Options{Migrations: schema()})
	if err != nil {
		return 0, fmt.Errorf("restoring: %w", err)
	}
	defer db.Close()
	r := restorer{s: s, bodies: bodies, there: map[int64]map[identity]int{}}
	for at := (backedUp{}); ; {
		var page []backedUp
		if err := db.Read(ctx, func(tx *sqlite.Tx) error {
			return tx.Query(backedUpQuery, []any{at.mailboxID, int64(at.uid), q.Account, name, q.MessageID, since - 1, until}, func(scan func(...any) error) error {
				var m backedUp
				err := scan(&m.account, &m.mailbox, &m.mailboxID, &m.uid, &m.flags, &m.keywords, &m.internal, &m.zone, &m.prefix, &m.digest, &m.size, &m.header, &m.text, &m.inFile)
				page = append(page, m)
				return err
			})
		}); err != nil || len(page) == 0 {
			return r.restored, failure(err)
		}
		for i := range page {
			err := r.restore(ctx, &page[i])
			if errors.Is(err, store.ErrHeld) && q.Account == "" {
				continue // it lives in another store now, and nobody asked for it by name
			}
			if err != nil {
				return r.restored, fmt.Errorf("restoring message %d of %s in %s: %w", page[i].uid, page[i].mailbox, page[i].account, failure(err))
			}
		}
		at = page[len(page)-1]
	}
}

type restorer struct {
	s        *Store
	bodies   *blob.Folder
	there    map[int64]map[identity]int // of a mailbox of the backup: what ours of that name holds
	restored int
}

// restore brings one message back, unless it is there.
func (r *restorer) restore(ctx context.Context, m *backedUp) error {
	there := r.there[m.mailboxID]
	if there == nil {
		there = map[identity]int{}
		clear(r.there)
		r.there[m.mailboxID] = there
		if err := r.s.db.Read(ctx, func(tx *sqlite.Tx) error {
			clear(there)
			return tx.Query(`SELECT digest, prefix, internal FROM account JOIN mailbox ON account=account.id JOIN message ON mailbox=mailbox.id JOIN body ON body.id=body
				WHERE account.name=? AND mailbox.name=?`, []any{m.account, m.mailbox}, func(scan func(...any) error) error {
				var digest, prefix []byte
				var internal int64
				err := scan(&digest, &prefix, &internal)
				there[identityOf(digest, prefix, internal)]++
				return err
			})
		}); err != nil {
			return err
		}
	}
	id := identityOf(m.digest, m.prefix, m.internal)
	if there[id] > 0 {
		there[id]--
		return nil
	}
	var in mail.Body = append(mail.Bytes(m.header), m.text...)
	if m.inFile {
		in = fileBody{r.bodies, blob.Digest(m.digest), m.size}
	}
	incoming := []store.Incoming{{Body: in}}
	err := r.s.bring(ctx, incoming, func(bodies []*body) error {
		if bodies[0].digest != blob.Digest(m.digest) {
			return errors.New("the backup's body does not have its hash")
		}
		return r.s.write(ctx, func(g *group) error {
			c, err := g.target(store.Target{Account: m.account, Mailbox: m.mailbox})
			if err != nil {
				return err
			}
			id, err := bodies[0].insert(g)
			if err != nil {
				return err
			}
			_, err = g.add(c, message{flags: flagsOf(m.flags, m.keywords), internal: time.Unix(m.internal, 0).In(time.FixedZone("", m.zone*60)),
				size: m.size + int64(len(m.prefix)), body: id, prefix: m.prefix})
			return err
		})
	})
	if err == nil {
		r.restored++
	}
	return err
}

// fileBody is a body in a backup's folder.
type fileBody struct {
	folder *blob.Folder
	digest blob.Digest
	size   int64
}

var _ mail.Body = fileBody{}

// Open implements mail.Body.
func (b fileBody) Open() (io.ReadCloser, error) { return b.folder.Open(b.digest) }

// Size implements mail.Body.
func (b fileBody) Size() int64 { return b.size }

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}
