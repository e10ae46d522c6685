package directory

import (
	"fmt"
	"strings"
)

// CheckUser checks what the schema cannot say (schema.md section 3): a user has
// one mail address that is the canonical one, and one uid. Its errors are
// *ResultError.
func CheckUser(e Entry) error {
	if !e.HasClass("inetMailUser") {
		return nil
	}
	for _, a := range e.Attributes {
		if len(a.Values) > 1 && (strings.EqualFold(a.Name, "mail") || strings.EqualFold(a.Name, "uid")) {
			return &ResultError{Code: ConstraintViolation, Text: fmt.Sprintf("a user holds one value of %s", a.Name)}
		}
	}
	return nil
}
