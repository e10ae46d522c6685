package directory

import (
	"fmt"
	"strings"
)

// CheckEntry checks an entry against the part of the schema that mail rests on
// (schema.md sections 2 to 4): attributes that a class needs, attributes that
// hold one value, statuses. Attributes it does not know may hold anything. Its
// errors are *ResultError.
func CheckEntry(e Entry) error {
	classes := e.Values("objectClass")
	if len(classes) == 0 {
		return &ResultError{Code: ObjectClassViolation, Text: "an entry needs an objectClass"}
	}
	for _, class := range classes {
		for _, name := range mustHave(class) {
			if len(e.Values(name)) == 0 {
				return &ResultError{Code: ObjectClassViolation, Text: fmt.Sprintf("%s needs the attribute %s", class, name)}
			}
		}
	}
	user := e.HasClass("inetMailUser")
	for _, a := range e.Attributes {
		if !isDescription(a.Name) {
			return &ResultError{Code: UndefinedAttributeType, Text: fmt.Sprintf("%q is no attribute name", a.Name)}
		}
		if len(a.Values) > 1 && (singleValued(a.Name) || user && (strings.EqualFold(a.Name, "mail") || strings.EqualFold(a.Name, "uid"))) {
			return &ResultError{Code: ConstraintViolation, Text: a.Name + " holds one value"}
		}
		for _, v := range a.Values {
			if v == "" {
				return &ResultError{Code: InvalidAttributeSyntax, Text: "an empty value of " + a.Name}
			}
		}
	}
	return nil
}

// mustHave names the attributes that an entry of the class needs (RFC 4519 §3).
func mustHave(class string) []string {
	switch strings.ToLower(class) {
	case "person", "organizationalperson", "inetorgperson":
		return []string{"cn", "sn"}
	case "organization":
		return []string{"o"}
	case "organizationalunit":
		return []string{"ou"}
	case "domain", "dcobject":
		return []string{"dc"}
	case "groupofuniquenames":
		return []string{"cn"}
	}
	return nil
}

// singleValued reports whether an attribute of schema.md holds one value at most.
func singleValued(name string) bool {
	switch strings.ToLower(name) {
	case "mailhost", "mailmessagestore", "mailroutingaddress", "mailquota", "mailmsgquota", "mailallowedserviceaccess",
		"inetuserstatus", "mailuserstatus", "mailmsgmaxblocks", "maildeferprocessing", "mailautoreplymode", "mailautoreplytimeout",
		"vacationstartdate", "vacationenddate", "preferredlanguage",
		"inetmailgroupstatus", "mgrperrorsto", "mgrpmsgmaxsize", "mgrpmsgrejectaction",
		"inetdomainstatus", "maildomainstatus", "maildomainallowedserviceaccess", "preferredmailhost", "preferredmailmessagestore",
		"maildomaincatchalladdress", "maildomaindiskquota", "maildomainmsgquota", "mailroutingsmarthost", "sunpreferreddomain":
		return true
	}
	return false
}
