package mta

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"mailsrv/pkg/mail"
)

// Options of New.
type Options struct {
	// Hostname is our name in Received fields and Message-IDs.
	Hostname string
	// Resolver says where recipients live; Stores and Queue are where the
	// messages go.
	Resolver *Resolver
	Stores   Stores
	Queue    mail.Deliverer
	// DefaultDomain is the domain of <postmaster>.
	DefaultDomain string
	// Checks are asked after our own.
	Checks []Check
	// Trusted are networks whose clients relay for others; no check takes them
	// for the origin of a message.
	Trusted []netip.Prefix
	// Signer signs submissions; nil: they go out unsigned.
	Signer Signer
	// Sealer seals strangers' messages that leave us again; nil: nothing is sealed.
	Sealer Sealer
	// SentMailbox names the mailbox that takes a copy of each submission in
	// its sender's account; empty: no copies.
	SentMailbox string
	// MaxSize is the largest message in bytes; 0: 50 MiB. MaxRecipients
	// bounds one transaction; 0: 1000.
	MaxSize       int64
	MaxRecipients int
	// Log serves sessions that have no log of their own.
	Log *slog.Logger
	// Accepted and Refused, if not nil, are called once for each message
	// that Data took, or refused.
	Accepted func(Outcome)
	Refused  func(*mail.Status)
}

// Outcome is what became of an accepted message at once.
type Outcome struct {
	// Size is in bytes, with the fields we added.
	Size int64
	// Stored and Queued count targets, the sender's own copy among them.
	Stored, Queued int
	// Took is the time from the message's last byte to its durability.
	Took time.Duration
}

// Agent is the MTA itself: an Intake that judges messages and delivers them
// through. It may be used from many goroutines.
type Agent struct {
	o      Options
	checks []Check
	ways   Ways
	now    func() time.Time
}

var _ Intake = (*Agent)(nil)

// New returns an Agent.
func New(o Options) *Agent {
	o.MaxSize = cmp.Or(o.MaxSize, 50<<20)
	o.MaxRecipients = cmp.Or(o.MaxRecipients, 1000)
	own := []Check{limits{size: o.MaxSize, recipients: o.MaxRecipients}, form{}, ownership{o.Resolver}}
	return &Agent{o: o, checks: append(own, o.Checks...), ways: Ways{Stores: o.Stores}, now: time.Now}
}

// MaxSize is the largest message in bytes, for the door to announce.
func (a *Agent) MaxSize() int64 { return a.o.MaxSize }

// Begin implements Intake.
func (a *Agent) Begin(ctx context.Context, s *Session, m Sender) (Transaction, error) {
	t := &transaction{agent: a, trace: m.Trace, seen: make(map[key]bool),
		evidence: Evidence{Session: s, Sender: m, Size: m.Size, Stranger: a.stranger(s)}}
	if t.trace == "" {
		t.trace = mail.NewTraceID()
	}
	t.log = cmp.Or(s.Log, a.o.Log).With("trace", string(t.trace), "from", m.From.String())
	if err := run(ctx, a.checks, AtSender, &t.evidence); err != nil {
		t.log.Info("sender refused", "err", err)
		return nil, err
	}
	t.canonical = canonical(&t.evidence)
	t.resolution = a.o.Resolver.Begin(Poster{From: t.evidence.Sender.From, Proof: proofOf(&t.evidence), Size: m.Size}, t.log)
	return t, nil
}

// stranger: see Evidence.Stranger.
func (a *Agent) stranger(s *Session) bool {
	ip := s.Client.Addr.Addr().Unmap()
	return !s.Submission && !slices.ContainsFunc(a.o.Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}
