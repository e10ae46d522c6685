// Package store is the message store role: accounts, mailboxes and messages
// as IMAP sees them (RFC 9051 §2.3), and the rules by which a session or a
// delivery reaches them.
//
// The engine is sqlstore; imapserver, pop3server and lmtpserver are its doors;
// lmtpclient delivers to a store that runs elsewhere. A store knows no
// passwords: it asks the directory about each account by itself, whoever hands
// it the connection.
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"mailsrv/pkg/mail"
)

// Errors of a Store.
var (
	ErrNoMailbox     = errors.New("no such mailbox")
	ErrMailboxExists = errors.New("mailbox already exists")
	ErrBadName       = errors.New("bad mailbox name")
	ErrHasChildren   = errors.New("mailbox has inferior names")
	ErrInbox         = errors.New("INBOX cannot be deleted")
	ErrNoMessage     = errors.New("no such message")
	ErrOverQuota     = errors.New("over quota")
	ErrTooMany       = errors.New("limit reached")
	// ErrUnavailable: the store cannot be reached or asked; transient.
	ErrUnavailable = errors.New("store unavailable")
)

// Store is the engine. Methods may be called from many goroutines; whatever
// returned nil survives a power cut.
type Store interface {
	// Account opens the account of that name (directory.User.Account), and
	// makes it with its default mailboxes if it is new.
	Account(ctx context.Context, name string) (Account, error)
	// Deliver stores one message for many accounts, all in one commit, and
	// returns one error per target. A target whose account and mailbox
	// already took trace is done before, and so nil.
	Deliver(ctx context.Context, trace mail.TraceID, body mail.Body, targets []Target) []error
	// Close ends the store's own work and frees it. Accounts and mailboxes
	// must not be used afterwards.
	Close() error
}

// Target is one place of a Deliver.
type Target struct {
	// Account is the account's name.
	Account string
	// Mailbox is the name of the mailbox, made if it is missing; empty: INBOX.
	Mailbox string
	// Flags to set; the zero value sets none.
	Flags Flags
	// ReturnPath is put before the message as its Return-Path field, also if
	// it is null (RFC 5321 §4.4).
	ReturnPath mail.Address
	// Recipient is put before the message as its Delivered-To field, unless it is zero.
	Recipient mail.Address
	// SentCopy: see mail.Recipient.
	SentCopy bool
	// Quota bounds the account.
	Quota Quota
}

// Usage is what an account holds.
type Usage struct {
	Bytes, Messages int64
}

// Account is one user's tree of mailboxes. Names are UTF-8 with "/" between
// levels, INBOX in any case. Methods may be called from many goroutines.
type Account interface {
	// Name is the account's name.
	Name() string
	// Mailboxes lists all mailboxes, and the names that are only subscribed
	// to, in the order of their names with INBOX first.
	Mailboxes(ctx context.Context) ([]MailboxEntry, error)
	// Open returns the mailbox. ErrNoMailbox.
	Open(ctx context.Context, name string) (Mailbox, error)
	// Create makes a mailbox and the missing levels above it. use is a
	// special use such as `\Sent` (RFC 6154), or empty. ErrMailboxExists, ErrBadName, ErrTooMany.
	Create(ctx context.Context, name, use string) error
	// Delete removes a mailbox and its messages. One with inferiors stays as
	// a name that cannot be selected (RFC 9051 §6.3.5). ErrInbox, ErrNoMailbox, ErrHasChildren.
	Delete(ctx context.Context, name string) error
	// Rename moves a mailbox and all its inferiors; INBOX gives its messages
	// to a new mailbox and stays (RFC 9051 §6.3.6). ErrNoMailbox, ErrMailboxExists, ErrBadName.
	Rename(ctx context.Context, from, to string) error
	// Subscribe sets or clears the subscription of a name, which need not exist.
	Subscribe(ctx context.Context, name string, on bool) error
	// Usage is what the account holds now.
	Usage(ctx context.Context) (Usage, error)
}

// TreeWatcher is an Account that tells of changes to its mailboxes' names and subscriptions.
type TreeWatcher interface {
	// WatchTree calls wake, which must not block, after each commit that made,
	// deleted or renamed one of the account's own mailboxes, or changed a
	// subscription, until the returned function is called; perhaps after others
	// too. No call is made after that function returns.
	WatchTree(wake func()) (stop func())
}

// MailboxEntry is a line of LIST.
type MailboxEntry struct {
	Name string
	// ID is that of the user's own mailbox (Mailbox.ID); 0 for other names.
	ID int64
	// NoSelect: the name is only a level above others, or was deleted.
	NoSelect bool
	// NonExistent: the name is only subscribed to.
	NonExistent bool
	Subscribed  bool
	HasChildren bool
	// SpecialUse is `\Sent` and the like, or empty.
	SpecialUse string
}

// UID numbers a message in its mailbox; 0 is no UID (RFC 9051 §2.3.1.1).
type UID uint32

// ModSeq numbers the changes of a mailbox, ascending (RFC 7162 §3).
type ModSeq uint64

// Status describes a mailbox at one moment.
type Status struct {
	UIDValidity   uint32
	UIDNext       UID
	HighestModSeq ModSeq
	Messages      uint32
	Unseen        uint32
	Deleted       uint32
	// Recent counts messages that no session has been told of as recent.
	Recent uint32
	// Size is the sum of the messages' sizes in bytes.
	Size int64
}

// Mailbox is an open mailbox. It holds nothing that needs closing and may be
// used from many goroutines. If it is deleted meanwhile, methods return
// ErrNoMailbox.
type Mailbox interface {
	// ID is stable over renames and never used again.
	ID() int64
	// Name is the mailbox's name now.
	Name() string
	// Status counts; it reads no messages.
	Status(ctx context.Context) (Status, error)
	// Messages yields the messages whose UIDs are in uids, ascending, with
	// the fields asked for. The *Message and what it holds are good until the
	// next step of the iteration only. Nothing of the store is held while it
	// yields: the caller may write to a slow client between two steps.
	Messages(ctx context.Context, uids UIDSet, fields Fields) iter.Seq2[*Message, error]
	// Body opens the message's bytes for random access; the caller closes it.
	// ErrNoMessage.
	Body(ctx context.Context, uid UID) (MessageBody, error)
	// Append stores one message. It replaces a SentCopy of the same
	// Message-ID. ErrOverQuota, ErrNoMailbox.
	Append(ctx context.Context, body mail.Body, flags Flags, internalDate time.Time, q Quota) (UID, error)
	// AppendAll is Append of several messages in one commit, all or none; the
	// UIDs are in their order (RFC 3502). An error may match ErrOverQuota, ErrNoMailbox.
	AppendAll(ctx context.Context, messages []Incoming, q Quota) ([]UID, error)
	// Replace appends to the mailbox dst of the same account and removes the
	// message uid of this one, in one commit (RFC 8508). The removed one makes
	// room for the other. ErrNoMessage, ErrOverQuota, ErrNoMailbox.
	Replace(ctx context.Context, uid UID, dst string, by Incoming, q Quota) (UID, error)
	// StoreFlags changes flags and returns the changed messages' state, and
	// that of messages it left alone since their ModSeq is above unchangedSince
	// (0: no condition), ascending by UID.
	StoreFlags(ctx context.Context, uids UIDSet, change FlagChange, unchangedSince ModSeq) (StoreResult, error)
	// Expunge removes for good the messages in uids that have \Deleted and
	// returns their UIDs, ascending.
	Expunge(ctx context.Context, uids UIDSet) ([]UID, error)
	// Remove is Expunge whatever the flags: no other session ever sees a
	// message that is only about to go. All that are there go in one commit.
	Remove(ctx context.Context, uids UIDSet) ([]UID, error)
	// Copy copies messages to dst, of the same account, flags and internal
	// dates kept, all or none; the pairs are ascending by source. ErrOverQuota.
	Copy(ctx context.Context, uids UIDSet, dst string, q Quota) (CopyResult, error)
	// Move is Copy and the removal of the originals in one (RFC 6851).
	Move(ctx context.Context, uids UIDSet, dst string) (CopyResult, error)
	// Changes returns what happened after since, collapsed to the last state
	// of each message.
	Changes(ctx context.Context, since ModSeq) (Changes, error)
	// ClaimRecent returns the first UID that is still recent (UIDNEXT if none
	// is) and, if claim is set, makes them recent to nobody else.
	ClaimRecent(ctx context.Context, claim bool) (UID, error)
	// Watch calls wake, which must not block, after each commit that changed
	// the mailbox, until the returned function is called. No call is made
	// after that function returns.
	Watch(wake func()) (stop func())
}

// Incoming is a message on its way into a mailbox.
type Incoming struct {
	Body  mail.Body
	Flags Flags
	// InternalDate keeps its zone; zero: now.
	InternalDate time.Time
}

// Fields says which parts of a Message are wanted.
type Fields uint

// The fields. UID, ModSeq and Flags always come; they cost no disk.
const (
	FieldMeta          Fields = 1 << iota // InternalDate, Size
	FieldEnvelope                         // Envelope
	FieldBodyStructure                    // Body, BodyStructure
	FieldHeader                           // Header
	FieldParts                            // Parts
	FieldID                               // ID
	FieldText                             // Text
)

// Message is a message in a mailbox without its body.
type Message struct {
	UID    UID
	ModSeq ModSeq
	Flags  Flags
	// InternalDate keeps its zone; SaveDate is when it came into this mailbox.
	InternalDate, SaveDate time.Time
	// Size is in bytes (RFC822.SIZE).
	Size int64
	// Envelope, Body and BodyStructure are rendered as IMAP sends them,
	// parentheses included (RFC 9051 §7.5.2).
	Envelope, Body, BodyStructure []byte
	// Header is the header block with the empty line that ends it.
	Header []byte
	// ID names the content: what has the same ID in one account has the same
	// bytes. At most 255 letters, digits, "-" and "_" (RFC 8474 §3).
	ID string
	// Parts is the table of part offsets, as mime.DecodeParts reads it.
	Parts []byte
	// Text is the whole message with its header; nil if it is too large to be
	// had this way: then Mailbox.Body opens it.
	Text []byte
}

// MessageBody is an open message.
type MessageBody interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// FlagChange is one STORE.
type FlagChange struct {
	Kind  FlagChangeKind
	Flags Flags
	// Within leaves flags alone that these rights do not let one change; zero:
	// none are left alone.
	Within Rights
}

// FlagChangeKind is how a FlagChange applies.
type FlagChangeKind int

// FLAGS, +FLAGS and -FLAGS.
const (
	FlagsReplace FlagChangeKind = iota
	FlagsAdd
	FlagsRemove
)

// FlagState is a message's flags after some change.
type FlagState struct {
	UID    UID
	ModSeq ModSeq
	Flags  Flags
}

// StoreResult is what StoreFlags did. Changed has every existing message of
// the set that met the condition, also if its flags stayed as they were.
type StoreResult struct {
	Changed  []FlagState
	Modified []FlagState // failed unchangedSince
}

// CopyResult pairs sources with copies (RFC 4315 COPYUID).
type CopyResult struct {
	UIDValidity uint32
	From, To    []UID
}

// Changes is the difference between two states of a mailbox.
type Changes struct {
	// Highest is the ModSeq this brings the reader to.
	Highest ModSeq
	// UIDNext goes with it.
	UIDNext UID
	// Messages are new or changed, ascending by UID. A message is new to the
	// reader if its UID is not below the UIDNext it knew.
	Messages []FlagState
	// Expunged UIDs, ascending; some may never have been known to the reader.
	Expunged []UID
	// Forgotten: expunges up to this ModSeq are not remembered, and Expunged
	// lacks them. A reader that knew an older state has to compare all UIDs.
	Forgotten ModSeq
}
