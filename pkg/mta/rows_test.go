package mta_test

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// The tests of this file are rows of the hardening table, by number; those that
// need a wire are with the doors and the client.

// backDoor is another host that forwards what it gets to alice, by our door.
type backDoor struct {
	agent *mta.Agent
	far   *sink
	turns atomic.Int32
}

func (b *backDoor) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	if env.To[0].Address.Domain != "mirror.test" {
		return b.far.Deliver(ctx, env, body)
	}
	b.turns.Add(1)
	s := stranger()
	s.Client.Addr = netip.MustParseAddrPort("192.0.2.99:25")
	tx, err := b.agent.Begin(ctx, s, mta.Sender{From: env.From, Trace: env.Trace})
	if err == nil {
		err = tx.Recipient(ctx, mail.Recipient{Address: mail.Address{Local: "alice", Domain: "us.example"}})
	}
	if err == nil {
		err = tx.Data(ctx, body)
	}
	return mail.All(len(env.To), err)
}

// TestS12Loops: two hosts that forward to each other stop by themselves, and
// the sender hears of it once.
func TestS12Loops(t *testing.T) {
	h := newRealHouse(t)
	h.set(t, aliceEntry, "mailDeliveryOption: forward", "mailForwardingAddress: alice@mirror.test")
	back := &backDoor{agent: h.agent, far: h.far}
	h.remote.Store(&remote{back})
	h.sendAs(t, "s@other.test", true, "alice@us.example")
	h.settle(t)
	if n := back.turns.Load(); n < 20 || n > 60 {
		t.Errorf("the message went round %d times", n)
	}
	if got := strings.Join(h.far.got, "\n"); got != " -> s@other.test" || !strings.Contains(strings.Join(h.far.bodies, ""), "Status: 5.4.6\r\n") {
		t.Errorf("sent outside:\n%s\n%s", got, h.far.bodies)
	}
}

// TestS18InjectedFields: nothing that a stranger says makes a field of its own.
func TestS18InjectedFields(t *testing.T) {
	for _, helo := range []string{"x\r\nX-Evil: 1", "x) by evil (", "x\x00", strings.Repeat("a", 5000), "x\n\ny", "\xff\xfe", ""} {
		h := newHouse(t)
		s := stranger()
		s.Helo = helo
		if err := h.send(t, s, "s@far.test", letter, "bob@us.example"); err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(h.stores["b.us.example"].bodies[0], "From: Alice")
		lines := strings.Split(strings.TrimSuffix(head, "\r\n"), "\r\n")
		for i, line := range lines {
			if i > 0 && !strings.HasPrefix(line, "\t") || strings.ContainsAny(line, "\r\n\x00()") && i > 1 || len(line) > 998 {
				t.Errorf("%.20q: line %q of our field", helo, line)
			}
		}
	}
}

// TestS19Spoof: what a submission says in the name of others, in the
// reverse-path and in the From field, is refused; what is its own, or of a
// group that it speaks for, is not.
func TestS19Spoof(t *testing.T) {
	const refusedSender, refusedFrom = "550 5.7.1 sender address is not yours", "550 5.7.1 From field is not yours"
	tests := []struct{ name, change, from, header, want string }{
		{"own", "", "bob@us.example", "bob@us.example", ""},
		{"own, subaddress", "", "bob+x@us.example", "bob+y@us.example", ""},
		{"own, alias of the domain", "", "bob@us.test", "bob@us.test", ""},
		{"another's reverse-path", "", "alice@us.example", "bob@us.example", refusedSender},
		{"another's From", "", "bob@us.example", "alice@us.example", refusedFrom},
		{"another's From hidden behind the own", "", "bob@us.example", "bob@us.example <alice@us.example>", refusedFrom},
		{"nobody's", "", "nobody@us.example", "bob@us.example", refusedSender},
		{"outside", "", "x@far.test", "bob@us.example", refusedSender},
		{"a group, as a member", innerDN, "inner@us.example", "inner@us.example", refusedSender},
		{"a group, as its owner", teamDN + "owner: " + bobDN, "team@us.example", "Team <team@us.example>", ""},
		{"a group, as one named", teamDN + "mgrpAllowedBroadcaster: mailto:bob@us.example", "bob@us.example", "team@us.example", ""},
		{"a group, as a member of those allowed", teamDN + "mgrpAllowedBroadcaster: mailto:inner@us.example", "team@us.example", "team@us.example", refusedSender},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := schemaResolver(t, ldif(t, baseTree, tt.change), "")
			h := newHouse(t)
			agent := mta.New(mta.Options{Hostname: "mx.us.example", Resolver: r, Stores: h.find, Queue: h.queue, Log: stranger().Log})
			u, err := r.Directory.User(t.Context(), "bob")
			if err != nil {
				t.Fatal(err)
			}
			s := h.login("bob")
			s.Identity.User = u
			tx, err := agent.Begin(t.Context(), s, mta.Sender{From: addr(t, tt.from)})
			if err == nil {
				err = tx.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example")})
			}
			if err == nil {
				err = tx.Data(t.Context(), mail.Bytes("From: "+tt.header+"\r\n\r\nx\r\n"))
			}
			if got := reply(err); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestCanonicalSender: an alternate becomes the canonical address in the
// reverse-path and the header of a submission; an equivalent stays.
func TestCanonicalSender(t *testing.T) {
	tests := []struct{ from, header, wantFrom, wantHeader string }{
		{"bob@us.example", "Bob <bob@us.example>", "bob@us.example", "Bob <bob@us.example>"},
		{"robert@us.example", "\"Robert, jr\" <Robert@us.example>", "bob@us.example", "\"Robert, jr\" <bob@us.example>"},
		{"robert@us.example", "robert@us.example", "bob@us.example", "bob@us.example"},
		{"robert@us.example", "\"robert@us.example\" <robert@us.example>", "bob@us.example", "\"robert@us.example\" <robert@us.example>"},
		{"eq@us.example", "Bob <eq@us.example>", "eq@us.example", "Bob <eq@us.example>"},
		{"robert+x@us.example", "bob@us.example", "robert+x@us.example", "bob@us.example"},
	}
	for _, tt := range tests {
		r := schemaResolver(t, ldif(t, baseTree, bobDN+"mailAlternateAddress: robert@us.example\nmailEquivalentAddress: eq@us.example"), "")
		h := newHouse(t)
		agent := mta.New(mta.Options{Hostname: "mx.us.example", Resolver: r, Stores: h.find, Queue: h.queue, Log: stranger().Log})
		u, err := r.Directory.User(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		s := h.login("bob")
		s.Identity.User = u
		tx, err := agent.Begin(t.Context(), s, mta.Sender{From: addr(t, tt.from)})
		if err == nil {
			err = tx.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example")})
		}
		if err == nil {
			err = tx.Data(t.Context(), mail.Bytes("From: "+tt.header+"\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nx\r\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		store := h.stores["a.us.example"]
		if got := store.got[0]; got != tt.wantFrom+" -> alice@us.example" || !strings.Contains(store.bodies[0], "\r\nFrom: "+tt.wantHeader+"\r\nDate:") {
			t.Errorf("%+v: %s\n%s", tt, got, store.bodies[0])
		}
	}
}
