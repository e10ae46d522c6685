package sqldir

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/schema"
	"mailsrv/pkg/sqlite"
)

func attr(name string, values ...string) directory.Attribute {
	return directory.Attribute{Name: name, Values: values}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(d *Dir, dn string, attributes ...directory.Attribute) func(t testing.TB) {
	return func(t testing.TB) {
		t.Helper()
		must(t, d.Add(t.Context(), directory.Entry{DN: directory.MustParseDN(dn), Attributes: attributes}))
	}
}

// office is a directory of a few people and groups below o=x.
func office(t testing.TB) *Dir {
	d := openDir(t)
	add(d, "o=x", attr("objectClass", "organization"))(t)
	for i, name := range []string{"Ann Archer", "Ben Baker", "Cas Carter", "Dörte Müller"} {
		add(d, fmt.Sprintf("uid=u%d,o=x", i), attr("objectClass", "inetOrgPerson"), attr("commonName", name), attr("sn", name[4:]),
			attr("employeeNumber", fmt.Sprint(i*7)), attr("telephoneNumber", fmt.Sprintf("+49 30 1234-%d", i)), attr("description;lang-en", "number "+fmt.Sprint(i)))(t)
	}
	add(d, "cn=all,o=x", attr("objectClass", "groupOfUniqueNames"), attr("uniqueMember", "uid=u0,o=x", "UID=u1, O=X"), attr("owner", "uid=u0,o=x"))(t)
	add(d, "cn=some,o=x", attr("objectClass", "groupOfNames"), attr("member", "uid=u1,o=x"))(t)
	return d
}

func (d *Dir) names(t testing.TB, filter string) []string {
	t.Helper()
	f, err := directory.ParseFilter(filter)
	must(t, err)
	var names []string
	for e, err := range d.Search(t.Context(), directory.Query{Base: directory.MustParseDN("o=x"), Scope: directory.ScopeSubtree, Filter: f}) {
		must(t, err)
		names = append(names, e.DN.RDNs[0][0].Value)
	}
	slices.Sort(names)
	return names
}

func code(err error) directory.ResultCode {
	if r, ok := errors.AsType[*directory.ResultError](err); ok {
		return r.Code
	}
	return directory.Success
}

// TestFilters: each kind of filter through its index, from memory and from disk.
func TestFilters(t *testing.T) {
	d := office(t)
	for range 2 {
		for filter, want := range map[string][]string{
			"(cn=ann archer)":                       {"u0"},
			"(commonName=ANN  Archer)":              {"u0"},
			"(2.5.4.3=Ann Archer)":                  {"u0"},
			"(name=baker)":                          {"u1"}, // of a subtype
			"(cn=*arc*)":                            {"u0"},
			"(cn=*r)":                               {"u0", "u1", "u2", "u3"},
			"(cn=b*k*r)":                            {"u1"},
			"(cn=*ÜLL*)":                            {"u3"},
			"(cn=*  bak*)":                          {"u1"},
			"(telephoneNumber=*1234 2)":             {"u2"},
			"(telephoneNumber=+49301234-3)":         {"u3"},
			"(employeeNumber>=2)":                   {"u1", "u3"}, // it is text: 7, 21
			"(createTimestamp>=20200101000000Z)":    {"all", "some", "u0", "u1", "u2", "u3", "x"},
			"(createTimestamp<=20200101000000Z)":    nil,
			"(employeeNumber=*)":                    {"u0", "u1", "u2", "u3"},
			"(description;lang-en=number 2)":        {"u2"},
			"(description=number 2)":                {"u2"},
			"(description;lang-de=number 2)":        nil,
			"(sn~=cardor)":                          {"u2"},
			"(cn:caseExactMatch:=Ben Baker)":        {"u1"},
			"(cn:caseExactMatch:=ben baker)":        nil,
			"(:caseIgnoreMatch:=ben baker)":         {"u1"},
			"(o:dn:=x)":                             {"all", "some", "u0", "u1", "u2", "u3", "x"},
			"(cn:noSuchRule:=x)":                    nil,
			"(!(cn:noSuchRule:=x))":                 nil,
			"(nonsense=x)":                          nil,
			"(|(nonsense=x)(uid=u2))":               {"u2"},
			"(!(objectClass=person))":               {"all", "some", "x"},
			"(objectClass=2.5.6.6)":                 {"u0", "u1", "u2", "u3"}, // implied by inetOrgPerson
			"(memberOf=cn=All,o=x)":                 {"u0", "u1"},
			"(&(memberOf=cn=all,o=x)(!(uid=u0)))":   {"u1"},
			"(memberOf=*)":                          {"u0", "u1"},
			"(hasSubordinates=TRUE)":                {"x"},
			"(entryDN=UID=u2,o=X)":                  {"u2"},
			"(uniqueMember=uid=U1,o=x)":             {"all"},
			"(userPassword=*)":                      nil,
			"(structuralObjectClass=inetOrgPerson)": {"u0", "u1", "u2", "u3"},
			"(&)":                                   {"all", "some", "u0", "u1", "u2", "u3", "x"},
			"(|)":                                   nil,
		} {
			if got := d.names(t, filter); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", filter, got, want)
			}
		}
	}
}

func TestOperationalAttributes(t *testing.T) {
	d := office(t)
	q := directory.Query{Base: directory.MustParseDN("uid=u1,o=x"), Attributes: []string{"+"}}
	for e, err := range d.Search(t.Context(), q) {
		must(t, err)
		for name, want := range map[string]string{"structuralObjectClass": "inetOrgPerson", "hasSubordinates": "FALSE", "entryDN": "uid=u1,o=x",
			"subschemaSubentry": "cn=Subschema", "memberOf": "cn=all,o=x", "cn": ""} {
			if e.Value(name) != want {
				t.Errorf("%s is %q, want %q", name, e.Value(name), want)
			}
		}
		for _, name := range []string{"entryUUID", "createTimestamp", "modifyTimestamp"} {
			if e.Value(name) == "" {
				t.Errorf("no %s", name)
			}
		}
	}
	out, err := d.Operate(t.Context(), directory.Operation{Kind: directory.ModifyEntry, DN: q.Base, Actor: directory.MustParseDN("cn=admin"),
		Changes: []directory.Change{{Kind: directory.ReplaceValues, Attribute: attr("title", "boss")}}})
	must(t, err)
	if out.Before.Value("title") != "" || out.After.Value("title") != "boss" || out.After.Value("modifiersName") != "cn=admin" {
		t.Errorf("%+v", out)
	}
}

// TestReferences: members follow those they name, and go with them.
func TestReferences(t *testing.T) {
	d := office(t)
	ctx := t.Context()
	add(d, "ou=new,o=x", attr("objectClass", "organizationalUnit"))(t)
	parent := directory.MustParseDN("ou=new,o=x")
	must(t, d.Rename(ctx, directory.MustParseDN("uid=u1,o=x"), directory.RDN{{Name: "uid", Value: "ben"}}, true, &parent))
	if got := d.names(t, "(uniqueMember=uid=ben,ou=new,o=x)"); !slices.Equal(got, []string{"all"}) {
		t.Errorf("the group does not know the new name: %v", got)
	}
	must(t, d.Rename(ctx, parent, directory.RDN{{Name: "ou", Value: "newer"}}, true, nil))
	for filter, want := range map[string][]string{
		"(member=uid=ben,ou=newer,o=x)": {"some"}, "(memberOf=cn=some,o=x)": {"ben"}, "(uniqueMember=uid=u1,o=x)": nil,
	} {
		if got := d.names(t, filter); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	_, err := d.Operate(ctx, directory.Operation{Kind: directory.DeleteEntry, DN: directory.MustParseDN("ou=newer,o=x"), Subtree: true})
	must(t, err)
	must(t, d.Delete(ctx, directory.MustParseDN("uid=u0,o=x")))
	for _, filter := range []string{"(uniqueMember=*)", "(member=*)", "(owner=*)", "(uid=ben)"} {
		if got := d.names(t, filter); got != nil {
			t.Errorf("%s: %v", filter, got)
		}
	}
	checkIndexes(t, d)
}

func TestRefusals(t *testing.T) {
	d := office(t)
	ctx := t.Context()
	u0 := directory.MustParseDN("uid=u0,o=x")
	mod := func(kind directory.ChangeKind, name string, values ...string) error {
		return d.Modify(ctx, u0, []directory.Change{{Kind: kind, Attribute: attr(name, values...)}})
	}
	nobody := directory.Equal("uid", "nobody")
	assert := func(f directory.Filter) error {
		_, err := d.Operate(ctx, directory.Operation{Kind: directory.ModifyEntry, DN: u0, Assert: &f})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want directory.ResultCode
	}{
		"undefined":            {mod(directory.AddValues, "nonsense", "1"), directory.UndefinedAttributeType},
		"not allowed":          {mod(directory.AddValues, "mailQuota", "1"), directory.ObjectClassViolation},
		"syntax":               {mod(directory.AddValues, "manager", "the boss"), directory.InvalidAttributeSyntax},
		"operational":          {mod(directory.ReplaceValues, "createTimestamp", "20260101000000Z"), directory.ConstraintViolation},
		"memberOf":             {mod(directory.ReplaceValues, "memberOf", "cn=all,o=x"), directory.ConstraintViolation},
		"SCRAM secret":         {mod(directory.ReplaceValues, "authPassword", "x"), directory.ConstraintViolation},
		"structural class":     {mod(directory.ReplaceValues, "objectClass", "person"), directory.ObjectClassModsProhibited},
		"no class":             {mod(directory.DeleteValues, "objectClass"), directory.ObjectClassViolation},
		"two display names":    {mod(directory.ReplaceValues, "displayName", "a", "b"), directory.ConstraintViolation},
		"value twice":          {mod(directory.ReplaceValues, "title", "a", "A"), directory.AttributeOrValueExists},
		"increment of text":    {mod(directory.IncrementValues, "sn", "1"), directory.ConstraintViolation},
		"increment by text":    {mod(directory.IncrementValues, "employeeNumber", "x"), directory.InvalidAttributeSyntax},
		"increment of nothing": {mod(directory.IncrementValues, "roomNumber", "1"), directory.NoSuchAttribute},
		"increment":            {mod(directory.IncrementValues, "employeeNumber", "-5"), directory.Success},
		"assertion":            {assert(nobody), directory.AssertionFailed},
		"assertion that holds": {assert(directory.Equal("employeeNumber", "-5")), directory.Success},
		"RDN of no attribute":  {d.Add(ctx, directory.Entry{DN: directory.MustParseDN("nonsense=1,o=x"), Attributes: []directory.Attribute{attr("objectClass", "country")}}), directory.NamingViolation},
		"RDN not allowed":      {d.Rename(ctx, u0, directory.RDN{{Name: "dc", Value: "x"}}, false, nil), directory.ObjectClassViolation},
		"subtree":              {d.Delete(ctx, directory.MustParseDN("o=x")), directory.NotAllowedOnNonLeaf},
	} {
		if got := code(c.err); got != c.want {
			t.Errorf("%s: result %d (%v), want %d", name, got, c.err, c.want)
		}
	}
}

// TestDomainAlias: a further name of a domain must not make two addresses one.
func TestDomainAlias(t *testing.T) {
	d := openDir(t)
	p := directory.NewProvisioner(d, directory.ViewOptions{Base: directory.MustParseDN("o=mail")})
	ctx := t.Context()
	for _, err := range []error{p.EnsureBase(ctx), p.AddDomain(ctx, "example.com", ""), p.AddDomain(ctx, "example.org", ""),
		p.AddUser(ctx, "ann@example.com", "", "x", ""), p.AddUser(ctx, "ben@example.org", "", "x", "")} {
		must(t, err)
	}
	ben := directory.MustParseDN("uid=ben,ou=People,o=example.org,o=mail")
	must(t, d.Modify(ctx, ben, []directory.Change{{Kind: directory.AddValues, Attribute: attr("mailAlternateAddress", "ann@example.net")}}))
	if err := p.AddAlias(ctx, "example.net", "example.com"); code(err) != directory.ConstraintViolation {
		t.Errorf("ann@example.net leads to two people: %v", err)
	}
	must(t, p.AddAlias(ctx, "example.net", "example.org"))
}

// TestIndexesAreMadeAnew: another schema says which values are the same.
func TestIndexesAreMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "directory.db")
	more, err := schema.Load(schema.File{Name: "x", Text: "attributetype ( 1.3.6.1.4.1.99999.1 NAME 'shelf' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )\n" +
		"objectclass ( 1.3.6.1.4.1.99999.2 NAME 'shelved' SUP top AUXILIARY MAY shelf )"})
	must(t, err)
	for i, s := range []*schema.Schema{nil, more, nil} {
		d, err := Open(t.Context(), path, Options{Schema: s})
		must(t, err)
		switch i {
		case 0:
			add(d, "o=x", attr("objectClass", "organization"))(t)
		case 1:
			add(d, "ou=y,o=x", attr("objectClass", "organizationalUnit", "shelved"), attr("shelf", "Top Left"))(t)
		}
		if got := d.names(t, "(shelf=*left)"); (len(got) == 1) != (i == 1) {
			t.Errorf("opened %d times: %v", i+1, got)
		}
		if got := d.names(t, "(o=*)"); len(got) != 1 {
			t.Errorf("opened %d times: %v", i+1, got)
		}
		must(t, d.Close())
	}
}

// checkIndexes compares the indexes with what the entries say.
func checkIndexes(t testing.TB, d *Dir) (entries int) {
	t.Helper()
	must(t, d.db.Read(t.Context(), func(tx *sqlite.Tx) error {
		want := map[string]bool{}
		err := tx.Query("SELECT id, path, parent, content FROM entry", nil, func(scan func(...any) error) error {
			s := &stored{}
			var parent string
			var raw []byte
			if err := scan(&s.id, &s.path, &parent, &raw); err != nil {
				return err
			}
			entries++
			if err := d.fill(s, raw); err != nil {
				return err
			}
			if s.path != d.path(s.entry.DN) || parent != d.path(s.entry.DN.Parent()) {
				t.Errorf("%s lies at %q below %q", s.entry.DN, s.path, parent)
			}
			for _, p := range d.pairs(s.entry) {
				want[fmt.Sprint(s.id, p)] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		rows := 0
		err = tx.Query("SELECT attr, value, entry FROM value", nil, func(scan func(...any) error) error {
			var p pair
			var id int64
			rows++
			err := scan(&p.attr, &p.value, &id)
			if !want[fmt.Sprint(id, p)] {
				t.Errorf("the index says that entry %d has %v", id, p)
			}
			return err
		})
		if rows != len(want) {
			t.Errorf("the index has %d rows, the entries %d values", rows, len(want))
		}
		return err
	}))
	return entries
}
