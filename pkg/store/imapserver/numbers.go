package imapserver

import (
	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// messageSet is how a command names messages: numbers or UIDs, or "$" for the
// result of an earlier SEARCH (RFC 5182).
type messageSet struct {
	imapwire.NumSet
	saved bool
}

func readSet(l *imapwire.Lexer) messageSet {
	if l.Take('$') {
		return messageSet{saved: true}
	}
	return messageSet{NumSet: l.NumSet()}
}

// span is the messages at indexes from to to-1.
type span struct{ from, to int }

// numbering is how a command's set names messages: bySeq or byUID.
type numbering func(*view, messageSet) []span

// bySeq returns the messages that a set of message numbers names; numbers that
// are not in use name nothing.
func (v *view) bySeq(set messageSet) []span {
	if set.saved {
		return v.spansOf(v.saved)
	}
	var spans []span
	for _, r := range set.Resolve(uint32(v.len())) {
		if int(r.First) > v.len() {
			break
		}
		spans = append(spans, span{int(r.First) - 1, min(int(r.Last), v.len())})
	}
	return spans
}

// byUID returns the messages that a set of UIDs names. "*" is the last message.
func (v *view) byUID(set messageSet) []span {
	if set.saved {
		return v.spansOf(v.saved)
	}
	if v.len() == 0 {
		return nil
	}
	var uids store.UIDSet
	for _, r := range set.Resolve(uint32(v.uids[v.len()-1])) {
		uids = append(uids, store.UIDRange{First: store.UID(r.First), Last: store.UID(r.Last)})
	}
	return v.spansOf(uids)
}

// spansOf returns the messages of the view that are in uids.
func (v *view) spansOf(uids store.UIDSet) []span {
	var spans []span
	for _, r := range uids {
		from, _ := v.index(r.First)
		to, found := v.index(r.Last)
		if found {
			to++
		}
		if from < to {
			spans = append(spans, span{from, to})
		}
	}
	return spans
}

// uidSet is the UIDs of the messages in spans. UIDs that lie between them and
// are not in the view are of no message: they were expunged.
func (v *view) uidSet(spans []span) store.UIDSet {
	ranges := make([]store.UIDRange, len(spans))
	for i, s := range spans {
		ranges[i] = store.UIDRange{First: v.uids[s.from], Last: v.uids[s.to-1]}
	}
	return store.NewUIDSet(ranges)
}

// numbers is the message numbers or UIDs of the messages in spans.
func (v *view) numbers(spans []span, uid bool) []uint32 {
	numbers := make([]uint32, 0, count(spans))
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			if uid {
				numbers = append(numbers, uint32(v.uids[i]))
			} else {
				numbers = append(numbers, uint32(i+1))
			}
		}
	}
	return numbers
}

func count(spans []span) int {
	n := 0
	for _, s := range spans {
		n += s.to - s.from
	}
	return n
}

// piece returns the messages of spans at places from to to-1.
func piece(spans []span, from, to int) []span {
	var out []span
	for _, s := range spans {
		n := s.to - s.from
		if a, b := max(from, 0), min(to, n); a < b {
			out = append(out, span{s.from + a, s.from + b})
		}
		from, to = from-n, to-n
	}
	return out
}
