package store

import "fmt"

// Rights is a set of the rights that a user may have on a mailbox (RFC 4314 §2.1).
type Rights uint16

// The rights, in the order in which RFC 4314 lists them.
const (
	RightLookup   Rights = 1 << iota // l: the mailbox is seen by LIST, and may be subscribed to
	RightRead                        // r: SELECT, STATUS, and what reads messages
	RightSeen                        // s: \Seen is kept
	RightWrite                       // w: flags other than \Seen and \Deleted
	RightInsert                      // i: APPEND, COPY into the mailbox
	RightPost                        // p: mail may be sent to the mailbox itself
	RightCreate                      // k: mailboxes may be made below it
	RightDelete                      // x: the mailbox may be deleted and renamed
	RightFlagGone                    // t: \Deleted
	RightExpunge                     // e: EXPUNGE
	RightAdmin                       // a: its list of rights may be read and changed

	AllRights = RightAdmin<<1 - 1
)

const rightLetters = "lrswipkxtea"

// The rights of RFC 2086 that later became several (RFC 4314 §2.1.1).
const (
	oldCreate = RightCreate | RightDelete
	oldDelete = RightExpunge | RightFlagGone
)

// NewRights are the letters that RFC 2086 did not know, for the RIGHTS=
// capability.
const NewRights = "kxte"

// ParseRights reads letters, c and d among them. An unknown one is an error
// that is safe to show.
func ParseRights(letters string) (r Rights, err error) {
	for _, c := range []byte(letters) {
		switch c {
		case 'c':
			r |= oldCreate
			continue
		case 'd':
			r |= oldDelete
			continue
		}
		known := false
		for i := range len(rightLetters) {
			if rightLetters[i] == c {
				r, known = r|1<<i, true
			}
		}
		if !known {
			return 0, fmt.Errorf("unknown right %q; there are %scd", c, rightLetters)
		}
	}
	return r, nil
}

// Has reports whether all rights of s are there.
func (r Rights) Has(s Rights) bool { return r&s == s }

// String is the letters of the rights.
func (r Rights) String() string {
	b := make([]byte, 0, len(rightLetters))
	for i := range len(rightLetters) {
		if r&(1<<i) != 0 {
			b = append(b, rightLetters[i])
		}
	}
	return string(b)
}

// Wire is String with c and d for clients that know RFC 2086 alone: each is
// there if any right is that it stands for (RFC 4314 §2.1.1).
func (r Rights) Wire() string {
	s := r.String()
	if r&oldCreate != 0 {
		s += "c"
	}
	if r&oldDelete != 0 {
		s += "d"
	}
	return s
}

// flags returns which changes of flags the rights allow: \Seen, \Deleted, and
// all others (RFC 4314 §4).
func (r Rights) flags() (system SystemFlags, keywords bool) {
	if r.Has(RightSeen) {
		system |= Seen
	}
	if r.Has(RightFlagGone) {
		system |= Deleted
	}
	if r.Has(RightWrite) {
		system |= Answered | Flagged | Draft
	}
	return system, r.Has(RightWrite)
}

// Allowed returns the flags of f that somebody with the rights may set.
func (r Rights) Allowed(f Flags) Flags {
	system, keywords := r.flags()
	f.System &= system
	if !keywords {
		f.Keywords = nil
	}
	return f
}
