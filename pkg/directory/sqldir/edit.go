package sqldir

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// edit runs one change durably and empties the caches.
func (d *Dir) edit(ctx context.Context, fn func(*sqlite.Tx) error) error {
	err := d.db.Write(ctx, fn)
	d.mu.Lock()
	d.version++
	clear(d.entries)
	clear(d.pairs)
	d.mu.Unlock()
	if err != nil {
		return unavailable(err)
	}
	return nil
}

func result(code directory.ResultCode, format string, args ...any) error {
	return &directory.ResultError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Add implements directory.Editor.
func (d *Dir) Add(ctx context.Context, e directory.Entry) error {
	if e.DN.IsRoot() {
		return result(directory.NamingViolation, "the root cannot be added")
	}
	e.Attributes = slices.Clone(e.Attributes)
	for _, av := range e.DN.RDNs[0] { // RFC 4511 §4.7: the RDN's values belong to the entry
		e = ensureValue(e, av.Name, av.Value)
	}
	now := stamp()
	e = setValue(e, "entryUUID", newUUID())
	e = setValue(e, "createTimestamp", now)
	e = setValue(e, "modifyTimestamp", now)
	if given := e.Values("userPassword"); given != nil {
		kept, err := d.keepable(ctx, given)
		if err != nil {
			return err
		}
		e = setValue(setValue(e, "userPassword", kept.hashes...), directory.SCRAMAttribute, kept.scram...)
	}
	return d.edit(ctx, func(tx *sqlite.Tx) error { return insert(tx, e) })
}

func insert(tx *sqlite.Tx, e directory.Entry) error {
	path, parent := pathOf(e.DN), pathOf(e.DN.Parent())
	if _, found, err := get(tx, path); err != nil || found {
		if found {
			return result(directory.EntryAlreadyExists, "%s already exists", e.DN)
		}
		return err
	}
	if err := checkParent(tx, e.DN.Parent()); err != nil {
		return err
	}
	if err := directory.CheckEntry(e); err != nil {
		return err
	}
	raw, err := encode(e)
	if err != nil {
		return err
	}
	id, _, err := tx.Exec("INSERT INTO entry (path, parent, content) VALUES (?,?,?)", path, parent, raw)
	if err != nil {
		return err
	}
	return index(tx, id, e)
}

// checkParent wants the entry above to exist. The first entry of an empty
// directory needs none: it is the suffix, however deep its DN.
func checkParent(tx *sqlite.Tx, parent directory.DN) error {
	var one int
	if found, err := tx.Get("SELECT 1 FROM entry WHERE path=?", []any{pathOf(parent)}, &one); err != nil || found {
		return err
	}
	if found, err := tx.Get("SELECT 1 FROM entry LIMIT 1", nil, &one); err != nil || !found {
		return err
	}
	return result(directory.NoSuchObject, "%q, above it, does not exist", parent)
}

// index writes the entry's values anew, and refuses those that another entry
// must not share.
func index(tx *sqlite.Tx, id int64, e directory.Entry) error {
	if _, _, err := tx.Exec("DELETE FROM value WHERE entry=?", id); err != nil {
		return err
	}
	if err := checkUnique(tx, id, e); err != nil {
		return err
	}
	for _, a := range e.Attributes {
		if secret(a.Name) {
			continue
		}
		for _, v := range a.Values {
			if _, _, err := tx.Exec("INSERT OR IGNORE INTO value (attr, value, entry) VALUES (?,?,?)",
				strings.ToLower(a.Name), normalOf(a.Name, v), id); err != nil {
				return err
			}
		}
	}
	return nil
}

// Modify implements directory.Editor.
func (d *Dir) Modify(ctx context.Context, dn directory.DN, changes []directory.Change) error {
	for _, c := range changes {
		if operational(c.Name) {
			return result(directory.ConstraintViolation, "%s is kept by the server", c.Name)
		}
	}
	changes, err := d.withoutPasswords(ctx, changes)
	if err != nil {
		return err
	}
	return d.modify(ctx, dn, changes)
}

// modify makes changes that hold no password in clear.
func (d *Dir) modify(ctx context.Context, dn directory.DN, changes []directory.Change) error {
	return d.edit(ctx, func(tx *sqlite.Tx) error {
		s, found, err := get(tx, pathOf(dn))
		if err != nil || !found {
			if err == nil {
				err = missing(false)
			}
			return err
		}
		e := s.entry
		for _, c := range changes {
			if e, err = apply(e, c); err != nil {
				return err
			}
		}
		for _, av := range e.DN.RDNs[0] {
			if !hasValue(e, av.Name, av.Value) {
				return result(directory.NotAllowedOnRDN, "%s names the entry", av.Name)
			}
		}
		e = setValue(e, "modifyTimestamp", stamp())
		if err := directory.CheckEntry(e); err != nil {
			return err
		}
		return update(tx, s.id, e)
	})
}

func update(tx *sqlite.Tx, id int64, e directory.Entry) error {
	raw, err := encode(e)
	if err != nil {
		return err
	}
	if _, _, err := tx.Exec("UPDATE entry SET path=?, parent=?, content=? WHERE id=?", pathOf(e.DN), pathOf(e.DN.Parent()), raw, id); err != nil {
		return err
	}
	return index(tx, id, e)
}

// apply makes one change of a Modify.
func apply(e directory.Entry, c directory.Change) (directory.Entry, error) {
	e.Attributes = slices.Clone(e.Attributes)
	i := slices.IndexFunc(e.Attributes, func(a directory.Attribute) bool { return strings.EqualFold(a.Name, c.Name) })
	switch c.Kind {
	case directory.ReplaceValues:
		return setValue(e, c.Name, c.Values...), nil
	case directory.AddValues:
		if len(c.Values) == 0 {
			return e, result(directory.ProtocolError, "no values to add to %s", c.Name)
		}
		for _, v := range c.Values {
			if hasValue(e, c.Name, v) {
				return e, result(directory.AttributeOrValueExists, "%s has that value", c.Name)
			}
			e = ensureValue(e, c.Name, v)
		}
		return e, nil
	}
	if i < 0 {
		return e, result(directory.NoSuchAttribute, "no attribute %s", c.Name)
	}
	if len(c.Values) == 0 {
		return setValue(e, c.Name), nil
	}
	left := slices.Clone(e.Attributes[i].Values)
	for _, v := range c.Values {
		n := len(left)
		left = slices.DeleteFunc(left, func(old string) bool { return normalOf(c.Name, old) == normalOf(c.Name, v) })
		if len(left) == n {
			return e, result(directory.NoSuchAttribute, "%s has no such value", c.Name)
		}
	}
	return setValue(e, c.Name, left...), nil
}

func hasValue(e directory.Entry, name, v string) bool {
	return slices.ContainsFunc(e.Values(name), func(old string) bool { return normalOf(name, old) == normalOf(name, v) })
}

// setValue replaces an attribute; no values remove it. It changes no slice
// that e shares.
func setValue(e directory.Entry, name string, values ...string) directory.Entry {
	out := make([]directory.Attribute, 0, len(e.Attributes)+1)
	done := len(values) == 0
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, name) {
			if done {
				continue
			}
			a, done = directory.Attribute{Name: a.Name, Values: slices.Clone(values)}, true
		}
		out = append(out, a)
	}
	if !done {
		out = append(out, directory.Attribute{Name: name, Values: slices.Clone(values)})
	}
	e.Attributes = out
	return e
}

func ensureValue(e directory.Entry, name, v string) directory.Entry {
	if hasValue(e, name, v) {
		return e
	}
	return setValue(e, name, append(slices.Clone(e.Values(name)), v)...)
}

// Delete implements directory.Editor.
func (d *Dir) Delete(ctx context.Context, dn directory.DN) error {
	path := pathOf(dn)
	return d.edit(ctx, func(tx *sqlite.Tx) error {
		var one int
		if found, err := tx.Get("SELECT 1 FROM entry WHERE parent=? LIMIT 1", []any{path}, &one); err != nil || found {
			if err == nil {
				err = result(directory.NotAllowedOnNonLeaf, "there are entries below %s", dn)
			}
			return err
		}
		_, n, err := tx.Exec("DELETE FROM entry WHERE path=?", path)
		if err == nil && n == 0 {
			err = missing(false)
		}
		return err
	})
}

// Rename implements directory.Editor.
func (d *Dir) Rename(ctx context.Context, dn directory.DN, rdn directory.RDN, deleteOld bool, superior *directory.DN) error {
	parent := dn.Parent()
	if superior != nil {
		parent = *superior
	}
	to := directory.DN{RDNs: append([]directory.RDN{rdn}, parent.RDNs...)}
	if parent.Under(dn) {
		return result(directory.UnwillingToPerform, "an entry cannot move below itself")
	}
	return d.edit(ctx, func(tx *sqlite.Tx) error {
		s, found, err := get(tx, pathOf(dn))
		if err != nil || !found {
			if err == nil {
				err = missing(false)
			}
			return err
		}
		if !to.Equal(dn) {
			if _, taken, err := get(tx, pathOf(to)); err != nil || taken {
				if err == nil {
					err = result(directory.EntryAlreadyExists, "%s already exists", to)
				}
				return err
			}
		}
		if !parent.Equal(dn.Parent()) { // a suffix has no parent to be checked, and stays
			if err := checkParent(tx, parent); err != nil {
				return err
			}
		}
		return rename(tx, s, to, deleteOld)
	})
}

// rename moves an entry and all below it.
func rename(tx *sqlite.Tx, s stored, to directory.DN, deleteOld bool) error {
	from := s.entry.DN
	var below []stored
	path := pathOf(from)
	if err := tx.Query("SELECT id, content FROM entry WHERE path>? AND path<?", []any{path, path + "\xff"}, func(scan func(...any) error) error {
		var b stored
		var raw []byte
		if err := scan(&b.id, &raw); err != nil {
			return err
		}
		var err error
		b.entry, err = decode(raw)
		below = append(below, b)
		return err
	}); err != nil {
		return err
	}
	e := s.entry
	if deleteOld {
		for _, av := range from.RDNs[0] {
			if hasValue(e, av.Name, av.Value) {
				var err error
				if e, err = apply(e, directory.Change{Kind: directory.DeleteValues, Attribute: directory.Attribute{Name: av.Name, Values: []string{av.Value}}}); err != nil {
					return err
				}
			}
		}
	}
	e.DN = to
	for _, av := range to.RDNs[0] {
		e = ensureValue(e, av.Name, av.Value)
	}
	if err := directory.CheckEntry(e); err != nil {
		return err
	}
	if err := update(tx, s.id, setValue(e, "modifyTimestamp", stamp())); err != nil {
		return err
	}
	for _, b := range below {
		own := b.entry.DN.RDNs[:len(b.entry.DN.RDNs)-len(from.RDNs)]
		b.entry.DN = directory.DN{RDNs: append(slices.Clone(own), to.RDNs...)}
		if err := update(tx, b.id, b.entry); err != nil {
			return err
		}
	}
	return nil
}

// stamp is the time now as GeneralizedTime (RFC 4517 §3.3.13).
func stamp() string { return time.Now().UTC().Format("20060102150405Z") }

// newUUID is a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
