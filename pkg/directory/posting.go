package directory

import (
	"strings"

	"mailsrv/pkg/mail"
)

// Posting says who may write to a group, and what becomes of the message of
// somebody who may not (schema.md section 4).
type Posting struct {
	// Authenticated asks for senders who have logged in, NeedsPassword for an
	// Approved field that holds Password; an empty one lets nobody through.
	Authenticated, NeedsPassword bool
	Password                     string
	// AnyOf lets a sender through who fulfils one of the conditions above and
	// below; else all that are there must be.
	AnyOf bool
	// AllowedDomains and DisallowedDomains are globs over the sender's domain.
	AllowedDomains, DisallowedDomains []string
	// Allowed and Disallowed name senders; a group stands for its members.
	Allowed, Disallowed []Party
	// Moderators get the messages of others, if ToModerator says so, or if
	// nobody is named who may write unasked.
	Moderators  []Party
	ToModerator bool
	// RejectText is what a refused sender hears: one line of US-ASCII, or empty.
	RejectText string
}

// Restricted reports whether anything is asked of a sender.
func (p Posting) Restricted() bool {
	return p.Authenticated || p.NeedsPassword || len(p.AllowedDomains) > 0 || len(p.Allowed) > 0
}

// Party names people: by address, by entry, or by a search. One of the three
// is set.
type Party struct {
	Address mail.Address
	DN      DN
	Search  *MemberURL
}

// String returns the party as an attribute has it.
func (p Party) String() string {
	switch {
	case p.Search != nil:
		return p.Search.String()
	case !p.DN.IsRoot():
		return p.DN.String()
	}
	return "mailto:" + p.Address.String()
}

func parsePosting(e Entry) Posting {
	p := Posting{
		Password:          e.Value("mgrpAuthPassword"),
		AllowedDomains:    lower(e.Values("mgrpAllowedDomain")),
		DisallowedDomains: lower(e.Values("mgrpDisallowedDomain")),
		Allowed:           parties(e.Values("mgrpAllowedBroadcaster")),
		Disallowed:        parties(e.Values("mgrpDisallowedBroadcaster")),
		Moderators:        parties(e.Values("mgrpModerator")),
		ToModerator:       strings.EqualFold(e.Value("mgrpMsgRejectAction"), "toModerator"),
		RejectText:        firstLine(firstOf(e.Value("mgrpMsgRejectText"), e.Value("mailRejectText"))),
	}
	for _, v := range e.Values("mgrpBroadcasterPolicy") {
		for word := range strings.FieldsFuncSeq(strings.ToUpper(v), func(r rune) bool { return r == ',' || r == ' ' }) {
			switch word {
			case "SMTP_AUTH_REQUIRED", "AUTH_REQ":
				p.Authenticated = true
			case "PASSWORD_REQUIRED", "PASSWD_REQUIRED", "PASSWD_REQ":
				p.NeedsPassword = true
			case "OR":
				p.AnyOf = true
			}
		}
	}
	return p
}

// firstLine is the first line of a reject text, printable US-ASCII alone.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "$")
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s))
}

// parties reads mailto: URLs, LDAP URLs, DNs and bare addresses; what is none
// of them is left out.
func parties(values []string) (out []Party) {
	for _, v := range values {
		if rest, ok := cutPrefixFold(v, "mailto:"); ok {
			v = rest
		}
		if u, err := ParseMemberURL(v); err == nil {
			if u.IsEntry() {
				out = append(out, Party{DN: u.Base})
			} else {
				out = append(out, Party{Search: &u})
			}
		} else if a, err := mail.ParseAddress(v); err == nil {
			out = append(out, Party{Address: a})
		} else if dn, err := ParseDN(v); err == nil && !dn.IsRoot() {
			out = append(out, Party{DN: dn})
		}
	}
	return out
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
