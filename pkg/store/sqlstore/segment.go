package sqlstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
	"mailsrv/pkg/trigram"
)

const (
	// maxPairs closes a segment early: it bounds the memory of building one.
	maxPairs = 1 << 20
	// maxFields bounds what is kept of one message's fields, in bytes.
	maxFields = 64 << 10
	// searchFields is the number of store.SearchFields.
	searchFields = 5
)

// segmentBuilder builds one segment of the search index after another.
type segmentBuilder struct {
	grams  trigram.Builder
	text   store.SearchText
	uids   []store.UID
	maybe  trigram.Set
	fields [searchFields][]byte
}

func (b *segmentBuilder) reset() {
	b.grams.Reset()
	b.uids, b.maybe = b.uids[:0], trigram.Set{}
	for n := range b.fields {
		b.fields[n] = b.fields[n][:0]
	}
}

func (b *segmentBuilder) full() bool {
	return len(b.uids) == trigram.MaxDocs || b.grams.Len() > maxPairs
}

// add brings a message in. What cannot be read leaves it to every search to
// look for itself.
func (b *segmentBuilder) add(m *store.Message, body io.ReaderAt) {
	i := len(b.uids)
	b.uids = append(b.uids, m.UID)
	b.grams.Begin(i)
	parts, err := mime.DecodeParts(m.Parts)
	if err == nil {
		err = b.text.Message(body, parts, true, func(piece []byte, begins bool) bool {
			if begins {
				b.grams.Text()
			}
			b.grams.Write(piece)
			return true
		})
	}
	if whole := b.grams.End(); err != nil || !whole || len(m.Header) >= mime.DefaultLimits().Header {
		b.maybe.Add(i)
	}
	b.addFields(i, m.Header)
}

func (b *segmentBuilder) addFields(i int, header []byte) {
	var begin [searchFields]int
	size := 0
	for n := range b.fields {
		begin[n] = len(b.fields[n])
	}
	for f := range mime.Fields(header) {
		for n, name := range store.SearchFields() {
			if f.Is(string(name)) {
				value := b.text.Field(f, false)
				size += len(value)
				b.fields[n] = append(append(b.fields[n], value...), endOfField)
			}
		}
	}
	for n := range b.fields {
		if size > maxFields {
			b.fields[n] = b.fields[n][:begin[n]]
			b.maybe.Add(i)
		}
		b.fields[n] = append(b.fields[n], endOfMessage)
	}
}

// take brings in what an old segment has of those of its messages that live
// says are there still.
func (b *segmentBuilder) take(tx *sqlite.Tx, g *segment, live func(store.UID) bool) error {
	var to [trigram.MaxDocs]int
	for i := range to {
		to[i] = -1
	}
	for i, u := range g.uids {
		if !live(u) {
			continue
		}
		if to[i] = len(b.uids); g.maybe.Has(i) {
			b.maybe.Add(len(b.uids))
		}
		b.uids = append(b.uids, u)
	}
	if err := tx.Query("SELECT id, grams FROM page WHERE id BETWEEN ? AND ? ORDER BY id", []any{g.id << 24, g.id<<24 | 0xffffff},
		func(scan func(...any) error) error {
			var id int64
			var page []byte
			if err := scan(&id, &page); err != nil {
				return err
			}
			return b.grams.Take(trigram.Gram(id&0xffffff), page, &to)
		}); err != nil {
		return err
	}
	for n := range b.fields {
		var values []byte
		if _, err := tx.Get("SELECT text FROM field WHERE id=?", []any{g.id<<3 | int64(n)}, &values); err != nil {
			return err
		}
		for i := range g.uids {
			end := bytes.IndexByte(values, endOfMessage) + 1
			if end == 0 {
				return fmt.Errorf("fields of segment %d of the search index are damaged", g.id)
			}
			if to[i] >= 0 {
				b.fields[n] = append(b.fields[n], values[:end]...)
			}
			values = values[end:]
		}
	}
	return nil
}

// store writes the segment in place of old ones.
func (b *segmentBuilder) store(tx *sqlite.Tx, mailbox int64, old []segment) error {
	for _, g := range old {
		if err := dropSegment(tx, g.id); err != nil {
			return err
		}
	}
	if len(b.uids) == 0 {
		return nil
	}
	var uids []byte
	last := store.UID(0)
	for _, u := range b.uids {
		uids = binary.AppendUvarint(uids, uint64(u-last))
		last = u
	}
	maybe := []byte{}
	if b.maybe != (trigram.Set{}) {
		for _, w := range b.maybe {
			maybe = binary.LittleEndian.AppendUint64(maybe, w)
		}
	}
	id, _, err := tx.Exec("INSERT INTO segment (mailbox, first, uids, maybe, docs, size) VALUES (?,?,?,?,?,0)", mailbox, int64(b.uids[0]), uids, maybe, len(b.uids))
	if err != nil {
		return err
	}
	size := int64(0)
	for first, page := range b.grams.Pages() {
		size += int64(len(page))
		if _, _, err := tx.Exec("INSERT INTO page (id, grams) VALUES (?,?)", id<<24|int64(first), page); err != nil {
			return err
		}
	}
	for n, values := range b.fields {
		if _, _, err := tx.Exec("INSERT INTO field (id, text) VALUES (?,?)", id<<3|int64(n), values); err != nil {
			return err
		}
	}
	_, _, err = tx.Exec("UPDATE segment SET size=? WHERE id=?", size, id)
	return err
}

func dropSegment(tx *sqlite.Tx, id int64) error {
	for _, q := range [...]string{"DELETE FROM page WHERE id BETWEEN ?1<<24 AND ?1<<24 | 0xffffff", "DELETE FROM field WHERE id BETWEEN ?1<<3 AND ?1<<3 | 7",
		"DELETE FROM segment WHERE id=?1"} {
		if _, _, err := tx.Exec(q, id); err != nil {
			return err
		}
	}
	return nil
}
