package mta

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// Decision is a moderator's word about one message to a group.
type Decision struct {
	Group   mail.Address
	Approve bool
	token   string
}

// The +detail of the address to which a moderator answers begins so; the token
// follows.
const (
	approveDetail = "approve-"
	discardDetail = "discard-"
	tokenLength   = 20
)

// NewDecision returns the decision about the message of that trace, as only
// those can make it who were asked: key is secret.
func NewDecision(key []byte, trace mail.TraceID, group mail.Address, approve bool) Decision {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(string(trace) + " " + strings.ToLower(group.String())))
	token := strings.ToLower(srsEncoding.EncodeToString(mac.Sum(nil)))[:tokenLength]
	return Decision{Group: group, Approve: approve, token: token}
}

// Address is where a mail has to go to make the decision; false if the group's
// own address is too long for it.
func (d Decision) Address() (mail.Address, bool) {
	detail := discardDetail
	if d.Approve {
		detail = approveDetail
	}
	a := mail.Address{Local: d.Group.Local + "+" + detail + d.token, Domain: d.Group.Domain}
	return a, len(a.Local) <= mail.MaxLocal
}

// ParseDecision reads the address of a decision. Whether its token is true only
// IsAbout can tell.
func ParseDecision(a mail.Address) (d Decision, ok bool) {
	base, detail, _ := strings.Cut(strings.ToLower(a.Local), "+")
	d.Group = mail.Address{Local: base, Domain: a.Domain}
	if d.token, d.Approve = strings.CutPrefix(detail, approveDetail); !d.Approve {
		if d.token, ok = strings.CutPrefix(detail, discardDetail); !ok {
			return Decision{}, false
		}
	}
	return d, len(d.token) == tokenLength
}

// IsAbout reports whether the decision is about the message of that trace to
// that group, and made by somebody who was asked.
func (d Decision) IsAbout(key []byte, trace mail.TraceID, group mail.Address) bool {
	own := NewDecision(key, trace, group, d.Approve)
	return subtle.ConstantTimeCompare([]byte(own.token), []byte(d.token)) == 1
}

func isDecision(a mail.Address, g *directory.Group) bool {
	_, ok := ParseDecision(a)
	return ok && len(g.Posting.Moderators) > 0
}
