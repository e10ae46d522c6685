package mta

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"mailsrv/pkg/directory"
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
	// ViaTransport: by the Transport that Target.Host names.
	ViaTransport
	// ViaAction: by the action that Target.Host and Recipient.Action name.
	ViaAction
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
	// Edit is what a group changes in the message; nil: nothing.
	Edit *directory.Edit
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
	if t.Via != ViaMX && t.Via != ViaTransport {
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

// Actions finds what takes a message in the place of a mailbox: by the names
// that are in mail.Recipient.Action. Its error is transient unless it is a
// *mail.Status.
type Actions func(name string) (mail.Deliverer, error)

// Ways are the ways out of this process. Those that are not there are nil.
type Ways struct {
	Stores     Stores
	Remotes    Remotes
	Transports Transports
	Actions    Actions
}

// parallel is to how many stores or relays one message is handed at a time.
const parallel = 8

// deliver hands the message to all targets, one call for each way, and returns
// one error per target. The envelope's own To is not looked at.
func (o Ways) deliver(ctx context.Context, env mail.Envelope, targets []Target, body mail.Body) []error {
	type way struct {
		via  Via
		host string
		from mail.Address
		edit *directory.Edit
	}
	errs := make([]error, len(targets))
	batches := make(map[way][]int)
	for i, t := range targets {
		if t.Via == ViaQueue {
			errs[i] = t.Err
			continue
		}
		if errs[i] = t.fits(body.Size()); errs[i] == nil {
			w := way{t.Via, strings.ToLower(t.Host), t.reversePath(env.From), t.Edit}
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
			for n, err := range o.hand(ctx, w.via, targets[batch[0]].Host, part, body, w.edit) {
				errs[batch[n]] = err
			}
		})
	}
	wg.Wait()
	return errs
}

func (o Ways) hand(ctx context.Context, via Via, host string, env mail.Envelope, body mail.Body, edit *directory.Edit) []error {
	var next mail.Deliverer
	body, err := edited(body, edit)
	if err == nil && env.Binary && via != ViaMX {
		body, err = Downgraded(body)
		env.Binary = false
	}
	if err == nil {
		switch via {
		case ViaMX:
			next = o.Remotes(host)
		case ViaTransport:
			next = o.Transports(host)
		case ViaAction:
			next, err = o.Actions(host)
		default:
			next, err = o.Stores(host)
		}
	}
	if err != nil {
		return mail.All(len(env.To), fmt.Errorf("finding the way to %s: %w", host, err))
	}
	return next.Deliver(ctx, env, body)
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
