package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Tree is a directory as LDAP shows it (RFC 4511 §4): what the mail view and
// the LDAP server stand on. Methods may be called from many goroutines; their
// errors are *ResultError, or match ErrUnavailable.
type Tree interface {
	// Bind checks a password (§4.2). A wrong one, an unknown DN and an empty
	// password are ErrBadCredentials, and cost the same time.
	Bind(ctx context.Context, dn DN, password string) error
	// Search yields the entries that match, in no promised order, until the
	// first error, which ends it. An Entry yielded is the caller's to keep.
	// A base that does not exist is ErrNotFound.
	Search(ctx context.Context, q Query) iter.Seq2[Entry, error]
}

// Editor is a Tree that can be changed. Each operation is all or nothing and
// durable when it returns nil (§4.6-§4.9).
type Editor interface {
	Tree
	// Add fails with ErrExists, or ErrNotFound if the parent is missing.
	Add(ctx context.Context, e Entry) error
	// Modify applies the changes in order, as one.
	Modify(ctx context.Context, dn DN, changes []Change) error
	// Delete removes a leaf entry; NotAllowedOnNonLeaf otherwise.
	Delete(ctx context.Context, dn DN) error
	// Rename gives the entry a new RDN, and a new parent if superior is not
	// nil; deleteOld drops the old RDN's values. Entries below move along.
	Rename(ctx context.Context, dn DN, rdn RDN, deleteOld bool, superior *DN) error
}

// Operator is an Editor that makes changes under a condition, knows who makes
// them, and tells what it changed.
type Operator interface {
	Editor
	// Operate makes one change, all or nothing and durable when the error is
	// nil. AssertionFailed: the condition does not hold.
	Operate(ctx context.Context, op Operation) (Outcome, error)
}

// Operation is a change of one entry; of a subtree, where it is moved or removed.
type Operation struct {
	Kind OperationKind
	DN   DN
	// Attributes are those of AddEntry.
	Attributes []Attribute
	// Changes are those of ModifyEntry.
	Changes []Change
	// RDN, DeleteOld and Superior belong to RenameEntry, as in Editor's Rename.
	RDN       RDN
	DeleteOld bool
	Superior  *DN
	// Subtree makes DeleteEntry remove what lies below, too.
	Subtree bool
	// Actor is who does it; the root: nobody in particular.
	Actor DN
	// Assert must match the entry as it is before the change; of AddEntry, as
	// it will be (RFC 4528). Nil: nothing must.
	Assert *Filter
}

// OperationKind says which fields of an Operation count.
type OperationKind int

// The kinds of operation.
const (
	AddEntry OperationKind = iota
	ModifyEntry
	DeleteEntry
	RenameEntry
)

// Outcome is the entry before and after a change; nil where there is none.
type Outcome struct {
	Before, After *Entry
}

// PasswordChanger is an Editor that takes a new password as such: what looks
// like a hash is a password too.
type PasswordChanger interface {
	// ChangePassword replaces the password of the entry. ErrNotFound.
	ChangePassword(ctx context.Context, dn DN, password string) error
}

// PasswordAger is a Tree whose passwords grow old.
type PasswordAger interface {
	// PasswordExpires returns how long the password of the entry will count; false:
	// for ever, or it has none.
	PasswordExpires(ctx context.Context, dn DN) (time.Duration, bool, error)
}

// Scope is how far below its base a search looks (§4.5.1.2).
type Scope int

// The scopes, with their values on the wire.
const (
	ScopeBase Scope = iota
	ScopeOne
	ScopeSubtree
)

// Query is a search.
type Query struct {
	Base   DN
	Scope  Scope
	Filter Filter
	// Attributes to return; empty or "*" means all user attributes, "+" all
	// operational ones, "1.1" none (§4.5.1.8).
	Attributes []string
	// SizeLimit ends the search with SizeLimitExceeded after so many entries;
	// 0: no limit of the caller's own.
	SizeLimit int
	// TypesOnly leaves the values out.
	TypesOnly bool
	// Routing says that the answer routes mail, and proves nothing of anybody:
	// where the directory is away an older one will do (Cached).
	Routing bool
}

// Entry is a DN and its attributes (RFC 4512 §2).
type Entry struct {
	DN         DN
	Attributes []Attribute
}

// Values returns the values of the attribute, matched without regard to case;
// nil if there is none. The slice is the Entry's own.
func (e Entry) Values(name string) []string {
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Values
		}
	}
	return nil
}

// Value returns the first value of the attribute, or "".
func (e Entry) Value(name string) string {
	if v := e.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// without returns the entry without some of its attributes.
func (e Entry) without(names ...string) Entry {
	drop := func(a Attribute) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, a.Name) })
	}
	if slices.ContainsFunc(e.Attributes, drop) {
		e.Attributes = slices.DeleteFunc(slices.Clone(e.Attributes), drop)
	}
	return e
}

// HasClass reports whether the entry is of the object class.
func (e Entry) HasClass(class string) bool {
	for _, v := range e.Values("objectClass") {
		if strings.EqualFold(v, class) {
			return true
		}
	}
	return false
}

// ChangeKind is what a Change does (RFC 4511 §4.6), with its value on the wire.
type ChangeKind int

// The kinds of change.
const (
	AddValues ChangeKind = iota
	DeleteValues
	ReplaceValues
	// IncrementValues adds its one value, an integer, to each value that is
	// there (RFC 4525).
	IncrementValues
)

// Change is one modification. DeleteValues without values deletes the
// attribute; ReplaceValues without values too, and does not mind its absence.
type Change struct {
	Kind ChangeKind
	Attribute
}

// Filter is a search filter as a tree (RFC 4511 §4.5.1.7). The zero Filter is
// (objectClass=*). Engines do not check its size: whoever builds one from a
// stranger's bytes bounds nodes and depth.
type Filter struct {
	Kind FilterKind
	// Children of And and Or (any number), and of Not (one).
	Children []Filter
	// Attribute is the description; of Extensible it may be empty.
	Attribute string
	// Value is compared by Equality, GreaterOrEqual, LessOrEqual, Approx and Extensible.
	Value string
	// Initial, Any and Final are the parts of Substrings; Initial and Final may be empty.
	Initial, Final string
	Any            []string
	// Rule and DNAttributes belong to Extensible.
	Rule         string
	DNAttributes bool
}

// FilterKind says which fields of a Filter count.
type FilterKind int

// The kinds of filter. Present is the zero value.
const (
	Present FilterKind = iota
	And
	Or
	Not
	Equality
	Substrings
	GreaterOrEqual
	LessOrEqual
	Approx
	Extensible
)

// Equal is the filter (name=value).
func Equal(name, value string) Filter {
	return Filter{Kind: Equality, Attribute: name, Value: value}
}

// AnyOf is the filter (|(f)(f)...).
func AnyOf(f ...Filter) Filter { return Filter{Kind: Or, Children: f} }

// AllOf is the filter (&(f)(f)...).
func AllOf(f ...Filter) Filter { return Filter{Kind: And, Children: f} }

// ResultCode is an LDAP result (RFC 4511 §4.1.9, appendix A).
type ResultCode int

// The results that we give or act upon.
const (
	Success                   ResultCode = 0
	OperationsError           ResultCode = 1
	ProtocolError             ResultCode = 2
	TimeLimitExceeded         ResultCode = 3
	SizeLimitExceeded         ResultCode = 4
	CompareFalse              ResultCode = 5
	CompareTrue               ResultCode = 6
	AuthMethodNotSupported    ResultCode = 7
	StrongerAuthRequired      ResultCode = 8
	AdminLimitExceeded        ResultCode = 11
	UnavailableCritExtension  ResultCode = 12
	ConfidentialityRequired   ResultCode = 13
	SASLBindInProgress        ResultCode = 14
	NoSuchAttribute           ResultCode = 16
	UndefinedAttributeType    ResultCode = 17
	InappropriateMatching     ResultCode = 18
	ConstraintViolation       ResultCode = 19
	AttributeOrValueExists    ResultCode = 20
	InvalidAttributeSyntax    ResultCode = 21
	NoSuchObject              ResultCode = 32
	AliasProblem              ResultCode = 33
	InvalidDNSyntax           ResultCode = 34
	AliasDereferencingProblem ResultCode = 36
	InappropriateAuth         ResultCode = 48
	InvalidCredentials        ResultCode = 49
	InsufficientAccessRights  ResultCode = 50
	Busy                      ResultCode = 51
	Unavailable               ResultCode = 52
	UnwillingToPerform        ResultCode = 53
	NamingViolation           ResultCode = 64
	ObjectClassViolation      ResultCode = 65
	NotAllowedOnNonLeaf       ResultCode = 66
	NotAllowedOnRDN           ResultCode = 67
	EntryAlreadyExists        ResultCode = 68
	ObjectClassModsProhibited ResultCode = 69
	OtherError                ResultCode = 80
	Canceled                  ResultCode = 118 // RFC 3909
	NoSuchOperation           ResultCode = 119
	TooLate                   ResultCode = 120
	CannotCancel              ResultCode = 121
	AssertionFailed           ResultCode = 122 // RFC 4528
	AuthorizationDenied       ResultCode = 123 // RFC 4370
)

// ResultError is an LDAP result that is no success. Text is safe for the
// client; Err is the private cause, for the log alone.
type ResultError struct {
	Code ResultCode
	// Matched is the deepest DN that exists, for NoSuchObject.
	Matched DN
	Text    string
	Err     error
}

// Error implements error, with the private cause.
func (e *ResultError) Error() string {
	if inner, ok := errors.AsType[*ResultError](e.Err); ok && inner.Code == e.Code {
		return e.Err.Error() // it says the same, and more
	}
	s := fmt.Sprintf("ldap result %d", int(e.Code))
	if e.Text != "" {
		s += " (" + e.Text + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the private cause.
func (e *ResultError) Unwrap() error { return e.Err }

// Is maps result codes to the sentinels of this package.
func (e *ResultError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == NoSuchObject
	case ErrBadCredentials:
		return e.Code == InvalidCredentials
	case ErrUnavailable:
		switch e.Code {
		case Busy, Unavailable, TimeLimitExceeded, OtherError, OperationsError:
			return true
		}
	case ErrExists:
		return e.Code == EntryAlreadyExists
	case ErrDenied:
		return e.Code == InsufficientAccessRights
	}
	return false
}
