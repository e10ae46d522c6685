// Package thread is RFC 5256 without IMAP: the base subject by which messages
// are sorted and threaded, and the two algorithms that thread them.
//
// It reads no messages: its caller hands it decoded subjects, dates and
// message ids. All of it takes time in proportion to n·log n, and stacks no
// deeper than a constant, whatever strangers wrote into their References.
package thread

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Message is what threading asks about one message.
type Message struct {
	// ID is the caller's own number for it.
	ID int
	// Date is when it was sent (RFC 5256 §2.2). Messages of one date are in the
	// order of ID.
	Date time.Time
	// Subject is the decoded subject.
	Subject string
	// MessageID and References are without white space and angle brackets;
	// MessageID may be empty. References are the oldest first, of the
	// References field or else the first id in In-Reply-To.
	MessageID  string
	References []string
}

// Node is a message with its replies. ID is negative for a message that is
// known by name only; such a one is at the root, with two children or more.
type Node struct {
	ID       int
	Children []*Node
}

func before(a, b *Message) int {
	return cmp.Or(a.Date.Compare(b.Date), cmp.Compare(a.ID, b.ID))
}

// ByOrderedSubject is ORDEREDSUBJECT (RFC 5256 §3): messages of one base
// subject, the first the parent of all others.
func ByOrderedSubject(messages []Message) []*Node {
	type subject struct {
		base string
		m    *Message
	}
	all := make([]subject, len(messages))
	for i := range messages {
		base, _ := BaseSubject(messages[i].Subject)
		all[i] = subject{base, &messages[i]}
	}
	slices.SortFunc(all, func(a, b subject) int { return cmp.Or(strings.Compare(a.base, b.base), before(a.m, b.m)) })
	type thread struct {
		first *Message
		root  *Node
	}
	var threads []thread
	for i, s := range all {
		n := &Node{ID: s.m.ID}
		if i == 0 || all[i-1].base != s.base {
			threads = append(threads, thread{s.m, n})
			continue
		}
		root := threads[len(threads)-1].root
		root.Children = append(root.Children, n)
	}
	slices.SortFunc(threads, func(a, b thread) int { return before(a.first, b.first) })
	roots := make([]*Node, len(threads))
	for i, t := range threads {
		roots[i] = t.root
	}
	return roots
}
