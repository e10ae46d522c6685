package mta

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"mailsrv/pkg/mail"
)

// Inbox is the mailbox of a delivery that is final: its address has been
// resolved, forwards and all, and is not to be resolved again.
const Inbox = "INBOX"

// Junk is the mailbox of what the Checks suspect.
const Junk = "Junk"

// Via says by whom a Target is reached.
type Via int

// The ways out of the MTA.
const (
	// ViaStore: by the store of the mail host in Target.Host.
	ViaStore Via = iota
	// ViaMX: by the MX of the address's domain, or by the relay in Target.Host.
	ViaMX
	// ViaQueue: by no way that is open now; it waits, and is resolved again.
	ViaQueue
)

// Target is one place that one message goes to.
type Target struct {
	Via  Via
	Host string
	// Recipient is the resolved address. For ViaStore its Mailbox is never empty.
	Recipient mail.Recipient
	// Sender replaces the reverse-path if it is not zero (a group's errors-to).
	Sender mail.Address
	// MaxMessage is in bytes; 0: no limit of the target's own.
	MaxMessage int64
	// Err says why a ViaQueue target has to wait.
	Err error
}

// key tells targets apart: the same message goes to one place once.
type key struct {
	via           Via
	host, mailbox string
	address       mail.Address
}

func (t Target) key() key {
	k := key{via: t.Via, host: t.Host, mailbox: t.Recipient.Mailbox, address: t.Recipient.Address}
	if t.Via != ViaMX {
		k.address = k.address.Key()
	}
	return k
}

// fits says whether a message of size bytes may go there.
func (t Target) fits(size int64) error {
	if t.MaxMessage > 0 && size > t.MaxMessage {
		return &mail.Status{Code: 552, Enhanced: [3]int{5, 2, 3}, Text: fmt.Sprintf("message is larger than this recipient takes (%d bytes)", t.MaxMessage)}
	}
	return nil
}

// Stores finds the store that keeps the mailboxes of a mail host, in this
// process or behind LMTP. Its error is transient unless it is a *mail.Status.
type Stores func(mailHost string) (mail.Deliverer, error)

// Remotes finds the way to other people's hosts: by the MX of each recipient's
// domain if relay is empty, else by that host.
type Remotes func(relay string) mail.Deliverer

// parallel is to how many stores or relays one message is handed at a time.
const parallel = 8

// outlets are the ways out of this process.
type outlets struct {
	stores  Stores
	remotes Remotes
}

// deliver hands the message to all targets, one call for each way, and returns
// one error per target. The envelope's own To is not looked at.
func (o outlets) deliver(ctx context.Context, env mail.Envelope, targets []Target, body mail.Body) []error {
	type way struct {
		via  Via
		host string
		from mail.Address
	}
	errs := make([]error, len(targets))
	batches := make(map[way][]int)
	for i, t := range targets {
		if t.Via == ViaQueue {
			errs[i] = t.Err
			continue
		}
		if errs[i] = t.fits(body.Size()); errs[i] == nil {
			w := way{t.Via, strings.ToLower(t.Host), t.reversePath(env.From)}
			batches[w] = append(batches[w], i)
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for w, batch := range batches {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			part := env
			part.From, part.To = w.from, make([]mail.Recipient, len(batch))
			for n, i := range batch {
				part.To[n] = targets[i].Recipient
				if part.To[n].Mailbox == Inbox {
					part.To[n].Mailbox = "" // "+INBOX" is no detail that a foreign store should see
				}
			}
			for n, err := range o.hand(ctx, w.via, w.host, part, body) {
				errs[batch[n]] = err
			}
		})
	}
	wg.Wait()
	return errs
}

func (o outlets) hand(ctx context.Context, via Via, host string, env mail.Envelope, body mail.Body) []error {
	if via == ViaMX {
		return o.remotes(host).Deliver(ctx, env, body)
	}
	store, err := o.stores(host)
	if err != nil {
		return mail.All(len(env.To), fmt.Errorf("finding the store %s: %w", host, err))
	}
	return store.Deliver(ctx, env, body)
}

// reversePath is the sender of the message towards this target. A bounce stays
// one, or errors-to would send its failures round in circles.
func (t Target) reversePath(from mail.Address) mail.Address {
	if t.Sender.IsNull() || from.IsNull() {
		return from
	}
	return t.Sender
}

// equalHost compares host names.
func equalHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}
