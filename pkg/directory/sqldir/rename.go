package sqldir

import (
	"slices"

	"mailsrv/pkg/directory"
)

// rename gives an entry another name, place, or both (RFC 4511 §4.9): what lies
// below moves along, and what names any of them follows.
func (w *write) rename() error {
	d := w.dir
	parent := w.op.DN.Parent()
	if w.op.Superior != nil {
		parent = *w.op.Superior
	}
	to := directory.DN{RDNs: append([]directory.RDN{w.op.RDN}, parent.RDNs...)}
	if parent.Under(w.op.DN) {
		return result(directory.UnwillingToPerform, "an entry cannot move below itself")
	}
	s, err := w.target()
	if err != nil {
		return err
	}
	if path := d.path(to); path != s.path {
		if taken, err := d.get(w.tx, path); err != nil || taken != nil {
			if err == nil {
				err = result(directory.EntryAlreadyExists, "%s already exists", to)
			}
			return err
		}
	}
	if !parent.Equal(w.op.DN.Parent()) { // a suffix has no parent to be checked, and stays
		if err := w.checkParent(parent); err != nil {
			return err
		}
	}
	below, err := w.below(s.path)
	if err != nil {
		return err
	}
	e, err := w.renamed(s.entry, to)
	if err != nil {
		return err
	}
	w.outcome = directory.Outcome{Before: &s.entry, After: &e}
	if err := w.replace(s, e); err != nil {
		return err
	}
	if err := w.follow(s.entry.DN, &to); err != nil {
		return err
	}
	for _, b := range below {
		own := b.entry.DN.RDNs[:len(b.entry.DN.RDNs)-len(s.entry.DN.RDNs)]
		moved := b.entry
		moved.DN = directory.DN{RDNs: append(slices.Clone(own), to.RDNs...)}
		if b, err = w.again(b); err != nil {
			return err
		}
		moved.Attributes = b.entry.Attributes
		if err := w.replace(b, moved); err != nil {
			return err
		}
		if err := w.follow(b.entry.DN, &moved.DN); err != nil {
			return err
		}
	}
	return nil
}

// again reads an entry anew: what it names may just have been renamed.
func (w *write) again(s *stored) (*stored, error) {
	fresh := &stored{id: s.id, path: s.path}
	var raw []byte
	if _, err := w.tx.Get("SELECT content FROM entry WHERE id=?", []any{s.id}, &raw); err != nil {
		return nil, err
	}
	return fresh, w.dir.fill(fresh, raw)
}

// renamed is the entry under its new name.
func (w *write) renamed(e directory.Entry, to directory.DN) (directory.Entry, error) {
	d := w.dir
	from := e.DN
	if w.op.DeleteOld {
		for _, av := range from.RDNs[0] {
			if !d.hasValue(e, av.Name, av.Value) {
				continue
			}
			var err error
			if e, err = d.apply(e, directory.Change{Kind: directory.DeleteValues,
				Attribute: directory.Attribute{Name: d.canonicalName(av.Name), Values: []string{av.Value}}}); err != nil {
				return e, err
			}
		}
	}
	e.DN = to
	for _, av := range to.RDNs[0] {
		e = d.ensureValue(e, d.canonicalName(av.Name), av.Value)
	}
	return w.checked(w.signed(e), e.Value("structuralObjectClass"))
}
