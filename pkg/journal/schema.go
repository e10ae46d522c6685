package journal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailsrv/pkg/sqlite"
)

// migrations build the database. A record holds the events of one message that
// were written in one commit; words lead to traces, one day at a time, so that
// what is old is one range of the key.
var migrations = []string{`
CREATE TABLE records (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	trace TEXT NOT NULL,
	at    INTEGER NOT NULL, -- Unix milliseconds of the first event
	lines TEXT NOT NULL     -- a JSON object a line
);
CREATE INDEX by_trace ON records (trace);
CREATE TABLE words (
	day   INTEGER NOT NULL, -- since 1970, UTC
	word  TEXT NOT NULL,
	trace TEXT NOT NULL,
	at    INTEGER NOT NULL,
	PRIMARY KEY (day, word, trace)
) WITHOUT ROWID;
`}

const day = 24 * time.Hour

func dayOf(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// record is a row of records, with its words.
type record struct {
	at    time.Time
	lines []byte
	words map[string]bool
}

// rows inserts rows of one table, many by one statement: most of the cost is
// that of a statement.
type rows struct {
	tx *sqlite.Tx
	// insert is the statement up to the values, width how many a row has.
	insert string
	width  int
	args   []any
}

// together is how many rows one statement takes.
const together = 32

func (r *rows) add(values ...any) error {
	if r.args = append(r.args, values...); len(r.args) < together*r.width {
		return nil
	}
	return r.exec(together)
}

// flush inserts the rest.
func (r *rows) flush() error {
	for len(r.args) > 0 {
		if err := r.exec(1); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) exec(n int) error {
	row := "(?" + strings.Repeat(", ?", r.width-1) + ")"
	_, _, err := r.tx.Exec(r.insert+" VALUES "+row+strings.Repeat(", "+row, n-1), r.args[:n*r.width]...)
	if err != nil {
		return fmt.Errorf("inserting %d rows: %w", n, err)
	}
	r.args = append(r.args[:0], r.args[n*r.width:]...)
	return nil
}

// pruneShare is how many rows one commit of the pruning takes, so that no other
// waits long for it.
const pruneShare = 5000

// prune drops what is too old and, if the database is too large, what is oldest.
func (j *Journal) prune(now time.Time) {
	before := now.Add(-j.o.Keep)
	for {
		n, err := j.pruneSome(before)
		if err != nil {
			j.o.Log.Warn("journal not pruned", "err", err)
			return
		}
		if n > 0 {
			continue
		}
		size, oldest, err := j.size()
		if err != nil || size <= j.o.MaxSize || oldest.IsZero() {
			return
		}
		// A day at a time, but never today's: a flood must not cost all history.
		if before = oldest.Truncate(day).Add(day); !before.Before(now.Truncate(day)) {
			j.o.Log.Warn("journal is larger than it may be by today's events alone", "bytes", size)
			return
		}
	}
}

func (j *Journal) pruneSome(before time.Time) (deleted int64, err error) {
	err = j.db.Write(context.Background(), func(tx *sqlite.Tx) error {
		_, n, err := tx.Exec(`DELETE FROM records WHERE id <= (SELECT max(id) FROM (SELECT id, at FROM records ORDER BY id LIMIT ?) WHERE at < ?)`,
			j.o.share, before.UnixMilli())
		if err != nil {
			return err
		}
		_, m, err := tx.Exec(`DELETE FROM words WHERE (day, word, trace) IN (SELECT day, word, trace FROM words WHERE day < ? LIMIT ?)`, dayOf(before), j.o.share)
		deleted = n + m
		return err
	})
	return deleted, err
}

// size is how many bytes of the database are in use, and when its oldest record is of.
func (j *Journal) size() (bytes int64, oldest time.Time, err error) {
	err = j.db.Read(context.Background(), func(tx *sqlite.Tx) error {
		var pages, free, page, at int64
		for text, n := range map[string]*int64{"PRAGMA page_count": &pages, "PRAGMA freelist_count": &free, "PRAGMA page_size": &page} {
			if _, err := tx.Get(text, nil, n); err != nil {
				return err
			}
		}
		found, err := tx.Get("SELECT at FROM records ORDER BY id LIMIT 1", nil, &at)
		if found {
			oldest = time.UnixMilli(at).UTC()
		}
		bytes = (pages - free) * page
		return err
	})
	return bytes, oldest, err
}
