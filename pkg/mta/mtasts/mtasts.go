// Package mtasts keeps to what other domains have announced about TLS to their
// mail hosts (MTA-STS, RFC 8461): which hosts those are, and that mail is not
// to be sent to them without a certificate that proves their name.
//
// A policy is kept on disk until it expires, whatever the DNS says meanwhile:
// whoever can hide the announcement must not be able to strip the protection.
package mtasts

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// Resolver asks the DNS for TXT records; *net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Options of Open.
type Options struct {
	// Dir is the folder that keeps the policies; it is made if it is missing.
	Dir string
	// Resolver is required.
	Resolver Resolver
	// Client fetches policies; nil: one with Go's defaults. Its redirects are
	// not followed in any case.
	Client *http.Client
	// Timeout bounds one question with its fetch; 0: 30 seconds.
	Timeout time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Policies is an mta.TLSPolicy. It may be used from many goroutines.
type Policies struct {
	o Options

	mu sync.Mutex
	// asking holds one channel for each domain that is being asked about; it
	// is closed when the answer is on disk.
	asking map[string]chan struct{}
	cache  map[string]kept
}

var _ mta.TLSPolicy = (*Policies)(nil)

// How long an answer of the DNS serves, and how many domains are remembered.
const (
	recheck  = time.Hour
	maxCache = 10_000
)

// Open returns the policies in o.Dir.
func Open(o Options) (*Policies, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening MTA-STS policies: %w", err)
	}
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // RFC 8461 §3.3
	o.Client = &client
	o.Timeout = cmp.Or(o.Timeout, 30*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Policies{o: o, asking: make(map[string]chan struct{}), cache: make(map[string]kept)}, nil
}

// Protect implements mta.TLSPolicy.
func (p *Policies) Protect(ctx context.Context, domain, host string) (*mta.Protection, error) {
	k, err := p.policy(ctx, domain)
	if err != nil {
		return nil, err
	}
	switch {
	case k.Policy.Mode == Enforce && !k.Policy.Allows(host):
		return nil, mail.TryLater(7, 10, host+" is not a mail host by the MTA-STS policy of "+domain, nil)
	case k.Policy.Mode == Enforce:
		return &mta.Protection{By: "mta-sts"}, nil
	case k.Policy.Mode == Testing && !k.Policy.Allows(host):
		p.o.Log.Info("mail host is not in the domain's MTA-STS policy, which it only tests", "host", host, "to", domain)
	}
	return nil, nil
}

// policy is the domain's policy that is in force now; a zero one if it has none.
func (p *Policies) policy(ctx context.Context, domain string) (kept, error) {
	for {
		p.mu.Lock()
		k, ok := p.cache[domain]
		if ok && p.o.Now().Before(k.Checked.Add(recheck)) && p.o.Now().Before(k.expires()) {
			p.mu.Unlock()
			return k, nil
		}
		busy, asked := p.asking[domain]
		if !asked {
			busy = make(chan struct{})
			p.asking[domain] = busy
		}
		p.mu.Unlock()
		if !asked {
			return p.ask(ctx, domain, busy)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return kept{}, ctx.Err()
		}
	}
}

// ask renews what is known of the domain, for all who wait on busy.
func (p *Policies) ask(ctx context.Context, domain string, busy chan struct{}) (kept, error) {
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	k, err := p.renew(ctx, domain)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asking, domain)
	close(busy)
	if err != nil {
		return kept{}, err
	}
	if len(p.cache) >= maxCache {
		clear(p.cache) // the disk has what matters
	}
	p.cache[domain] = k
	return k, nil
}

// renew asks whether there is a newer policy and fetches it. What we have
// serves until it expires, as long as none can be had (RFC 8461 §5.1).
func (p *Policies) renew(ctx context.Context, domain string) (kept, error) {
	now := p.o.Now()
	old, err := p.read(domain)
	if err != nil {
		return kept{}, err
	}
	if !now.Before(old.expires()) {
		old = kept{}
	}
	old.Checked = now
	texts, err := p.o.Resolver.LookupTXT(ctx, "_mta-sts."+domain)
	if err != nil {
		return old, nil // no announcement, or no answer: what we have is in force
	}
	id, ok := parseRecord(texts)
	if !ok || id == old.ID {
		return old, nil
	}
	policy, err := p.fetch(ctx, domain)
	if err != nil {
		p.o.Log.Info("MTA-STS policy not fetched", "to", domain, "err", err)
		return old, nil
	}
	k := kept{ID: id, Policy: policy, Fetched: now, Checked: now}
	return k, p.write(domain, k)
}
