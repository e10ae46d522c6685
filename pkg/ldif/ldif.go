// Package ldif reads and writes LDIF (RFC 2849): entries, and changes of
// entries.
//
// It knows the format alone: names of entries are text, values are octets, and
// what they mean is the caller's business. Values by URL and controls are
// refused: a file says what it holds itself.
package ldif

import (
	"errors"
	"strings"
)

// Bounds of what is read.
const (
	maxLine   = 1 << 20 // bytes, unfolded
	maxRecord = 8 << 20 // bytes
)

// ErrSyntax is in the chain of every error about the text; it tells the line.
var ErrSyntax = errors.New("malformed LDIF")

// ChangeType is what a record does.
type ChangeType string

// The change types. Content is an entry as it should be.
const (
	Content ChangeType = ""
	Add     ChangeType = "add"
	Delete  ChangeType = "delete"
	Modify  ChangeType = "modify"
	ModDN   ChangeType = "moddn" // modrdn is read as this
)

// Record is one entry or one change.
type Record struct {
	// Line is where the record begins, from 1.
	Line int
	DN   string
	Type ChangeType
	// Attributes are those of Content and Add, each name once.
	Attributes []Attribute
	// Changes are those of Modify.
	Changes []Change
	// NewRDN, DeleteOld and Superior (nil: the same) are of ModDN.
	NewRDN    string
	DeleteOld bool
	Superior  *string
}

// Attribute is a description and its values.
type Attribute struct {
	Name   string
	Values []string
}

// Change is one modification. Kind is its number on LDAP's wire: 0 add, 1
// delete, 2 replace, 3 increment.
type Change struct {
	Kind int
	Attribute
}

func kindOf(word string) (int, bool) {
	for i, w := range []string{"add", "delete", "replace", "increment"} {
		if strings.EqualFold(w, word) {
			return i, true
		}
	}
	return 0, false
}
