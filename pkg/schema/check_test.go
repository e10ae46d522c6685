package schema

import (
	"errors"
	"testing"
)

func load(t testing.TB) *Schema {
	t.Helper()
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func attr(name string, values ...string) Attribute { return Attribute{Name: name, Values: values} }

func TestCheck(t *testing.T) {
	s := load(t)
	user := []string{"inetOrgPerson", "inetUser", "inetMailUser", "inetLocalMailRecipient"}
	person := []Attribute{attr("cn", "a"), attr("sn", "a")}
	with := func(more ...Attribute) []Attribute { return append(more, person...) }
	for name, c := range map[string]struct {
		classes    []string
		attributes []Attribute
		want       int
	}{
		"user":                {user, with(attr("mail", "a@example.com"), attr("uid", "a"), attr("mailQuota", "2G")), 0},
		"with options":        {user, with(attr("cn;lang-de", "ä"), attr("cn;lang-en", "a")), 0},
		"by other names":      {user, with(attr("2.5.4.42", "A"), attr("rfc822Mailbox", "a@example.com")), 0},
		"operational":         {user, with(attr("createTimestamp", "20260102030405Z")), 0},
		"no class":            {nil, person, objectClassViolation},
		"auxiliary alone":     {[]string{"inetMailUser"}, nil, objectClassViolation},
		"abstract alone":      {[]string{"top"}, nil, objectClassViolation},
		"two structural":      {[]string{"person", "organization"}, with(attr("o", "x")), objectClassViolation},
		"unknown class":       {[]string{"person", "nonsense"}, person, objectClassViolation},
		"no sn":               {user, []Attribute{attr("cn", "a")}, objectClassViolation},
		"not allowed":         {[]string{"person"}, with(attr("mail", "a@example.com")), objectClassViolation},
		"allowed anything":    {[]string{"person", "extensibleObject"}, with(attr("mail", "a@example.com")), 0},
		"undefined":           {user, with(attr("nonsense", "1")), undefinedAttributeType},
		"no name":             {user, with(attr("a b", "1")), undefinedAttributeType},
		"two quotas":          {user, with(attr("mailquota", "1", "2")), constraintViolation},
		"twice":               {user, with(attr("mail", "a@example.com", "A@Example.com")), valueExists},
		"empty value":         {user, with(attr("description", "")), invalidSyntax},
		"no time":             {user, with(attr("vacationStartDate", "tomorrow")), invalidSyntax},
		"8 bit in an address": {user, with(attr("mail", "ä@example.com")), invalidSyntax},
		"no DN":               {user, with(attr("manager", "the boss")), invalidSyntax},
		"group":               {[]string{"groupOfUniqueNames", "inetMailGroup"}, []Attribute{attr("cn", "a"), attr("uniqueMember", "uid=a,o=b")}, 0},
	} {
		got := 0
		classes, _, err := s.Classes(c.classes)
		if err == nil {
			err = s.Check(append(c.attributes, attr("objectClass", classes...)), classes)
		}
		if v, ok := errors.AsType[*Violation](err); ok {
			got = v.Code
		}
		if got != c.want {
			t.Errorf("%s: result %d (%v), want %d", name, got, err, c.want)
		}
	}
}

// TestClasses: those above are added, and the structural one is the lowest.
func TestClasses(t *testing.T) {
	all, structural, err := load(t).Classes([]string{"inetorgperson", "inetUser"})
	if err != nil || structural.Name() != "inetOrgPerson" || len(all) != 5 {
		t.Errorf("%v, %v, %v", all, structural, err)
	}
}
