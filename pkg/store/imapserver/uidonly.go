package imapserver

import (
	"slices"
	"strconv"
)

// UIDONLY (RFC 9586): a client that has enabled it names messages by UID alone,
// and hears of them so.

// numbered are the commands that take message numbers.
var numbered = [...]string{"FETCH", "STORE", "SEARCH", "COPY", "MOVE", "SORT", "THREAD", "REPLACE"}

// needsUID refuses a command that would use message numbers (RFC 9586 §3.1).
func (c *session) needsUID(name string) error {
	if c.has(uidOnly) && slices.Contains(numbered[:], name) {
		return errUIDRequired()
	}
	return nil
}

func errUIDRequired() error {
	return &response{status: "BAD", code: "UIDREQUIRED", text: "message numbers are not in use"}
}

// appendFetch begins a FETCH response, up to its parenthesis, and appends the
// UID if it is wanted and not there already (RFC 9586 §3.3).
func (c *session) appendFetch(dst []byte, i int, uid bool) []byte {
	v := c.box
	dst = append(dst, "* "...)
	if c.has(uidOnly) {
		dst = strconv.AppendUint(dst, uint64(v.uids[i]), 10)
		return append(dst, " UIDFETCH ("...)
	}
	dst = strconv.AppendInt(dst, int64(i+1), 10)
	dst = append(dst, " FETCH ("...)
	if uid {
		dst = append(dst, "UID "...)
		dst = append(strconv.AppendUint(dst, uint64(v.uids[i]), 10), ' ')
	}
	return dst
}

// numberSet reads a set of message numbers among search keys.
func (p *searchParser) numberSet() []span {
	if p.uidOnly && p.l.Peek() != '$' {
		p.refused = errUIDRequired()
		p.l.Fail("message numbers are not in use")
	}
	return p.v.bySeq(readSet(p.l))
}
