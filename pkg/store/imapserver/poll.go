package imapserver

import (
	"cmp"
	"errors"
	"slices"
	"strconv"

	"mailsrv/pkg/store"
)

// poll tells the client what happened to the selected mailbox since it was
// last told: expunged messages if that is allowed now, then new ones, then
// changed flags. What is not told now, or not wanted (NOTIFY), is told by a
// later poll.
func (c *session) poll(expunge bool) error {
	messages, flags, _ := c.selectedEvents()
	return c.pollFor(expunge && messages, messages, flags)
}

// pollFor is poll of expunged and new messages and of flags.
func (c *session) pollFor(expunge, news, flags bool) error {
	v := c.box
	changes, err := v.box.Changes(c.ctx, v.modSeq)
	if errors.Is(err, store.ErrNoMailbox) {
		return &fatalError{text: "selected mailbox was deleted", err: err} // RFC 2180 §3.3
	}
	if errors.Is(err, store.ErrNoRight) {
		return &fatalError{text: "selected mailbox may not be read any more", err: err}
	}
	if err != nil {
		c.log.Warn("changes not read", "mailbox", v.box.Name(), "err", err)
		return nil
	}
	if changes.Highest == v.modSeq {
		return nil
	}
	waiting := false
	if expunge {
		c.tellExpunged(changes.Expunged)
	} else {
		waiting = slices.ContainsFunc(changes.Expunged, func(u store.UID) bool { _, known := v.index(u); return known })
	}
	known := v.len()
	if !news {
		waiting = waiting || changes.UIDNext > v.uidNext
	} else if err := c.takeNew(&changes); err != nil {
		c.log.Warn("recent messages not claimed", "mailbox", v.box.Name(), "err", err)
		return nil
	}
	c.tellFlags(changes.Messages, known, flags)
	if v.toldRecent != v.recent {
		c.tellRecent()
	}
	v.flagSeq, v.own = changes.Highest, nil
	if !waiting {
		v.modSeq = changes.Highest
	}
	return c.tellNew(known)
}

// tellExpunged reports the messages of the view that are among uids, the last
// first, so that each number is one the client still uses.
func (c *session) tellExpunged(uids []store.UID) {
	v := c.box
	var gone []int
	for _, u := range uids {
		if i, known := v.index(u); known {
			gone = append(gone, i)
		}
	}
	if c.features&(qResync|uidOnly) != 0 {
		vanished := make([]store.UID, len(gone))
		for n, i := range gone {
			vanished[n] = v.uids[i]
		}
		c.conn.SetOut(appendVanished(c.conn.Out(), false, vanished))
	} else {
		for _, i := range slices.Backward(gone) {
			c.conn.SetOut(appendUntagged(c.conn.Out(), i+1, "EXPUNGE"))
		}
	}
	v.remove(gone)
}

// takeNew brings the new messages among the changes into the view.
func (c *session) takeNew(changes *store.Changes) error {
	v := c.box
	first, _ := slices.BinarySearchFunc(changes.Messages, v.uidNext, func(m store.FlagState, u store.UID) int {
		return cmp.Compare(m.UID, u)
	})
	news := changes.Messages[first:]
	if len(news) > 0 {
		recent, err := c.claimRecent(v.box, v.readOnly)
		if err != nil {
			return err
		}
		for _, m := range news {
			v.add(m.UID, m.Flags, m.UID >= recent)
		}
		c.conn.SetOut(appendUntagged(c.conn.Out(), v.len(), "EXISTS"))
		v.uidNext = news[len(news)-1].UID + 1
	}
	v.uidNext = max(v.uidNext, changes.UIDNext)
	return nil
}

// tellFlags reports the changes that are news to the client, of the first
// known messages of the view; with tell unset it only takes them over. With
// CONDSTORE a new ModSeq is news too.
func (c *session) tellFlags(changed []store.FlagState, known int, tell bool) {
	v := c.box
	var news []flagNews
	for _, m := range changed {
		i, found := v.index(m.UID)
		if !found || i >= known {
			continue
		}
		if !tell {
			v.setFlags(i, m.Flags)
		} else if v.setFlags(i, m.Flags) || c.has(condStore) && m.ModSeq > v.flagSeq && v.own[m.UID] != m.ModSeq {
			news = append(news, flagNews{i, m.ModSeq})
		}
	}
	c.tellKeywords()
	for _, n := range news {
		c.conn.SetOut(c.appendFlagUpdate(c.conn.Out(), n))
	}
}

// flagNews is the index and ModSeq of a message whose flags are to be told.
type flagNews struct {
	i      int
	modSeq store.ModSeq
}

// appendFlagUpdate appends a FETCH response with the message's UID and flags,
// and what is known of its ModSeq.
func (c *session) appendFlagUpdate(dst []byte, n flagNews) []byte {
	v, i := c.box, n.i
	dst = append(c.appendFetch(dst, i, true), "FLAGS "...)
	dst = v.appendFlags(dst, i)
	if c.has(condStore) {
		dst = appendModSeq(append(dst, ' '), n.modSeq)
	}
	return append(dst, ")\r\n"...)
}

// tellKeywords sends FLAGS when a keyword is used that the client has not
// heard of.
func (c *session) tellKeywords() {
	v := c.box
	if !v.flags.news {
		return
	}
	v.flags.news = false
	out := append(c.conn.Out(), "* FLAGS ("...)
	out = v.flags.appendNames(out)
	c.conn.SetOut(append(out, ")\r\n"...))
}

// appendNames appends all flags that are, or may be, used.
func (t *flagTable) appendNames(dst []byte) []byte {
	return store.Flags{System: allFlags, Keywords: t.keywords}.AppendTo(dst)
}

const allFlags = store.Seen | store.Answered | store.Flagged | store.Deleted | store.Draft

func (c *session) tellRecent() {
	v := c.box
	v.toldRecent = v.recent
	c.conn.SetOut(appendUntagged(c.conn.Out(), v.recent, "RECENT"))
}

// appendUntagged appends "* n word" with its CRLF.
func appendUntagged(dst []byte, n int, word string) []byte {
	dst = append(dst, "* "...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(append(dst, ' '), word...)
	return append(dst, "\r\n"...)
}
