package sqldir

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/sqlite"
)

// subschemaDN is where the door publishes the schema (RFC 4512 §4.2).
const subschemaDN = "cn=Subschema"

// liveAttributes are not stored but found when they are wanted.
func liveAttributes() []string {
	return []string{"memberof", "hassubordinates", "entrydn", "subschemasubentry"}
}

// selection says which attributes are to be returned (RFC 4511 §4.5.1.8).
type selection struct {
	users, operational bool
	types              []*schema.AttributeType // named, with their subtypes
	options            map[*schema.AttributeType][]string
	live               []string
	typesOnly          bool
}

func (d *Dir) selection(q directory.Query) selection {
	s := selection{users: len(q.Attributes) == 0, typesOnly: q.TypesOnly}
	for _, name := range q.Attributes {
		switch name {
		case "*":
			s.users = true
			continue
		case "+":
			s.operational = true
			s.live = liveAttributes()
			continue
		}
		t := d.schema.Attribute(name)
		if t == nil {
			continue
		}
		_, options := splitOptions(name)
		for _, sub := range t.Subtypes() {
			s.types = append(s.types, sub)
			if len(options) > 0 {
				if s.options == nil {
					s.options = map[*schema.AttributeType][]string{}
				}
				s.options[sub] = options
			}
		}
		if slices.Contains(liveAttributes(), t.Key()) && !slices.Contains(s.live, t.Key()) {
			s.live = append(s.live, t.Key())
		}
	}
	return s
}

// wants reports whether an attribute is selected. Secrets are by name alone.
func (s *selection) wants(t *schema.AttributeType, name string) bool {
	if t != nil && slices.Contains(s.types, t) && hasOptions(name, s.options[t]) {
		return true
	}
	if t != nil && t.Operational() {
		return s.operational && !secret(name)
	}
	return s.users
}

// show is what the caller gets of an entry. The values are copied: the entry
// may be in the cache.
func (s *search) show(ctx context.Context, e *stored) (directory.Entry, error) {
	if len(s.shown.live) > 0 {
		err := s.dir.db.Read(ctx, func(tx *sqlite.Tx) (err error) {
			e, err = s.dir.withLive(tx, e)
			return err
		})
		if err != nil {
			return directory.Entry{}, unavailable(err)
		}
	}
	total := 0
	for _, a := range e.entry.Attributes {
		total += len(a.Values)
	}
	values := make([]string, 0, total) // of all attributes, in one piece
	out := directory.Entry{DN: e.entry.DN, Attributes: make([]directory.Attribute, 0, len(e.entry.Attributes))}
	for i, a := range e.entry.Attributes {
		if !s.shown.wants(e.types[i], a.Name) {
			continue
		}
		kept := directory.Attribute{Name: a.Name}
		if !s.shown.typesOnly {
			from := len(values)
			values = append(values, a.Values...)
			kept.Values = values[from:len(values):len(values)]
		}
		out.Attributes = append(out.Attributes, kept)
	}
	return out, nil
}

// withLive is the entry with the attributes that are not stored.
func (d *Dir) withLive(tx *sqlite.Tx, s *stored) (*stored, error) {
	e := s.entry
	var one int
	below, err := tx.Get("SELECT 1 FROM entry WHERE parent=? LIMIT 1", []any{s.path}, &one)
	if err != nil {
		return nil, err
	}
	groups, err := d.groupsOf(tx, s.entry.DN)
	if err != nil {
		return nil, err
	}
	e = setValue(e, "hasSubordinates", strings.ToUpper(strconv.FormatBool(below)))
	e = setValue(e, "entryDN", e.DN.String())
	e = setValue(e, "subschemaSubentry", subschemaDN)
	e = setValue(e, "memberOf", groups...)
	live := &stored{id: s.id, path: s.path, entry: e, types: make([]*schema.AttributeType, len(e.Attributes))}
	for i, a := range e.Attributes {
		live.types[i] = d.schema.Attribute(a.Name)
	}
	return live, nil
}
