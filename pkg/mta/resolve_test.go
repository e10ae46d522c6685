package mta_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

func resolver(t testing.TB, p *people) *mta.Resolver {
	return &mta.Resolver{Directory: p, Hosts: []string{"mx.us.example"}, Postmaster: addr(t, "alice@us.example")}
}

// show writes a target the way the tables of this package do.
func show(t mta.Target) string {
	where := t.Recipient.Address.String()
	switch t.Via {
	case mta.ViaStore:
		where += " in " + t.Host + ":" + t.Recipient.Mailbox
	case mta.ViaQueue:
		where += " waits"
		if t.Recipient.Moderation == mail.Awaiting {
			where += " for a moderator"
		}
	case mta.ViaAction:
		where += " does " + t.Recipient.Action
	case mta.ViaTransport:
		where += " by " + t.Host
	default:
		if t.Host != "" {
			where += " via " + t.Host
		}
	}
	if !t.Sender.IsNull() {
		where += " from " + t.Sender.String()
	}
	if t.Edit != nil {
		where += " edited"
	}
	if t.MaxMessage != 0 {
		where += fmt.Sprintf(" up to %d", t.MaxMessage)
	}
	return where
}

func TestResolve(t *testing.T) {
	const alice = "alice@us.example in a.us.example:INBOX"
	const bob = "bob@us.example in b.us.example:INBOX up to 2000"
	tests := []struct {
		to       string
		decision mta.Kind
		want     []string
		err      string
	}{
		{to: "alice@us.example", decision: mta.Hosted, want: []string{alice}},
		{to: "ALICE@us.example", decision: mta.Hosted, want: []string{alice}},
		{to: "alice@us.test", decision: mta.AliasOf, want: []string{alice}},
		{to: "a.smith@us.example", decision: mta.Hosted, want: []string{alice}},
		{to: "al@us.test", decision: mta.AliasOf, want: []string{alice}},
		{to: "alice+lists@us.example", decision: mta.Hosted, want: []string{alice}},
		{to: "plus+real@us.example", decision: mta.Hosted, want: []string{"plus+real@us.example in a.us.example:INBOX"}},
		{to: "nobody+x@us.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "any@vanity.example", decision: mta.Hosted, want: []string{alice}},
		{to: "x@far.test", decision: mta.External, want: []string{"x@far.test"}},
		{to: "x@[192.0.2.1]", decision: mta.External, want: []string{"x@[192.0.2.1]"}},
		{to: "nobody@us.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "x%far.test@us.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: `"x@far.test"@us.example`, decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "far.test!x@us.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "postmaster@us.example", decision: mta.Hosted, want: []string{alice}},
		{to: "anybody@catch.example", decision: mta.Hosted, want: []string{alice}},
		{to: "x@loop.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "anybody@split.example", decision: mta.Hosted, want: []string{"anybody@split.example via old.split.example"}},
		{to: "splituser@split.example", decision: mta.Hosted, want: []string{"splituser@split.example via old.split.example"}},
		{to: "x@far.example", decision: mta.Relayed, want: []string{"x@far.example via mx.far.example"}},
		{to: "x@near.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "x@closed.example", decision: mta.Hosted, err: "450 4.2.1 mailbox is inactive, try again later"},
		{to: "x@gone.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "x@held.example", decision: mta.Hosted, want: []string{"x@held.example waits"}},
		{to: "inactive@us.example", decision: mta.Hosted, err: "450 4.2.1 mailbox is inactive, try again later"},
		{to: "disabled@us.example", decision: mta.Hosted, err: "550 5.2.1 user disabled; cannot receive new mail"},
		{to: "deleted@us.example", decision: mta.Hosted, err: "550 5.1.1 no such user here"},
		{to: "full@us.example", decision: mta.Hosted, err: "452 4.2.2 mailbox is full, try again later"},
		{to: "held@us.example", decision: mta.Hosted, want: []string{"held@us.example waits"}},
		{to: "holdopt@us.example", decision: mta.Hosted, want: []string{"holdopt@us.example waits"}},
		{to: "nomail@us.example", decision: mta.Hosted},
		{to: "program@us.example", decision: mta.Hosted, want: []string{"program@us.example in a.us.example:INBOX"}},
		{to: "both@us.example", decision: mta.Hosted, want: []string{"both@us.example in a.us.example:INBOX", "x@far.test", bob}},
		{to: "away@us.example", decision: mta.Hosted, want: []string{"x@far.test"}},
		{to: "self@us.example", decision: mta.Hosted, want: []string{"self@us.example in a.us.example:INBOX", "x@far.test"}},
		{to: "ping@us.example", decision: mta.Hosted, err: "554 5.4.6 this address forwards to itself"},
		{to: "deadend@us.example", decision: mta.Hosted, err: "550 5.2.4 nobody is behind this address"},
		{to: "routed@us.example", decision: mta.Hosted, want: []string{"r@far.test"}},
		{to: "homeless@us.example", decision: mta.Hosted, err: "451 4.3.5 the mailbox has no host yet, try again later"},
		{to: "team@us.example", decision: mta.Hosted, want: []string{alice, bob, "x@far.test from owner@us.example",
			"inactive@us.example waits", "held@us.example waits"}},
		{to: "empty@us.example", decision: mta.Hosted, err: "550 5.2.4 nobody is behind this address"},
		{to: "mute@us.example", decision: mta.Hosted, err: "550 5.2.1 group disabled; cannot receive new mail"},
		{to: "small@us.example", decision: mta.Hosted, want: []string{alice + " up to 5000", bob}},
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			plan, err := resolver(t, office(t)).Begin(mta.Poster{}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, tt.to)})
			if got := reply(err); got != tt.err {
				t.Fatalf("error %q, want %q; steps %v", got, tt.err, plan.Steps)
			}
			if plan.Decision.Kind != tt.decision {
				t.Errorf("decision %q, want %q", plan.Decision.Kind, tt.decision)
			}
			var got []string
			for _, target := range plan.Targets {
				got = append(got, show(target))
			}
			if err == nil {
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("targets (-want +got):\n%s\nsteps %v", diff, plan.Steps)
				}
			}
		})
	}
}

func reply(err error) string {
	if err == nil {
		return ""
	}
	return mail.StatusOf(err).Reply()
}

func TestResolveTellsOutageFromNo(t *testing.T) {
	p := office(t)
	p.down = true
	_, err := resolver(t, p).Begin(mta.Poster{}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, "nobody@us.example")})
	if st := mail.StatusOf(err); st.Code != 451 || st.Enhanced != [3]int{4, 4, 3} || !errors.Is(err, mail.ErrOutage) {
		t.Errorf("%v, want 451 4.4.3 and an outage", err)
	}
}

func TestResolveBoundsForwards(t *testing.T) {
	p := office(t)
	for i := range 30 {
		next := addr(t, fmt.Sprintf("hop%d@us.example", i+1))
		p.user(t, fmt.Sprintf("hop%d", i), nil)
		u := p.users[len(p.users)-1]
		u.DeliveryOptions, u.ForwardTo = []string{"forward"}, []mail.Address{next}
		u.RoutingAddress = next
	}
	_, err := resolver(t, p).Begin(mta.Poster{}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, "hop0@us.example")})
	if reply(err) != "554 5.4.6 too many forwards one behind the other" {
		t.Error(err)
	}
}

func TestHoldIsErrHold(t *testing.T) {
	plan, err := resolver(t, office(t)).Begin(mta.Poster{}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, "held@us.example")})
	if err != nil || len(plan.Targets) != 1 || !errors.Is(plan.Targets[0].Err, mta.ErrHold) {
		t.Errorf("%+v, %v", plan.Targets, err)
	}
}
