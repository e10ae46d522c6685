package thread

import "slices"

// maxReferences bounds the ids of one message that are followed: the first and
// the last of them, which name the root and the parents.
const maxReferences = 30

// container is a message's place in the tree; m is nil for one that is known
// by its id only.
type container struct {
	m        *Message
	parent   *container
	children []*container
	// first is the earliest message of the container and its children.
	first *Message
}

// ByReferences is REFERENCES (RFC 5256 §3): replies under what they answer,
// and threads of one base subject together.
func ByReferences(messages []Message) []*Node {
	all := link(messages)
	roots := make([]*container, 0, len(all))
	for _, c := range all {
		if c.parent == nil {
			roots = append(roots, c)
		}
	}
	roots = prune(roots)
	for _, r := range roots {
		r.sort()
	}
	roots = joinSubjects(roots)
	sortSiblings(roots)
	nodes := make([]*Node, len(roots))
	for i, r := range roots {
		nodes[i] = r.node()
	}
	return nodes
}

// link is step 1 and 2: a container for each message and each id that is
// named, and parents as References say. Containers are in the order in which
// they were first heard of.
func link(messages []Message) []*container {
	byID := make(map[string]*container, len(messages))
	all := make([]*container, 0, len(messages))
	get := func(id string) *container {
		c := byID[id]
		if c == nil {
			c = &container{}
			byID[id] = c
			all = append(all, c)
		}
		return c
	}
	for i := range messages {
		m := &messages[i]
		var c *container
		if m.MessageID != "" {
			c = get(m.MessageID)
		}
		if c == nil || c.m != nil { // no id, or one that another message has
			c = &container{}
			all = append(all, c)
		}
		c.m = m
		refs := m.References
		if len(refs) > maxReferences {
			refs = append(slices.Clone(refs[:1]), refs[len(refs)-maxReferences+1:]...)
		}
		var parent *container
		for _, id := range refs {
			r := get(id)
			if parent != nil && r.parent == nil && !r.above(parent) {
				r.parent = parent
			}
			parent = r
		}
		c.parent = nil // what the message says itself counts more than what others said
		if parent != nil && !c.above(parent) {
			c.parent = parent
		}
	}
	for _, c := range all {
		if c.parent != nil {
			c.parent.children = append(c.parent.children, c)
		}
	}
	return all
}

// maxAbove bounds how far parents are followed; a longer chain counts as one
// that would close a circle.
const maxAbove = 500

// above reports whether c is x or one of its parents.
func (c *container) above(x *container) bool {
	for range maxAbove {
		if x == nil {
			return false
		}
		if x == c {
			return true
		}
		x = x.parent
	}
	return true
}

// prune is step 3: containers without a message give way to their children,
// at the root only if there is one child. It works from the leaves up without
// recursion.
func prune(roots []*container) []*container {
	top := &container{children: roots}
	order := []*container{top}
	for i := 0; i < len(order); i++ {
		order = append(order, order[i].children...)
	}
	for _, c := range slices.Backward(order) {
		var kept []*container
		for _, child := range c.children {
			switch {
			case child.m != nil:
				kept = append(kept, child)
			case len(child.children) == 0:
			case c != top || len(child.children) == 1:
				kept = append(kept, child.children...)
			default:
				kept = append(kept, child)
			}
		}
		c.children = kept
	}
	for _, r := range top.children {
		r.parent = nil
	}
	return top.children
}

// sort is step 4, for one tree, from the leaves up.
func (c *container) sort() {
	order := []*container{c}
	for i := 0; i < len(order); i++ {
		order = append(order, order[i].children...)
	}
	for _, n := range slices.Backward(order) {
		sortSiblings(n.children)
		if n.first = n.m; n.m == nil {
			n.first = n.children[0].first
		}
	}
}

func sortSiblings(list []*container) {
	slices.SortFunc(list, func(a, b *container) int { return before(a.first, b.first) })
}

// subjectOf is the subject of a thread: its root's, or its first child's.
func (c *container) subjectOf() (base string, reply bool) {
	if c.m == nil {
		c = c.children[0]
	}
	return BaseSubject(c.m.Subject)
}

// joinSubjects is step 5: threads of one base subject become one.
func joinSubjects(roots []*container) []*container {
	bySubject := map[string]*container{}
	for _, r := range roots {
		base, reply := r.subjectOf()
		if base == "" {
			continue
		}
		old := bySubject[base]
		if old == nil {
			bySubject[base] = r
			continue
		}
		_, oldReply := old.subjectOf()
		if old.m != nil && (r.m == nil || oldReply && !reply) {
			bySubject[base] = r
		}
	}
	for _, r := range roots {
		base, reply := r.subjectOf()
		other := bySubject[base]
		if base == "" || other == r {
			continue
		}
		_, otherReply := other.subjectOf()
		switch {
		case r.m == nil && other.m == nil:
			other.children = append(other.children, r.children...)
			r.children = nil
		case other.m == nil || reply && !otherReply:
			other.children = append(other.children, r)
			r.parent = other
		default: // two of one kind: both under a new root
			twin := &container{m: other.m, children: other.children, parent: other, first: other.first}
			other.m, other.children = nil, []*container{twin, r}
			r.parent = other
		}
	}
	left := roots[:0]
	for _, r := range roots {
		if r.parent != nil || r.m == nil && len(r.children) == 0 {
			continue
		}
		sortSiblings(r.children)
		if r.m == nil {
			r.first = r.children[0].first
		}
		left = append(left, r)
	}
	return left
}

// node makes the answer of one thread, without recursion.
func (c *container) node() *Node {
	type pair struct {
		c *container
		n *Node
	}
	root := &Node{}
	todo := []pair{{c, root}}
	for i := 0; i < len(todo); i++ {
		p := todo[i]
		p.n.ID = -1
		if p.c.m != nil {
			p.n.ID = p.c.m.ID
		}
		for _, child := range p.c.children {
			n := &Node{}
			p.n.Children = append(p.n.Children, n)
			todo = append(todo, pair{child, n})
		}
	}
	return root
}
