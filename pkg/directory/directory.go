// Package directory is the directory role: its two seams and its rules.
//
// Tree is LDAP-shaped (RFC 4511): an engine (sqldir) in process, or a client
// (ldapclient) of a directory that runs elsewhere, another mailsrv or a
// foreign product. Directory is the mail view of the same entries: domains,
// users and groups. View, written once over any Tree, is where attribute
// names get their meaning; no other package knows an attribute name.
//
// It is neither a protocol (ldapserver, ldapclient) nor a storage (sqldir).
package directory

import (
	"context"
	"errors"

	"mailsrv/pkg/mail"
)

// Errors of Directory, and what the errors of a Tree match by errors.Is.
var (
	// ErrNotFound: there is no such entry, domain or recipient.
	ErrNotFound = errors.New("not found in the directory")
	// ErrBadCredentials: the user is unknown, the password wrong or empty.
	// The two are never told apart.
	ErrBadCredentials = errors.New("bad credentials")
	// ErrUnavailable: the directory could not be asked. It is an outage, never
	// a "no": callers answer 451, 454 or NO [UNAVAILABLE].
	ErrUnavailable = errors.New("directory unavailable")
	// ErrAmbiguous: two entries claim one address; a fault of configuration,
	// answered as a transient failure.
	ErrAmbiguous = errors.New("more than one entry matches")
	// ErrExists: an entry of that DN, or one with a value that must be unique, is there.
	ErrExists = errors.New("already exists")
	// ErrPasswordExpired: the password is right, and too old; in the chain of a
	// bind's ErrBadCredentials.
	ErrPasswordExpired = errors.New("password expired")
	// ErrPasswordTooShort and ErrPasswordUsed: a new password is not what the
	// policy wants; in the chain of a ConstraintViolation.
	ErrPasswordTooShort = errors.New("password too short")
	ErrPasswordUsed     = errors.New("password used before")
	// ErrDenied: the one who asks may not.
	ErrDenied = errors.New("access denied")
)

// Directory is the mail view. All methods may be called from many goroutines
// and block no longer than their context; a directory that cannot answer gives
// ErrUnavailable.
type Directory interface {
	// Domain returns the domain that is, or has as an alias, name (A-labels,
	// lower case). ErrNotFound: not ours.
	Domain(ctx context.Context, name string) (Domain, error)
	// Recipient returns the user or group that has the address, by mail,
	// mailAlternateAddress or mailEquivalentAddress, in the canonical domain
	// or in an alias of it; failing that the one that has "@domain" as an
	// alternate. ErrNotFound, ErrAmbiguous.
	Recipient(ctx context.Context, a mail.Address) (Recipient, error)
	// Member returns the user or group of that DN. ErrNotFound.
	Member(ctx context.Context, dn DN) (Recipient, error)
	// User returns the user who logs in as login: a uid of the default domain,
	// uid@domain, or one of the user's addresses. ErrNotFound, ErrAmbiguous.
	User(ctx context.Context, login string) (User, error)
	// Verify is User and then a check of the password, with one search for
	// the user; an unknown user costs the same time as a wrong password.
	// ErrBadCredentials for both, and for an empty password.
	Verify(ctx context.Context, login, password string) (User, error)
}

// Status is the state of a domain, user or group (schema.md section 5).
type Status string

// The states. Active is the zero-like default of a missing attribute; unknown
// values are read as Inactive.
const (
	Active    Status = "active"
	Inactive  Status = "inactive"
	Disabled  Status = "disabled"
	Deleted   Status = "deleted"
	Removed   Status = "removed"
	Hold      Status = "hold"
	OverQuota Status = "overquota"
)

// MayLogin reports whether an account in this state may log in.
func (s Status) MayLogin() bool { return s == Active || s == OverQuota }

// Domain is a hosted domain.
type Domain struct {
	DN DN
	// Name is the canonical name, A-labels.
	Name string
	// Aliases are the other names under which the same people are reached.
	Aliases []string
	// Status is the first of inetDomainStatus and mailDomainStatus that is not active.
	Status Status
	// CatchAll takes mail for unknown local parts; zero: none.
	CatchAll mail.Address
	// SmartHost takes users without a mail host, and unknown ones, of a split
	// domain; empty: none.
	SmartHost string
	// RoutingHosts are the hosts responsible for the domain; if it is not
	// empty and holds none of ours, mail is relayed there.
	RoutingHosts []string
	// Quota and MessageQuota are those of users whose entry has none; QuotaDefault
	// leaves them to the store.
	Quota, MessageQuota int64
	// MailHost is the default mailHost of new users.
	MailHost string
	// ServiceAccess is mailDomainAllowedServiceAccess.
	ServiceAccess string
	// Replay is how an MMP logs the domain's users in to their store.
	Replay Replay
	// Entry is what was read, for explanations.
	Entry Entry
}

// Recipient is a User or a Group: one of them is not nil.
type Recipient struct {
	User  *User
	Group *Group
}

// User is a person or robot with a mailbox.
type User struct {
	DN DN
	// UID is the login name within Domain.
	UID string
	// Domain is the canonical domain of the user.
	Domain string
	// Name is what the user is called (cn), for display.
	Name string
	// Mail is the canonical address. Alternates are rewritten to it on
	// submission, Equivalents are not.
	Mail        mail.Address
	Alternates  []mail.Address
	Equivalents []mail.Address
	// Status is effective: the domain's, then inetUserStatus, then
	// mailUserStatus, the first that is not active.
	Status Status
	// MailHost is the host of the user's store; empty: not set.
	MailHost string
	// FailoverHosts may serve the user while MailHost cannot be reached.
	FailoverHosts []string
	// Replay is the domain's.
	Replay Replay
	// MessageStore is the partition's nickname on that host.
	MessageStore string
	// RoutingAddress replaces all other delivery if it is not zero; with a
	// RoutingHost ("@host:address") the mail goes to that host.
	RoutingAddress mail.Address
	RoutingHost    string
	// DeliveryOptions are mailbox, forward, autoreply, program, hold, ...; if
	// the entry has none, "mailbox" alone.
	DeliveryOptions []string
	// ForwardTo counts only with the delivery option forward.
	ForwardTo []mail.Address
	// Quota and MessageQuota: see the constants; else bytes and messages.
	Quota, MessageQuota int64
	// ACLGroups are addresses of groups that the user is in where rights on
	// mailboxes are concerned, lower case.
	ACLGroups []string
	// Programs count only with the delivery option program: names, never commands.
	Programs []string
	// AutoReply counts only with the delivery option autoreply.
	AutoReply AutoReply
	// Defer leaves everything about the user's mail to the queue.
	Defer bool
	// MaxMessage is the largest message in bytes; 0: no limit of the user's own.
	MaxMessage int64
	// ServiceAccess holds mailAllowedServiceAccess, then the domain's
	// mailDomainAllowedServiceAccess; both must allow.
	ServiceAccess [2]string
	// Entry is what was read, without passwords, and DomainFact why the domain
	// is not active, if it is not; both for explanations.
	Entry      Entry
	DomainFact Fact
}

// Special values of User.Quota and User.MessageQuota.
const (
	QuotaUnlimited int64 = -1
	QuotaDefault   int64 = -2 // the system's default; also of an absent attribute
)

// Account is the name of the user's account in a store: uid@domain. It is
// stable: it does not follow changes of the mail attribute.
func (u User) Account() string { return u.UID + "@" + u.Domain }

// Group is a list of recipients (static members at this depth).
type Group struct {
	DN     DN
	Name   string
	Domain string
	Mail   mail.Address
	// Alternates and Equivalents are further addresses.
	Alternates  []mail.Address
	Equivalents []mail.Address
	// Status is effective, as User's.
	Status Status
	// Members are DNs of users or groups, External are addresses, and Searches
	// find more members (Lister); Except are members who get nothing.
	Members  []DN
	External []mail.Address
	Searches []MemberURL
	Except   []DN
	// DeliveryOptions are members, members_offline, forward, hold; if the entry
	// has none, "members" alone. ForwardTo counts only with forward.
	DeliveryOptions []string
	ForwardTo       []mail.Address
	// Posting says who may write to the group.
	Posting Posting
	// Edit is what the group changes in a message.
	Edit Edit
	// ErrorsTo is the envelope sender of the expansion; zero: the original sender.
	ErrorsTo mail.Address
	// MailHost is empty for a group that any MTA may expand.
	MailHost string
	// MaxMessage is in bytes; 0: no limit of the group's own.
	MaxMessage int64
	// Defer leaves the expansion to the queue.
	Defer bool
	// Owners may manage the group.
	Owners []DN
	// Entry and DomainFact: see User.
	Entry      Entry
	DomainFact Fact
}

// Edit is what a group changes in the messages that pass it.
type Edit struct {
	// Add holds whole header fields, "Name: value"; Remove names of fields.
	Add, Remove []string
	// Prefix and Suffix are put around the text; lines end in LF.
	Prefix, Suffix string
}

// IsZero reports whether nothing is changed.
func (e Edit) IsZero() bool {
	return len(e.Add) == 0 && len(e.Remove) == 0 && e.Prefix == "" && e.Suffix == ""
}
