package sqldir

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// Add implements directory.Editor.
func (d *Dir) Add(ctx context.Context, e directory.Entry) error {
	_, err := d.Operate(ctx, directory.Operation{Kind: directory.AddEntry, DN: e.DN, Attributes: e.Attributes})
	return err
}

// Modify implements directory.Editor.
func (d *Dir) Modify(ctx context.Context, dn directory.DN, changes []directory.Change) error {
	_, err := d.Operate(ctx, directory.Operation{Kind: directory.ModifyEntry, DN: dn, Changes: changes})
	return err
}

// Delete implements directory.Editor.
func (d *Dir) Delete(ctx context.Context, dn directory.DN) error {
	_, err := d.Operate(ctx, directory.Operation{Kind: directory.DeleteEntry, DN: dn})
	return err
}

// Rename implements directory.Editor.
func (d *Dir) Rename(ctx context.Context, dn directory.DN, rdn directory.RDN, deleteOld bool, superior *directory.DN) error {
	_, err := d.Operate(ctx, directory.Operation{Kind: directory.RenameEntry, DN: dn, RDN: rdn, DeleteOld: deleteOld, Superior: superior})
	return err
}

// Operate implements directory.Operator.
func (d *Dir) Operate(ctx context.Context, op directory.Operation) (directory.Outcome, error) {
	op, err := d.prepare(ctx, op)
	if err != nil {
		return directory.Outcome{}, unavailable(err)
	}
	return d.run(ctx, op)
}

// run makes a change whose passwords are hashed, durably.
func (d *Dir) run(ctx context.Context, op directory.Operation) (directory.Outcome, error) {
	w := &write{dir: d, op: op}
	if op.Assert != nil {
		t := d.compile(*op.Assert)
		w.assert = &t
	}
	err := d.db.Write(ctx, func(tx *sqlite.Tx) error {
		w.tx, w.touched, w.outcome, w.now = tx, newTouched(), directory.Outcome{}, d.stamp()
		return w.run()
	})
	d.cache.forget(w.touched)
	if err != nil {
		return directory.Outcome{}, unavailable(err)
	}
	return w.outcome, nil
}

// prepare checks what can be checked without the entry, and hashes passwords:
// that takes 50 ms, and must not keep the writer.
func (d *Dir) prepare(ctx context.Context, op directory.Operation) (directory.Operation, error) {
	switch op.Kind {
	case directory.AddEntry:
		if op.DN.IsRoot() {
			return op, result(directory.NamingViolation, "the root cannot be added")
		}
		e := d.canonical(directory.Entry{DN: op.DN, Attributes: slices.Clone(op.Attributes)})
		for _, a := range e.Attributes {
			if err := d.mayGive(a.Name); err != nil {
				return op, err
			}
		}
		if given := e.Values("userPassword"); given != nil {
			for _, v := range given {
				if err := d.acceptable(ctx, e.DN, v); err != nil {
					return op, err
				}
			}
			k, err := d.keepable(ctx, given)
			if err != nil {
				return op, err
			}
			e = setValue(setValue(e, "userPassword", k.hashes...), directory.SCRAMAttribute, k.scram...)
			e = setValue(e, pwdChangedTime, d.stamp())
		}
		op.Attributes = e.Attributes
	case directory.ModifyEntry:
		changes := slices.Clone(op.Changes)
		for i, c := range changes {
			if err := d.mayGive(c.Name); err != nil {
				return op, err
			}
			changes[i].Name = d.canonicalName(c.Name)
		}
		var err error
		if op.Changes, err = d.withoutPasswords(ctx, op.DN, changes); err != nil {
			return op, err
		}
	}
	return op, nil
}

// mayGive reports whether a caller may set the attribute: it is defined, and
// not the server's own.
func (d *Dir) mayGive(name string) error {
	t := d.schema.Attribute(name)
	if t == nil {
		return result(directory.UndefinedAttributeType, "%.60q: attribute type undefined", name)
	}
	if t.NoUserModification {
		return result(directory.ConstraintViolation, "%s: no user modification allowed", t.Name())
	}
	return nil
}

// write is one operation within the writer's transaction.
type write struct {
	dir    *Dir
	op     directory.Operation
	assert *test
	tx     *sqlite.Tx
	now    string
	touched
	outcome directory.Outcome
}

func (w *write) run() error {
	switch w.op.Kind {
	case directory.AddEntry:
		return w.add()
	case directory.ModifyEntry:
		return w.modify()
	case directory.DeleteEntry:
		return w.delete()
	case directory.RenameEntry:
		return w.rename()
	}
	return result(directory.ProtocolError, "unknown operation")
}

// target is the entry to be changed; it must match the operation's assertion.
func (w *write) target() (*stored, error) {
	s, err := w.dir.get(w.tx, w.dir.path(w.op.DN))
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, result(directory.NoSuchObject, "no such object")
	}
	return s, w.asserted(s)
}

func (w *write) asserted(s *stored) error {
	if w.assert == nil || w.dir.matches(s, w.assert) == yes {
		return nil
	}
	return result(directory.AssertionFailed, "the assertion does not hold")
}

func (w *write) add() error {
	d := w.dir
	e := directory.Entry{DN: w.op.DN, Attributes: w.op.Attributes}
	path := d.path(e.DN)
	if s, err := d.get(w.tx, path); err != nil || s != nil {
		if s != nil {
			return result(directory.EntryAlreadyExists, "%s already exists", e.DN)
		}
		return err
	}
	if err := w.checkParent(e.DN.Parent()); err != nil {
		return err
	}
	for _, av := range e.DN.RDNs[0] { // RFC 4511 §4.7: the RDN's values belong to the entry
		e = d.ensureValue(e, d.canonicalName(av.Name), av.Value)
	}
	e = setValue(e, "entryUUID", newUUID())
	e = setValue(e, "createTimestamp", w.now)
	e = w.signed(e, "creatorsName")
	e, err := w.numbered(e, 0)
	if err != nil {
		return err
	}
	if e, err = w.checked(e, ""); err != nil {
		return err
	}
	pairs := d.pairs(e)
	if err := w.checkUnique(0, e, pairs, true); err != nil {
		return err
	}
	s := &stored{path: path, entry: e}
	if w.assert != nil {
		for _, a := range e.Attributes {
			s.types = append(s.types, d.schema.Attribute(a.Name))
		}
		if err := w.asserted(s); err != nil {
			return err
		}
	}
	id, _, err := w.tx.Exec("INSERT INTO entry (path, parent, content) VALUES (?,?,?)", path, d.path(e.DN.Parent()), encode(e))
	if err != nil {
		return err
	}
	w.paths[path] = true
	w.outcome.After = &e
	if err := w.writeIndex(id, nil, pairs); err != nil {
		return err
	}
	return w.writeParts(id, "", d.parts(e))
}

// signed notes who has changed the entry, and when.
func (w *write) signed(e directory.Entry, also ...string) directory.Entry {
	e = setValue(e, "modifyTimestamp", w.now)
	for _, name := range append(also, "modifiersName") {
		if w.op.Actor.IsRoot() {
			e = setValue(e, name)
		} else {
			e = setValue(e, name, w.op.Actor.String())
		}
	}
	return e
}

// checked is the entry with all its classes, if it obeys the schema. Of an
// entry that was there, structural is its structural class, which stays.
func (w *write) checked(e directory.Entry, structural string) (directory.Entry, error) {
	d := w.dir
	if len(e.Values("objectClass")) == 0 {
		return e, result(directory.ObjectClassViolation, "no objectClass attribute")
	}
	classes, class, err := d.schema.Classes(e.Values("objectClass"))
	if err != nil {
		return e, err
	}
	if structural != "" && d.schema.Class(structural) != class {
		return e, result(directory.ObjectClassModsProhibited, "structural object class modification from '%s' to '%s' not allowed", structural, class.Name())
	}
	e = setValue(setValue(e, "objectClass", classes...), "structuralObjectClass", class.Name())
	for _, av := range e.DN.RDNs[0] {
		if t := d.schema.Attribute(av.Name); t == nil || !t.Comparable() || t.Operational() || secret(t.Name()) {
			return e, result(directory.NamingViolation, "%s cannot name an entry", av.Name)
		}
		if !d.hasValue(e, av.Name, av.Value) {
			return e, result(directory.NotAllowedOnRDN, "%s names the entry", av.Name)
		}
	}
	if err := d.schema.Check(e.Attributes, classes); err != nil {
		return e, err
	}
	return e, directory.CheckUser(e)
}

// checkParent wants the entry above to exist. The first entry of an empty
// directory needs none: it is the suffix, however deep its DN.
func (w *write) checkParent(parent directory.DN) error {
	var one int
	if found, err := w.tx.Get("SELECT 1 FROM entry WHERE path=?", []any{w.dir.path(parent)}, &one); err != nil || found {
		return err
	}
	if found, err := w.tx.Get("SELECT 1 FROM entry LIMIT 1", nil, &one); err != nil || !found {
		return err
	}
	return result(directory.NoSuchObject, "%q, above it, does not exist", parent)
}

func (w *write) modify() error {
	s, err := w.target()
	if err != nil {
		return err
	}
	e := s.entry
	for _, c := range w.op.Changes {
		if e, err = w.dir.apply(e, c); err != nil {
			return err
		}
	}
	if e, err = w.numbered(w.signed(e), s.id); err != nil {
		return err
	}
	if e, err = w.checked(e, s.entry.Value("structuralObjectClass")); err != nil {
		return err
	}
	w.outcome = directory.Outcome{Before: &s.entry, After: &e}
	return w.replace(s, e)
}

// replace writes a new state of an entry, under the same DN or another.
func (w *write) replace(s *stored, e directory.Entry) error {
	d := w.dir
	path, before := d.path(e.DN), d.pairs(s.entry)
	gone, come := changed(before, d.pairs(e))
	if err := w.checkUnique(s.id, e, come, path != s.path); err != nil {
		return err
	}
	if path != s.path {
		if _, _, err := w.tx.Exec("UPDATE entry SET path=?, parent=?, content=? WHERE id=?", path, d.path(e.DN.Parent()), encode(e), s.id); err != nil {
			return err
		}
	} else if _, _, err := w.tx.Exec("UPDATE entry SET content=? WHERE id=?", encode(e), s.id); err != nil {
		return err
	}
	w.paths[s.path], w.paths[path] = true, true
	for _, p := range before { // the caches' holders of its values are this entry as it was
		w.pairs[p] = true
	}
	if err := w.writeIndex(s.id, gone, come); err != nil {
		return err
	}
	return w.writeParts(s.id, d.parts(s.entry), d.parts(e))
}

func (w *write) delete() error {
	s, err := w.target()
	if err != nil {
		return err
	}
	below, err := w.below(s.path)
	if err != nil {
		return err
	}
	if len(below) > 0 && !w.op.Subtree {
		return result(directory.NotAllowedOnNonLeaf, "there are entries below %s", w.op.DN)
	}
	w.outcome.Before = &s.entry
	for _, e := range append(below, s) {
		if err := w.remove(e); err != nil {
			return err
		}
	}
	return nil
}

// below are the entries below a path, the deepest last.
func (w *write) below(path string) (found []*stored, err error) {
	err = w.tx.Query("SELECT id, path, content FROM entry WHERE path>? AND path<? ORDER BY path", []any{path, path + beyond}, func(scan func(...any) error) error {
		s := &stored{}
		var raw []byte
		if err := scan(&s.id, &s.path, &raw); err != nil {
			return err
		}
		found = append(found, s)
		return w.dir.fill(s, raw)
	})
	return found, err
}

func (w *write) remove(s *stored) error {
	if _, _, err := w.tx.Exec("DELETE FROM entry WHERE id=?", s.id); err != nil {
		return err
	}
	w.paths[s.path] = true
	if err := w.writeIndex(s.id, w.dir.pairs(s.entry), nil); err != nil {
		return err
	}
	if err := w.writeParts(s.id, w.dir.parts(s.entry), ""); err != nil {
		return err
	}
	return w.follow(s.entry.DN, nil)
}

// stamp is the time now as GeneralizedTime (RFC 4517 §3.3.13).
func (d *Dir) stamp() string { return d.now().UTC().Format(timeLayout) }

const timeLayout = "20060102150405Z"

// newUUID is a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
