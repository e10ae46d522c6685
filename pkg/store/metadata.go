package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Limits of metadata (RFC 5464 §3.2). What is shared counts for the owner of its
// mailbox, what is private for the user whose it is.
const (
	MaxAnnotation     = 64 << 10 // of one value, in bytes
	maxAnnotationName = 255
	// MaxAnnotations bounds the entries of one user, or shared ones, on one mailbox.
	MaxAnnotations = 250
	// MaxAnnotated bounds all values that count for one account, in bytes.
	MaxAnnotated = 4 << 20
)

// Errors of metadata.
var (
	ErrBadEntry = errors.New("bad name of an entry")
	// ErrTooLarge: a value is above MaxAnnotation.
	ErrTooLarge = errors.New("value is too large")
)

// Annotation is an entry of the metadata of a mailbox or of the server. The name
// is of lower case and begins with /private/ or /shared/.
type Annotation struct {
	Entry string
	Value []byte // nil: there is none
}

// Annotator keeps metadata. It checks no rights; Namespaces does.
type Annotator interface {
	// Annotations returns the shared entries of a mailbox of an account, and the
	// reader's private ones, ascending by name; an empty mailbox is the server as
	// the account knows it. ErrNoMailbox.
	Annotations(ctx context.Context, account, mailbox, reader string) ([]Annotation, error)
	// Annotate sets and deletes entries, all or none. ErrNoMailbox, ErrTooMany.
	Annotate(ctx context.Context, account, mailbox, reader string, changes []Annotation) error
}

const (
	privateEntry = "/private/"
	sharedEntry  = "/shared/"
)

// ParseEntry brings the name of an entry into its one spelling (RFC 5464 §3.2).
// ErrBadEntry.
func ParseEntry(name string) (string, error) {
	name = strings.ToLower(name)
	if !strings.HasPrefix(name, privateEntry) && !strings.HasPrefix(name, sharedEntry) ||
		len(name) > maxAnnotationName || strings.HasSuffix(name, "/") || strings.Contains(name, "//") ||
		strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '*' || r == '%' }) {
		return "", ErrBadEntry
	}
	return name, nil
}

// annotated is where the metadata of a name is. An empty name is the server: its
// shared entries are those of the user's domain.
func (n *Namespaces) annotated(ctx context.Context, name string) (p place, a Annotator, have Rights, err error) {
	a, ok := n.store.(Annotator)
	if !ok {
		return p, nil, 0, fmt.Errorf("%w: no metadata here", ErrUnavailable)
	}
	if name == "" {
		have = RightLookup | RightRead
		if n.Admin {
			have |= RightWrite
		}
		return place{account: sharedAccount + n.user.Domain}, a, have, nil
	}
	p = n.route(name)
	if have, err = n.at(ctx, p); p.account == "" {
		p.account = n.user.Account()
	}
	return p, a, have, err
}

// Metadata returns what the user may know of a mailbox, or of the server. It
// wants the right l, and one of r, s, w, i and p (RFC 5464 §3.1).
func (n *Namespaces) Metadata(ctx context.Context, name string) ([]Annotation, error) {
	p, a, have, err := n.annotated(ctx, name)
	if err != nil {
		return nil, err
	}
	if !have.Has(RightLookup) || have&(RightRead|RightSeen|RightWrite|RightInsert|RightPost) == 0 {
		return nil, lacking(have)
	}
	return a.Annotations(ctx, p.account, p.name, n.user.Account())
}

// SetMetadata changes entries, all or none. Private ones want the rights l and r,
// shared ones l and w; those of the server an admin. ErrTooLarge, ErrTooMany.
func (n *Namespaces) SetMetadata(ctx context.Context, name string, changes []Annotation) error {
	p, a, have, err := n.annotated(ctx, name)
	if err != nil {
		return err
	}
	for _, c := range changes {
		need := RightLookup | RightRead
		if strings.HasPrefix(c.Entry, sharedEntry) {
			need = RightLookup | RightWrite
		}
		switch {
		case !have.Has(need):
			return lacking(have)
		case len(c.Value) > MaxAnnotation:
			return ErrTooLarge
		}
	}
	if name == "" { // the domain's account may be new
		if _, err := n.store.Account(ctx, p.account); err != nil {
			return err
		}
	}
	return a.Annotate(ctx, p.account, p.name, n.user.Account(), changes)
}

// MetadataChange is entries that were set or deleted.
type MetadataChange struct {
	// Account and Mailbox are as Annotate was called with; Reader is who did it.
	Account, Mailbox, Reader string
	Entries                  []string
}

// MetadataWatcher is an engine that tells of changes to metadata.
type MetadataWatcher interface {
	// WatchMetadata calls told, which must not block, after each commit that
	// changed entries of any account, until the returned function is called. No
	// call is made after that function returns.
	WatchMetadata(told func(MetadataChange)) (stop func())
}

// WatchMetadata tells of changes anywhere; Concerns says which are the user's.
func (n *Namespaces) WatchMetadata(told func(MetadataChange)) (stop func()) {
	if w, ok := n.store.(MetadataWatcher); ok {
		return w.WatchMetadata(told)
	}
	return func() {}
}

// Concerns says by which name the user knows what a change is about, and which
// of its entries the user may read; none: it does not concern the user. An
// empty name is the server.
func (n *Namespaces) Concerns(ctx context.Context, c MetadataChange) (name string, entries []string) {
	p := place{account: c.Account, name: c.Mailbox}
	switch {
	case c.Mailbox == "" && c.Account != sharedAccount+n.user.Domain:
		return "", nil
	case c.Mailbox == "":
	case c.Account == n.user.Account():
		p.account = ""
	case c.Account == sharedAccount+n.user.Domain:
		p.prefix = SharedTree
	default:
		p.prefix = OtherUsers + c.Account + "/"
	}
	if c.Mailbox != "" {
		if have, err := n.at(ctx, p); err != nil || !have.Has(RightLookup|RightRead) {
			return "", nil
		}
	}
	for _, e := range c.Entries {
		if strings.HasPrefix(e, sharedEntry) || c.Reader == n.user.Account() {
			entries = append(entries, e)
		}
	}
	return p.full(), entries
}
