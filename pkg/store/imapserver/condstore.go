package imapserver

import (
	"slices"
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// What CONDSTORE (RFC 7162 §3.1) adds to other commands.

// readModSeq reads a mod-sequence-valzer (RFC 7162 §7), which may be zero.
func readModSeq(l *imapwire.Lexer) store.ModSeq { return store.ModSeq(l.Number64()) }

// appendHighest appends a HIGHESTMODSEQ code: all changes up to it have been told.
func (v *view) appendHighest(dst []byte) []byte {
	return strconv.AppendUint(append(dst, "HIGHESTMODSEQ "...), uint64(v.modSeq), 10)
}

// appendModSeq appends the item of a FETCH response.
func appendModSeq(dst []byte, m store.ModSeq) []byte {
	return append(strconv.AppendUint(append(dst, "MODSEQ ("...), uint64(m), 10), ')')
}

// toldChange notes that the client was told of a message's ModSeq by the answer
// to its own command, so that the next poll does not repeat it.
func (c *session) toldChange(m store.FlagState) {
	v := c.box
	if m.ModSeq <= v.flagSeq || !c.has(condStore) {
		return
	}
	if v.own == nil {
		v.own = map[store.UID]store.ModSeq{}
	}
	v.own[m.UID] = m.ModSeq
}

// changedSince reads which messages of spans changed after since, and what has
// been expunged since then and is not in the view any more.
func (c *session) changedSince(spans []span, since store.ModSeq) ([]span, []store.UID, error) {
	v := c.box
	changes, err := v.box.Changes(c.ctx, since)
	if err != nil {
		return nil, nil, err
	}
	var changed []span
	for _, m := range changes.Messages {
		i, known := v.index(m.UID)
		if !known {
			continue
		}
		for len(spans) > 0 && spans[0].to <= i {
			spans = spans[1:]
		}
		if len(spans) == 0 {
			break
		}
		if i < spans[0].from {
			continue
		}
		if n := len(changed); n > 0 && changed[n-1].to == i {
			changed[n-1].to++
			continue
		}
		changed = append(changed, span{i, i + 1})
	}
	gone := slices.DeleteFunc(changes.Expunged, func(u store.UID) bool { _, known := v.index(u); return known })
	return changed, gone, nil
}

// among returns those of the UIDs, of messages that are gone, that set names.
func (v *view) among(gone []store.UID, set messageSet) []store.UID {
	if set.saved {
		return nil // "$" names no message that is gone
	}
	var ranges []store.UIDRange
	for _, r := range set.Resolve(uint32(v.uidNext - 1)) {
		ranges = append(ranges, store.UIDRange{First: store.UID(r.First), Last: store.UID(r.Last)})
	}
	named := store.NewUIDSet(ranges)
	return slices.DeleteFunc(gone, func(u store.UID) bool { return !named.Contains(u) })
}

// appendVanished appends a VANISHED response (RFC 7162 §3.2.10) for ascending
// UIDs; nothing if there are none.
func appendVanished(dst []byte, earlier bool, uids []store.UID) []byte {
	if len(uids) == 0 {
		return dst
	}
	dst = append(dst, "* VANISHED "...)
	if earlier {
		dst = append(dst, "(EARLIER) "...)
	}
	return append(imapwire.AppendNumSet(dst, slices.Compact(uids)), "\r\n"...)
}

// modified is the code of a STORE that left messages alone since they had been
// changed (RFC 7162 §3.1.3), in the numbers that the command used.
func (v *view) appendModified(dst []byte, left []store.FlagState, uid bool) []byte {
	numbers := make([]uint32, 0, len(left))
	for _, m := range left {
		if i, known := v.index(m.UID); known && !uid {
			numbers = append(numbers, uint32(i+1))
		} else if uid {
			numbers = append(numbers, uint32(m.UID))
		}
	}
	if len(numbers) == 0 {
		return dst
	}
	return imapwire.AppendNumSet(append(dst, "MODIFIED "...), numbers)
}

// modSeqKey reads the rest of SEARCH's MODSEQ: perhaps the name and kind of a
// flag, which we do not tell apart (RFC 7162 §3.1.5), and a number.
func (p *searchParser) modSeqKey() condition {
	p.modSeq = true
	p.l.Space()
	if p.l.Peek() == '"' {
		_ = p.l.String()
		p.l.Space()
		switch p.l.Keyword() {
		case "PRIV", "SHARED", "ALL":
		default:
			p.l.Fail("expected priv, shared or all")
		}
		p.l.Space()
	}
	least := readModSeq(p.l)
	return storedCondition(0, func(m *store.Message) bool { return m.ModSeq >= least })
}

// highestOf is the highest ModSeq of the messages at indexes.
func (c *session) highestOf(indexes []int) (highest store.ModSeq, err error) {
	if len(indexes) == 0 {
		return 0, nil
	}
	for m, err := range c.box.box.Messages(c.ctx, uidsAt(c.box, indexes), 0) {
		if err != nil {
			return 0, err
		}
		highest = max(highest, m.ModSeq)
	}
	return highest, nil
}
