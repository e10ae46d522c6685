package sqldir

import (
	"context"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/sqlite"
)

// groupAttributes make a group of an entry: its members have memberOf.
func groupAttributes() []string { return []string{"member", "uniquemember"} }

// references are the attributes that follow the entries they name: when these
// are renamed they are, too, and when these go they do.
func references() []string {
	return append(groupAttributes(), "owner", "manager", "secretary", "seealso", "roleoccupant", "mgrpdeliverexception", "aliasedobjectname")
}

// groupsOf returns the DNs of the groups that have dn as a member.
func (d *Dir) groupsOf(tx *sqlite.Tx, dn directory.DN) (groups []string, err error) {
	normal := d.schema.NormalDN(dn)
	for _, attr := range groupAttributes() {
		err := tx.Query(valueQuery, []any{attr, clipped(normal)}, func(scan func(...any) error) error {
			g := &stored{}
			var raw []byte
			if err := scan(&g.id, &g.path, &raw); err != nil {
				return err
			}
			if err := d.fill(g, raw); err != nil {
				return err
			}
			if name := g.entry.DN.String(); d.hasValue(g.entry, attr, dn.String()) && !slices.Contains(groups, name) {
				groups = append(groups, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(groups)
	return groups, nil
}

// findMembers looks up the members of the groups that tests of memberOf name.
func (d *Dir) findMembers(ctx context.Context, t *test) error {
	for i := range t.children {
		if err := d.findMembers(ctx, &t.children[i]); err != nil {
			return err
		}
	}
	if t.kind != directory.Equality || t.undefined || !t.names("memberof") {
		return nil
	}
	dn, err := directory.ParseDN(t.value)
	if err != nil {
		return nil // no group has that name
	}
	g, err := d.load(ctx, dn)
	if err != nil || g == nil {
		return err
	}
	for _, attr := range groupAttributes() {
		for _, v := range g.entry.Values(attr) {
			if m, err := directory.ParseDN(withoutUID(v)); err == nil {
				t.members = append(t.members, d.path(m))
			}
		}
	}
	return nil
}

// withoutUID is a value of uniqueMember without its unique identifier.
func withoutUID(v string) string {
	if i := strings.LastIndex(v, "#'"); i >= 0 && strings.HasSuffix(v, "'B") {
		return v[:i]
	}
	return v
}

// follow makes what names the entry at from name to; nil: nothing any more.
func (w *write) follow(from directory.DN, to *directory.DN) error {
	normal := w.dir.schema.NormalDN(from)
	for _, attr := range references() {
		var holders []*stored
		err := w.tx.Query(valueQuery, []any{attr, clipped(normal)}, func(scan func(...any) error) error {
			h := &stored{}
			var raw []byte
			if err := scan(&h.id, &h.path, &raw); err != nil {
				return err
			}
			holders = append(holders, h)
			return w.dir.fill(h, raw)
		})
		if err != nil {
			return err
		}
		for _, h := range holders {
			if err := w.repoint(h, attr, normal, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// repoint replaces the value of attr that names the entry.
func (w *write) repoint(h *stored, attr, normal string, to *directory.DN) error {
	d := w.dir
	t := d.schema.Attribute(attr)
	e := h.entry
	for _, a := range h.entry.Attributes {
		if d.schema.Attribute(a.Name) != t {
			continue
		}
		values := slices.Clone(a.Values)
		if to == nil {
			values = slices.DeleteFunc(values, func(v string) bool { return d.schema.Normal(t, v) == normal })
		} else {
			for i, v := range values {
				if d.schema.Normal(t, v) == normal {
					values[i] = to.String()
				}
			}
		}
		e = setValue(e, a.Name, values...)
	}
	return w.replace(h, e)
}
