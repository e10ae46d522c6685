package directory

import (
	"context"
	"iter"
	"slices"
	"strings"
)

// Question is one search, and how it was answered.
type Question struct {
	Query Query
	// Found are the DNs of the entries that were taken, in order.
	Found []DN
	Err   error
}

// Recorder is a Tree that tells what another one was asked. It may be used
// from as many goroutines as tell may be called from.
type Recorder struct {
	Tree
	tell func(Question)
}

// NewRecorder returns a Recorder over tree; tell is called after each search.
func NewRecorder(tree Tree, tell func(Question)) *Recorder { return &Recorder{Tree: tree, tell: tell} }

// Search implements Tree.
func (r *Recorder) Search(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		asked := Question{Query: q}
		defer func() { r.tell(asked) }()
		for e, err := range r.Tree.Search(ctx, q) {
			if err != nil {
				asked.Err = err
			} else {
				asked.Found = append(asked.Found, e.DN)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// WhatIf is a Tree with some attributes of one entry replaced, for a dry run.
// Searches find the entry by what it really holds.
type WhatIf struct {
	Tree
	DN         DN
	Attributes []Attribute
}

// Search implements Tree.
func (w WhatIf) Search(ctx context.Context, q Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range w.Tree.Search(ctx, q) {
			if err == nil && e.DN.Equal(w.DN) {
				e = w.changed(e)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func (w WhatIf) changed(e Entry) Entry {
	for _, a := range w.Attributes {
		e = e.without(a.Name)
		if len(a.Values) > 0 {
			e.Attributes = append(slices.Clip(e.Attributes), a)
		}
	}
	return e
}

// IsOfDomain reports whether the attribute stands in the entries of domains.
func IsOfDomain(attribute string) bool {
	a := strings.ToLower(attribute)
	return strings.HasPrefix(a, "maildomain") || strings.HasPrefix(a, "mailrouting") && a != "mailroutingaddress" ||
		strings.HasPrefix(a, "preferredmail") || a == "inetdomainstatus"
}
