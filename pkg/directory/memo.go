package directory

import (
	"context"
	"sync"

	"mailsrv/pkg/mail"
)

// Versioned is a Tree in this process that knows when it was changed.
type Versioned interface {
	// Version is another after each change, from before the change is
	// acknowledged.
	Version() uint64
}

// memo keeps what a View has read of a Versioned tree until that changes.
type memo struct {
	tree Versioned // nil: nothing is kept

	mu         sync.Mutex
	version    uint64
	domains    map[string]Domain
	recipients map[mail.Address]Recipient
	users      map[string]User
}

// maxKept bounds each of the maps.
const maxKept = 10_000

// recall returns what is kept of pick's map at key, or asks and keeps the answer.
func recall[K comparable, V any](m *memo, pick func() *map[K]V, key K, ask func() (V, error)) (V, error) {
	if m.tree == nil {
		return ask()
	}
	version := m.tree.Version()
	m.mu.Lock()
	if version != m.version {
		m.version, m.domains, m.recipients, m.users = version, nil, nil, nil
	}
	kept, ok := (*pick())[key]
	m.mu.Unlock()
	if ok {
		return kept, nil
	}
	answer, err := ask()
	if err != nil {
		return answer, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if all := pick(); m.version == version { // else it may be from before a change
		if *all == nil || len(*all) >= maxKept {
			*all = map[K]V{}
		}
		(*all)[key] = answer
	}
	return answer, nil
}

func (v *View) domain(ctx context.Context, name string, routing bool) (Domain, error) {
	return recall(&v.memo, func() *map[string]Domain { return &v.memo.domains }, name, func() (Domain, error) {
		return v.askDomain(ctx, name, routing)
	})
}

// Recipient implements Directory.
func (v *View) Recipient(ctx context.Context, a mail.Address) (Recipient, error) {
	r, err := recall(&v.memo, func() *map[mail.Address]Recipient { return &v.memo.recipients }, a, func() (Recipient, error) {
		return v.askRecipient(ctx, a)
	})
	return r.copied(), err
}

// User implements Directory.
func (v *View) User(ctx context.Context, login string) (User, error) {
	return recall(&v.memo, func() *map[string]User { return &v.memo.users }, login, func() (User, error) {
		return v.askUser(ctx, login)
	})
}

// copied is the recipient for one caller, who may change its fields.
func (r Recipient) copied() Recipient {
	switch {
	case r.User != nil:
		u := *r.User
		r.User = &u
	case r.Group != nil:
		g := *r.Group
		r.Group = &g
	}
	return r
}
