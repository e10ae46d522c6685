package directory

import (
	"errors"
	"testing"
)

func TestCheckEntry(t *testing.T) {
	user := []string{"inetOrgPerson", "inetMailUser"}
	for name, c := range map[string]struct {
		attributes []Attribute
		want       ResultCode
	}{
		"user":            {[]Attribute{attr("objectClass", user...), attr("cn", "a"), attr("sn", "a"), attr("mail", "a@example.com")}, Success},
		"no class":        {[]Attribute{attr("cn", "a")}, ObjectClassViolation},
		"no sn":           {[]Attribute{attr("objectClass", user...), attr("cn", "a")}, ObjectClassViolation},
		"two mails":       {[]Attribute{attr("objectClass", user...), attr("cn", "a"), attr("sn", "a"), attr("MAIL", "a@x", "b@x")}, ConstraintViolation},
		"two mails, list": {[]Attribute{attr("objectClass", "groupOfUniqueNames"), attr("cn", "a"), attr("mail", "a@x", "b@x")}, Success},
		"two quotas":      {[]Attribute{attr("objectClass", "top"), attr("mailquota", "1", "2")}, ConstraintViolation},
		"bad name":        {[]Attribute{attr("objectClass", "top"), attr("a b", "1")}, UndefinedAttributeType},
		"empty value":     {[]Attribute{attr("objectClass", "top"), attr("description", "")}, InvalidAttributeSyntax},
	} {
		got := Success
		if r, ok := errors.AsType[*ResultError](CheckEntry(Entry{Attributes: c.attributes})); ok {
			got = r.Code
		}
		if got != c.want {
			t.Errorf("%s: result %d, want %d", name, got, c.want)
		}
	}
}
