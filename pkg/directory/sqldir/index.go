package sqldir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/sqlite"
)

// pair is a row of the index: an attribute's key, and the normal form of a
// value, shortened. An attribute whose values cannot be compared has one, with
// an empty value.
type pair struct{ attr, value string }

// maxIndexed bounds a value in the index, in bytes. Longer ones are found by
// their beginning and compared in full.
const maxIndexed = 256

func clipped(normal string) string {
	if len(normal) <= maxIndexed {
		return normal
	}
	end := maxIndexed
	for end > maxIndexed-utf8.UTFMax && !utf8.RuneStart(normal[end]) {
		end--
	}
	return normal[:end]
}

// key is the attribute's name in the index.
func key(t *schema.AttributeType, name string) string {
	if t != nil {
		return t.Key()
	}
	name, _, _ = strings.Cut(name, ";")
	return strings.ToLower(name)
}

// pairs are the rows of the index for an entry, in order.
func (d *Dir) pairs(e directory.Entry) []pair {
	var out []pair
	for _, a := range e.Attributes {
		if secret(a.Name) {
			continue
		}
		t := d.schema.Attribute(a.Name)
		k := key(t, a.Name)
		if t == nil || !t.Comparable() {
			out = append(out, pair{attr: k})
			continue
		}
		for _, v := range a.Values {
			out = append(out, pair{k, clipped(d.schema.Normal(t, v))})
		}
	}
	slices.SortFunc(out, comparePairs)
	return slices.Compact(out)
}

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.attr, b.attr), cmp.Compare(a.value, b.value))
}

// parts is the text in which parts of values are looked for.
func (d *Dir) parts(e directory.Entry) string {
	var b strings.Builder
	for _, a := range e.Attributes {
		t := d.schema.Attribute(a.Name)
		if t == nil || !t.Searchable() || t.Operational() || secret(a.Name) {
			continue
		}
		for _, v := range a.Values {
			b.WriteString(strings.ToLower(d.schema.Normal(t, v)))
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// changed returns what is in one sorted list and not in the other.
func changed(before, after []pair) (gone, come []pair) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(before) == 0:
			return gone, append(come, after...)
		case len(after) == 0:
			return append(gone, before...), come
		}
		switch comparePairs(before[0], after[0]) {
		case -1:
			gone, before = append(gone, before[0]), before[1:]
		case 1:
			come, after = append(come, after[0]), after[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return gone, come
}

// rowsAtOnce is how many rows of the index one statement writes.
const rowsAtOnce = 8

func insertRows() string {
	return "INSERT INTO value (attr, value, entry) VALUES (?,?,?)" + strings.Repeat(",(?,?,?)", rowsAtOnce-1)
}

// writeIndex brings the rows of an entry from one state to the next.
func (w *write) writeIndex(id int64, gone, come []pair) error {
	for _, p := range gone {
		w.pairs[p] = true
		if _, _, err := w.tx.Exec("DELETE FROM value WHERE attr=? AND value=? AND entry=?", p.attr, p.value, id); err != nil {
			return err
		}
	}
	for len(come) > 0 {
		n, query := rowsAtOnce, insertRows()
		if len(come) < rowsAtOnce {
			n, query = 1, "INSERT INTO value (attr, value, entry) VALUES (?,?,?)"
		}
		args := make([]any, 0, 3*n)
		for _, p := range come[:n] {
			w.pairs[p] = true
			args = append(args, p.attr, p.value, id)
		}
		if _, _, err := w.tx.Exec(query, args...); err != nil {
			return err
		}
		come = come[n:]
	}
	return nil
}

// writeParts replaces the text of an entry in which parts are looked for.
func (w *write) writeParts(id int64, before, after string) error {
	if before == after {
		return nil
	}
	if before != "" {
		if _, _, err := w.tx.Exec("DELETE FROM part WHERE rowid=?", id); err != nil {
			return err
		}
	}
	if after == "" {
		return nil
	}
	_, _, err := w.tx.Exec("INSERT INTO part (rowid, text) VALUES (?,?)", id, after)
	return err
}

// indexVersion changes when the index of the same schema becomes another.
const indexVersion = 1

// fingerprint names the schema and the form of the index.
func (d *Dir) fingerprint() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%q\n%q", indexVersion, d.schema.AttributeTypes(), d.schema.ObjectClasses())
	return h.Sum(nil)
}

// reindex makes paths and indexes anew if the schema has changed since they
// were made: it says which values are the same.
func (d *Dir) reindex(ctx context.Context) error {
	want := d.fingerprint()
	var have []byte
	var entries int
	if err := d.db.Read(ctx, func(tx *sqlite.Tx) error {
		if _, err := tx.Get("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 1)", nil, &entries); err != nil {
			return err
		}
		_, err := tx.Get("SELECT value FROM meta WHERE name='schema'", nil, &have)
		return err
	}); err != nil || string(have) == string(want) {
		return err
	}
	if entries > 0 {
		d.log.Info("schema changed, making indexes anew")
	}
	return d.db.Write(ctx, func(tx *sqlite.Tx) error {
		for _, query := range []string{"DELETE FROM value", "DELETE FROM part"} {
			if _, _, err := tx.Exec(query); err != nil {
				return err
			}
		}
		w := &write{dir: d, tx: tx, touched: newTouched()}
		for last := int64(0); ; {
			s := &stored{id: 0}
			var raw []byte
			found, err := tx.Get("SELECT id, content FROM entry WHERE id>? ORDER BY id LIMIT 1", []any{last}, &s.id, &raw)
			if err != nil {
				return err
			}
			if !found {
				break
			}
			last = s.id
			if err := d.fill(s, raw); err != nil {
				return err
			}
			clear(w.pairs)
			if err := w.renew(s); err != nil {
				return err
			}
		}
		_, _, err := tx.Exec("INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', ?)", want)
		return err
	})
}

// renew writes an entry and its index as they should be now.
func (w *write) renew(s *stored) error {
	e := w.dir.canonical(s.entry)
	if classes, structural, err := w.dir.schema.Classes(e.Values("objectClass")); err == nil {
		e = setValue(e, "objectClass", classes...)
		e = setValue(e, "structuralObjectClass", structural.Name())
	}
	e, err := w.numbered(e, s.id)
	if err != nil {
		return err
	}
	if _, _, err := w.tx.Exec("UPDATE entry SET path=?, parent=?, content=? WHERE id=?",
		w.dir.path(e.DN), w.dir.path(e.DN.Parent()), encode(e), s.id); err != nil {
		return err
	}
	if err := w.writeIndex(s.id, nil, w.dir.pairs(e)); err != nil {
		return err
	}
	return w.writeParts(s.id, "", w.dir.parts(e))
}
