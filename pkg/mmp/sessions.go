package mmp

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// SessionEntry is a logged-in session as an admin sees it.
type SessionEntry struct {
	Trace   mail.TraceID
	Account string
	Service directory.Service
	// Client is where the user really is.
	Client netip.AddrPort
	TLS    bool
	// Mechanism is how the user logged in, and Store which store serves.
	Mechanism, Store string
	Since            time.Time
}

// Sessions knows who is logged in through the fronts that share it. It may be
// used from many goroutines; the zero value has no limits.
type Sessions struct {
	// PerAccount bounds the sessions of one account; 0: no limit.
	PerAccount int

	mu       sync.Mutex
	open     map[mail.TraceID]*openSession
	accounts map[string]int
}

type openSession struct {
	SessionEntry
	kick context.CancelFunc
}

// begin notes a session and returns the context that ends with it, or when it
// is kicked. done must be called at its end. ok is false at the limit.
func (s *Sessions) begin(ctx context.Context, e SessionEntry) (_ context.Context, done func(), ok bool) {
	if s == nil {
		return ctx, func() {}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.PerAccount > 0 && s.accounts[e.Account] >= s.PerAccount {
		return ctx, nil, false
	}
	if s.open == nil {
		s.open, s.accounts = map[mail.TraceID]*openSession{}, map[string]int{}
	}
	if _, taken := s.open[e.Trace]; taken { // a proxy's name for two of its sessions
		e.Trace = mail.NewTraceID()
	}
	ctx, kick := context.WithCancel(ctx)
	s.open[e.Trace] = &openSession{e, kick}
	s.accounts[e.Account]++
	return ctx, func() { kick(); s.end(e) }, true
}

func (s *Sessions) end(e SessionEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, e.Trace)
	if s.accounts[e.Account]--; s.accounts[e.Account] == 0 {
		delete(s.accounts, e.Account)
	}
}

// List returns the open sessions, by account and then the oldest first.
func (s *Sessions) List() []SessionEntry {
	s.mu.Lock()
	list := make([]SessionEntry, 0, len(s.open))
	for _, o := range s.open {
		list = append(list, o.SessionEntry)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b SessionEntry) int {
		if c := strings.Compare(a.Account, b.Account); c != 0 {
			return c
		}
		return a.Since.Compare(b.Since)
	})
	return list
}

// Kick ends the sessions of an account, or the one of that trace id, as a stop
// of the server would: after the command in hand, with a BYE where there is
// one. It returns how many there were and does not wait for their end.
func (s *Sessions) Kick(who string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		if strings.EqualFold(o.Account, who) || string(o.Trace) == who {
			o.kick()
			n++
		}
	}
	return n
}

// KickFrom is Kick of the sessions that a store, by that name, may serve.
func (s *Sessions) KickFrom(store string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.open {
		if slices.Contains(strings.Split(o.Store, ","), store) {
			o.kick()
			n++
		}
	}
	return n
}

// entry describes the visitor's session.
func (v *Visitor) entry(id *auth.Identity, store string) SessionEntry {
	return SessionEntry{
		Trace: v.Trace, Account: id.User.Account(), Service: v.Client.Service, Client: v.Client.Addr, TLS: v.Client.TLS,
		Mechanism: id.Mechanism, Store: store, Since: time.Now(),
	}
}
