package directory

import (
	"strconv"
	"strings"
	"time"
)

// AutoReply is what a user's entry says about automatic replies. It counts
// only with the delivery option autoreply.
type AutoReply struct {
	Mode ReplyMode
	// Subject is that of the reply; empty: made from the message's own.
	Subject string
	// Text is the reply, lines ended by LF; Internal is for senders of the
	// user's own domain, empty: Text.
	Text, Internal string
	// Interval is how long one sender hears nothing again in the mode vacation.
	Interval time.Duration
	// Start and End bound the time in which replies are sent; zero: open.
	Start, End time.Time
}

// ReplyMode is mailAutoReplyMode.
type ReplyMode string

// The modes. ReplyVacation is also what a missing or unknown value means.
const (
	ReplyVacation ReplyMode = "vacation" // once per sender and interval
	ReplyAlways   ReplyMode = "reply"
	ReplyEcho     ReplyMode = "echo" // always, with the message attached
)

// defaultInterval is that of an entry without mailAutoReplyTimeOut.
const defaultInterval = 168 * time.Hour

// Active reports whether replies are due at that time.
func (a AutoReply) Active(at time.Time) bool {
	return (a.Start.IsZero() || !at.Before(a.Start)) && (a.End.IsZero() || !at.After(a.End))
}

func parseAutoReply(e Entry) AutoReply {
	a := AutoReply{
		Mode: ReplyVacation, Interval: defaultInterval,
		Subject:  e.Value("mailAutoReplySubject"),
		Text:     unfoldText(e.Value("mailAutoReplyText")),
		Internal: unfoldText(e.Value("mailAutoReplyTextInternal")),
		Start:    parseTime(e.Value("vacationStartDate")),
		End:      parseTime(e.Value("vacationEndDate")),
	}
	if m := ReplyMode(strings.ToLower(e.Value("mailAutoReplyMode"))); m == ReplyAlways || m == ReplyEcho {
		a.Mode = m
	}
	if hours, err := strconv.ParseUint(e.Value("mailAutoReplyTimeOut"), 10, 16); err == nil {
		a.Interval = time.Duration(hours) * time.Hour
	}
	return a
}

// unfoldText undoes the form of texts in attributes: "$" ends a line, "\24"
// and "\5c" are a dollar and a backslash. "$SUBJECT" and "$FROM" are left for
// whoever writes the reply.
func unfoldText(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, "$SUBJECT"), strings.HasPrefix(s, "$FROM"):
			b.WriteByte('$')
		case s[0] == '$':
			b.WriteByte('\n')
		case strings.HasPrefix(s, `\24`):
			b.WriteByte('$')
			s = s[2:]
		case len(s) >= 3 && strings.EqualFold(s[:3], `\5c`):
			b.WriteByte('\\')
			s = s[2:]
		default:
			b.WriteByte(s[0])
		}
		s = s[1:]
	}
	return b.String()
}

// parseTime reads a GeneralizedTime (RFC 4517 §3.3.13) to the second, or hours
// or minutes where it ends before; zero if it is none.
func parseTime(s string) time.Time {
	s, _, _ = strings.Cut(s, ".") // fractions
	for _, layout := range []string{"20060102150405Z0700", "200601021504Z0700", "2006010215Z0700", "20060102150405", "20060102"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}
