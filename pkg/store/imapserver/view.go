package imapserver

import (
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"mailsrv/pkg/store"
)

// view is the selected mailbox as the client knows it. Message number n is at
// index n-1. It costs 8 bytes a message.
type view struct {
	box      store.Mailbox
	readOnly bool
	// rights were the user's when the mailbox was selected.
	rights store.Rights
	uids   []store.UID
	marks  []mark
	flags  flagTable
	// uidNext: messages below it are in uids, or gone.
	uidNext store.UID
	// modSeq: the changes up to it have been told to the client.
	modSeq store.ModSeq
	// flagSeq: the changes of flags up to it have been told; it is above
	// modSeq while expunged messages may not be told yet. own are later ones
	// that were told in answer to this session's commands.
	flagSeq store.ModSeq
	own     map[store.UID]store.ModSeq
	// saved is what "$" stands for (RFC 5182).
	saved store.UIDSet
	// recent counts the marks with markRecent; toldRecent is what the client
	// was told.
	recent, toldRecent int
}

// mark is what the client was told of a message's flags: an index into
// flagTable, and bits of the session's own.
type mark uint32

const (
	markRecent mark = 1 << 31
	// markTell: FETCH has to tell the flags, since it changed them itself.
	markTell mark = 1 << 30
	markRef  mark = markTell - 1
)

func (v *view) len() int { return len(v.uids) }

// index finds the message with that UID.
func (v *view) index(uid store.UID) (int, bool) { return slices.BinarySearch(v.uids, uid) }

func (v *view) flagsOf(i int) store.Flags { return v.flags.get(v.marks[i] & markRef) }

// setFlags notes what the client knows of a message's flags, and reports
// whether that is news.
func (v *view) setFlags(i int, f store.Flags) bool {
	ref := v.flags.ref(f)
	if v.marks[i]&markRef == ref {
		return false
	}
	v.marks[i] = v.marks[i]&^markRef | ref
	return true
}

// add appends a message to the view.
func (v *view) add(uid store.UID, f store.Flags, recent bool) {
	m := v.flags.ref(f)
	if recent {
		m |= markRecent
		v.recent++
	}
	v.uids = append(v.uids, uid)
	v.marks = append(v.marks, m)
}

// take makes a listing the view's messages; those from the UID recent on are recent.
func (v *view) take(l store.Listing, recent store.UID) {
	v.uids, v.marks = l.UIDs, make([]mark, len(l.Flags))
	sets := make([]mark, len(l.Sets)) // 0: not met so far
	for i, ref := range l.Flags {
		if ref < store.FirstSet {
			v.marks[i] = mark(ref)
			continue
		}
		n := ref - store.FirstSet
		if sets[n] == 0 {
			sets[n] = v.flags.ref(l.Sets[n])
		}
		v.marks[i] = sets[n]
	}
	first, _ := v.index(recent)
	for i := first; i < len(v.marks); i++ {
		v.marks[i] |= markRecent
	}
	v.recent = len(v.marks) - first
}

// forgetRecent takes \Recent off all messages, without a word.
func (v *view) forgetRecent() {
	for i := range v.marks {
		v.marks[i] &^= markRecent
	}
	v.recent, v.toldRecent = 0, 0
}

// remove takes the messages at those ascending indexes out.
func (v *view) remove(gone []int) {
	if len(gone) == 0 {
		return
	}
	to := gone[0]
	for n, from := range gone {
		if v.marks[from]&markRecent != 0 {
			v.recent--
		}
		end := v.len()
		if n+1 < len(gone) {
			end = gone[n+1]
		}
		copy(v.marks[to:], v.marks[from+1:end])
		to += copy(v.uids[to:], v.uids[from+1:end])
	}
	v.uids, v.marks = v.uids[:to], v.marks[:to]
}

// appendFlags appends a message's flags in parentheses, \Recent included.
func (v *view) appendFlags(dst []byte, i int) []byte {
	dst = append(dst, '(')
	start := len(dst)
	dst = v.flagsOf(i).AppendTo(dst)
	if v.marks[i]&markRecent != 0 {
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(dst, `\Recent`...)
	}
	return append(dst, ')')
}

// flagTable gives each combination of flags that occurs a small number: those
// without keywords their system flags, others from 256 on.
type flagTable struct {
	sets []store.Flags
	refs map[string]mark
	key  []byte
	// keywords are all that were seen, ascending by lower case.
	keywords []string
	// news: keywords has grown since the client was told.
	news bool
}

// firstRef is above all combinations of system flags.
const firstRef mark = 256

func (t *flagTable) get(ref mark) store.Flags {
	if ref < firstRef {
		return store.Flags{System: store.SystemFlags(ref)}
	}
	return t.sets[ref-firstRef]
}

func (t *flagTable) ref(f store.Flags) mark {
	if len(f.Keywords) == 0 {
		return mark(f.System)
	}
	t.key = append(t.key[:0], byte(f.System))
	for _, k := range f.Keywords {
		t.key = binary.AppendUvarint(t.key, uint64(len(k)))
		t.key = append(t.key, k...)
	}
	if ref, ok := t.refs[string(t.key)]; ok {
		return ref
	}
	ref := firstRef + mark(len(t.sets))
	if t.refs == nil {
		t.refs = map[string]mark{}
	}
	t.refs[string(t.key)] = ref
	t.sets = append(t.sets, store.Flags{System: f.System, Keywords: slices.Clone(f.Keywords)})
	for _, k := range f.Keywords {
		lower := strings.ToLower(k)
		i := sort.Search(len(t.keywords), func(i int) bool { return strings.ToLower(t.keywords[i]) >= lower })
		if i == len(t.keywords) || !strings.EqualFold(t.keywords[i], k) {
			t.keywords = slices.Insert(t.keywords, i, k)
			t.news = true
		}
	}
	return ref
}
