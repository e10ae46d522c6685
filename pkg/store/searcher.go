package store

import "context"

// SearchField is where a search looks for a text.
type SearchField string

// The fields that an index knows apart. SearchAnywhere is all that TEXT looks
// at, which holds what BODY and HEADER look at.
const (
	SearchFrom     SearchField = "FROM"
	SearchTo       SearchField = "TO"
	SearchCc       SearchField = "CC"
	SearchBcc      SearchField = "BCC"
	SearchSubject  SearchField = "SUBJECT"
	SearchAnywhere SearchField = ""
)

// SearchFields are those that have a name.
func SearchFields() []SearchField {
	return []SearchField{SearchFrom, SearchTo, SearchCc, SearchBcc, SearchSubject}
}

// SearchKey is one text that is looked for.
type SearchKey struct {
	Field SearchField
	// Text is folded (AppendFold). If it is empty, a message with the field
	// meets the key.
	Text []byte
}

// SearchHits is what an index knows of some keys: a message that is in Known and
// not in Match of a key does not meet it.
type SearchHits struct {
	// Known are messages that the index has.
	Known UIDSet
	// Match are, for each key, those of them that may meet it, ascending; some
	// may be gone.
	Match [][]UID
	// Exact says for each key that all of Match meet it, but for those in Maybe.
	Exact []bool
	// Maybe are messages of which too little is known, ascending; they are in
	// every Match.
	Maybe []UID
}

// Searcher is a Mailbox with an index of what its messages say. The index lags
// behind deliveries.
type Searcher interface {
	// Search looks keys up. What the index does not help with has all of Known
	// for a Match.
	Search(ctx context.Context, keys []SearchKey) (SearchHits, error)
}

var (
	_ Searcher = (*ownBox)(nil)
	_ Searcher = (*guardedBox)(nil)
)

// Search implements Searcher; without an index nothing is known.
func (b *ownBox) Search(ctx context.Context, keys []SearchKey) (SearchHits, error) {
	if s, ok := b.Mailbox.(Searcher); ok {
		return s.Search(ctx, keys)
	}
	return SearchHits{}, nil
}

// Search implements Searcher.
func (b *guardedBox) Search(ctx context.Context, keys []SearchKey) (SearchHits, error) {
	if _, err := b.need(ctx, RightRead); err != nil {
		return SearchHits{}, err
	}
	if s, ok := b.box.(Searcher); ok {
		return s.Search(ctx, keys)
	}
	return SearchHits{}, nil
}
