package store

import (
	"errors"
	"slices"
	"strings"
)

// ErrNoRight: the user sees the mailbox, and may not do that to it. Who may not
// see it hears ErrNoMailbox.
var ErrNoRight = errors.New("access denied")

// Identifiers that are not accounts (RFC 4314 §2). None can be an account's
// name: schema.md forbids "=" in a uid, and "anyone@domain" is reserved.
const (
	// Anyone is every user, and "anyone@domain" every user of a domain.
	Anyone = "anyone"
	// GroupPrefix stands before the address of a group.
	GroupPrefix = "group="
	// negative stands before an identifier whose rights are taken away.
	negative = "-"
)

// maxACL bounds the entries of one mailbox's list.
const maxACL = 1000

// Grant is an entry of a mailbox's list. With a "-" before its identifier it
// takes the rights away, whoever else grants them.
type Grant struct {
	Identifier string
	Rights     Rights
}

// ACL is a mailbox's list, ascending by identifier, one entry each. The owner
// is not in it: to the owner everything is allowed.
type ACL []Grant

// RightsChange is how rights given to SetACL meet those that are there.
type RightsChange byte

// The changes (RFC 4314 §3.1).
const (
	RightsReplace RightsChange = 0
	RightsAdd     RightsChange = '+'
	RightsRemove  RightsChange = '-'
)

// With returns the list after a change. An entry without rights is dropped.
// ErrTooMany beyond 1000 entries.
func (l ACL) With(identifier string, change RightsChange, r Rights) (ACL, error) {
	i, found := slices.BinarySearchFunc(l, identifier, func(g Grant, id string) int { return strings.Compare(g.Identifier, id) })
	if found {
		switch before := l[i].Rights; change {
		case RightsAdd:
			r |= before
		case RightsRemove:
			r = before &^ r
		}
	} else if change == RightsRemove {
		r = 0
	}
	out := slices.Clone(l)
	switch {
	case found && r == 0:
		out = slices.Delete(out, i, i+1)
	case found:
		out[i].Rights = r
	case r != 0 && len(out) >= maxACL:
		return nil, ErrTooMany
	case r != 0:
		out = slices.Insert(out, i, Grant{identifier, r})
	}
	return out, nil
}

// Rights is what the list gives somebody: all that the identifiers give
// together which are that user, without all that is taken away. is says whether
// an identifier is that user; its error is returned, since what is not known
// grants nothing.
func (l ACL) Rights(is func(identifier string) (bool, error)) (Rights, error) {
	var given, taken Rights
	for _, g := range l {
		id, minus := strings.CutPrefix(g.Identifier, negative)
		ok, err := is(id)
		switch {
		case err != nil:
			return 0, err
		case ok && minus:
			taken |= g.Rights
		case ok:
			given |= g.Rights
		}
	}
	return given &^ taken, nil
}
