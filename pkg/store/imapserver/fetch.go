package imapserver

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// bodyBatch is how many messages' bodies are fetched between two looks at the
// store, and how many \Seen flags are set in one commit.
const bodyBatch = 256

// fetch is FETCH (RFC 3501 §6.4.5), uidFetch UID FETCH.
func (c *session) fetch(cmd *imapwire.Command) error { return c.fetchBy(cmd, (*view).bySeq, false) }

func (c *session) uidFetch(cmd *imapwire.Command) error { return c.fetchBy(cmd, (*view).byUID, true) }

func (c *session) fetchBy(cmd *imapwire.Command, by numbering, uid bool) error {
	l := cmd.Args
	l.Space()
	set := readSet(l)
	l.Space()
	q := readFetch(l)
	q.readModifiers(l, uid)
	if q.vanished && !c.has(qResync) {
		l.Fail("VANISHED needs QRESYNC to be enabled")
	}
	if err := l.End(); err != nil {
		return bad(err)
	}
	q.uid = q.uid || uid
	if q.modSeq {
		c.grant(condStore)
	}
	q.modSeq = q.modSeq || c.has(condStore) && q.setsSeen()
	if q.flags {
		if err := c.poll(false); err != nil { // flags as they are now
			return err
		}
	}
	spans := by(c.box, set)
	if q.since > 0 || q.vanished {
		changed, gone, err := c.changedSince(spans, q.since)
		if err != nil {
			return fmt.Errorf("fetching from %q: %w", c.box.box.Name(), err)
		}
		spans = changed
		if q.vanished {
			c.conn.SetOut(appendVanished(c.conn.Out(), true, c.box.among(gone, set)))
		}
	}
	if q.partial != nil {
		from, to := q.partial.of(count(spans))
		spans = piece(spans, from, to)
	}
	told, err := c.fetchSpans(spans, q)
	if err != nil {
		return fmt.Errorf("fetching from %q: %w", c.box.box.Name(), err)
	}
	if told < count(spans) {
		c.code = append(c.code, "EXPUNGEISSUED"...)
	}
	return nil
}

// fetchSpans answers for the messages of spans, and returns how many were there.
func (c *session) fetchSpans(spans []span, q *fetchRequest) (told int, err error) {
	switch fields := q.fields(); {
	case q.needsBody() || q.setsSeen():
		return c.fetchBodies(spans, q, fields)
	case fields == 0 && !q.modSeq:
		return c.fetchKnown(spans, q), nil
	default:
		return c.fetchStored(spans, q, fields)
	}
}

// fetchKnown answers from the view alone.
func (c *session) fetchKnown(spans []span, q *fetchRequest) int {
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			c.conn.SetOut(append(c.appendItems(c.conn.Out(), i, q, nil), ")\r\n"...))
		}
	}
	return count(spans)
}

// fetchStored answers from what the store keeps rendered. It reads no bodies.
func (c *session) fetchStored(spans []span, q *fetchRequest, fields store.Fields) (told int, err error) {
	v := c.box
	at := 0
	for m, err := range v.box.Messages(c.ctx, v.uidSet(spans), fields) {
		if err != nil {
			return told, err
		}
		for at < v.len() && v.uids[at] < m.UID {
			at++
		}
		if at == v.len() || v.uids[at] != m.UID {
			continue
		}
		v.note(at, m.Flags)
		out := c.appendItems(c.conn.Out(), at, q, m)
		c.conn.SetOut(append(appendHeaderSections(out, q, m), ")\r\n"...))
		if err := c.connected(); err != nil {
			return told, err
		}
		told++
	}
	return told, nil
}

// note takes over flags that were read with other items, if the client is to
// be told of them in the same response or later.
func (v *view) note(i int, f store.Flags) {
	if v.setFlags(i, f) {
		v.marks[i] |= markTell
	}
}

// after returns what is left of spans from index i on.
func after(spans []span, i int) []span {
	for len(spans) > 0 && spans[0].to <= i {
		spans = spans[1:]
	}
	if len(spans) > 0 && spans[0].from < i {
		spans = slices.Clone(spans)
		spans[0].from = i
	}
	return spans
}

// appendItems begins a FETCH response and appends all items but sections. m is
// nil if only UID and FLAGS are wanted, of what was told and not changed since.
func (c *session) appendItems(dst []byte, i int, q *fetchRequest, m *store.Message) []byte {
	v := c.box
	dst = c.appendFetch(dst, i, q.uid)
	if q.flags || v.marks[i]&markTell != 0 {
		v.marks[i] &^= markTell
		dst = append(v.appendFlags(append(dst, "FLAGS "...), i), ' ')
		if m != nil && c.has(condStore) && !q.modSeq {
			dst = append(appendModSeq(dst, m.ModSeq), ' ')
		}
	}
	if q.modSeq {
		dst = append(appendModSeq(dst, m.ModSeq), ' ')
	}
	if m != nil {
		dst = q.appendStored(dst, m)
	}
	if dst[len(dst)-1] == ' ' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendStored appends what the store keeps of a message, each with a space
// behind it.
func (q *fetchRequest) appendStored(dst []byte, m *store.Message) []byte {
	if q.internalDate {
		dst = imapwire.AppendDateTime(append(dst, "INTERNALDATE "...), m.InternalDate)
		dst = append(dst, ' ')
	}
	if q.size {
		dst = append(dst, "RFC822.SIZE "...)
		dst = append(strconv.AppendInt(dst, m.Size, 10), ' ')
	}
	if q.saveDate {
		dst = imapwire.AppendDateTime(append(dst, "SAVEDATE "...), m.SaveDate.UTC())
		dst = append(dst, ' ')
	}
	if q.emailID {
		dst = append(append(append(dst, "EMAILID ("...), m.ID...), ") "...)
	}
	if q.threadID { // RFC 8474 §5.3: NIL where the server knows no threads
		dst = append(dst, "THREADID NIL "...)
	}
	if q.envelope {
		dst = append(append(append(dst, "ENVELOPE "...), m.Envelope...), ' ')
	}
	if q.body {
		dst = append(append(append(dst, "BODY "...), m.Body...), ' ')
	}
	if q.bodyStructure {
		dst = append(append(append(dst, "BODYSTRUCTURE "...), m.BodyStructure...), ' ')
	}
	return dst
}

// markSeen sets \Seen on the messages of a batch that lack it, in one commit,
// and marks them so that their FETCH tells it.
func (c *session) markSeen(spans []span) error {
	v := c.box
	var unseen []store.UID
	for _, s := range spans {
		for i := s.from; i < s.to; i++ {
			if !v.flagsOf(i).Has(store.Seen) {
				unseen = append(unseen, v.uids[i])
			}
		}
	}
	if len(unseen) == 0 || v.readOnly {
		return nil
	}
	change := store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen}}
	result, err := v.box.StoreFlags(c.ctx, store.UIDsOf(unseen...), change, 0)
	if errors.Is(err, store.ErrNoRight) {
		return nil // RFC 4314 §4: it stays as it is
	}
	if err != nil {
		return err
	}
	for _, m := range result.Changed {
		if i, known := v.index(m.UID); known {
			v.note(i, m.Flags)
			c.toldChange(m)
		}
	}
	return nil
}

// batches cuts spans into pieces of at most n messages.
func batches(spans []span, n int, do func([]span) error) error {
	for len(spans) > 0 {
		var batch []span
		left := n
		for left > 0 && len(spans) > 0 {
			s := spans[0]
			s.to = min(s.to, s.from+left)
			left -= s.to - s.from
			batch = append(batch, s)
			spans = after(spans, s.to)
		}
		if err := do(batch); err != nil {
			return err
		}
	}
	return nil
}
