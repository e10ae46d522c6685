package mta_test

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
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

// author is a Check that notes which domain DMARC would ask about.
type author struct{ domain string }

func (a *author) Check(_ context.Context, at mta.Stage, e *mta.Evidence) error {
	if at == mta.AtMessage {
		a.domain = ""
		if len(e.Header.From) > 0 {
			a.domain = e.Header.From[0].Domain
		}
	}
	return nil
}

// TestA1Authors are the forms by which the author that is judged and the one
// that is shown were driven apart: each is refused with 550 5.6.0, or both are
// the same, and the true one.
func TestA1Authors(t *testing.T) {
	tests := []struct{ name, header, want string }{
		{"plain", "From: a@good.test", "good.test"},
		{"two fields", "From: a@good.test\nFrom: b@evil.test", "550 5.6.0"},
		{"two fields, one folded", "From: a@good.test\nFrom:\n b@evil.test", "550 5.6.0"},
		{"two fields in two cases", "From: a@good.test\nFROM: b@evil.test", "550 5.6.0"},
		{"space before the colon", "From : a@good.test", "550 5.6.0"},
		{"tab before the colon", "From\t: a@good.test", "550 5.6.0"},
		{"space before one of two", "From: a@good.test\nFrom : b@evil.test", "550 5.6.0"},
		{"space before the name", " From: b@evil.test\nFrom: a@good.test", "550 5.6.0"},
		{"none", "Sender: a@good.test", "550 5.6.0"},
		{"two domains", "From: a@good.test, b@evil.test", "550 5.6.0"},
		{"two domains in a group", "From: x: a@good.test, b@evil.test;", "550 5.6.0"},
		{"NUL", "From: a@good.test\x00<b@evil.test>", "550 5.6.0"},
		{"two of one domain", "From: a@good.test, b@good.test", "good.test"},
		{"folded", "From:\n a@good.test", "good.test"},
		{"folded twice", "From:\n \n a@good.test", "good.test"},
		{"name is an address", "From: \"a@evil.test\" <b@good.test>", "good.test"},
		{"name is a path", "From: \"<a@evil.test>\" <b@good.test>", "good.test"},
		{"comment is an address", "From: (a@evil.test) b@good.test (c@evil.test)", "good.test"},
		{"comment within", "From: b@(evil.test)good.test", "good.test"},
		{"encoded word is an address", "From: =?utf-8?q?a=40evil.test?= <b@good.test>", "good.test"},
		{"encoded word is a path", "From: =?utf-8?b?PGFAZXZpbC50ZXN0Piw=?= <b@good.test>", "good.test"},
		{"route", "From: <@evil.test,@x.test:b@good.test>", "good.test"},
		{"quoted at sign", "From: <\"a@evil.test\"@good.test>", "good.test"},
		{"escaped", "From: \"\\\"<a@evil.test>\" <b@good.test>", "good.test"},
		{"capitals", "fRoM: a@GOOD.test", "good.test"},
		{"look-alike fields", "X-From: a@evil.test\nFrom: b@good.test\nFrom-X: c@evil.test", "good.test"},
		{"after the header", "From: b@good.test\n\nFrom: a@evil.test", "good.test"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &author{}
			h := newHouse(t, a)
			got := reply(h.send(t, stranger(), "s@far.test", tt.header+"\n\nhello\n", "alice@us.example"))
			if strings.HasPrefix(tt.want, "550") {
				if !strings.HasPrefix(got, tt.want+" ") {
					t.Errorf("%q, want %q", got, tt.want)
				}
				return
			}
			shown, err := mime.Scan(strings.NewReader(h.stores["a.us.example"].bodies[0]), mime.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			envelope := strings.ToLower(string(shown.AppendEnvelope(nil)))
			if got != "" || !strings.EqualFold(a.domain, tt.want) || !strings.Contains(envelope, ` "`+tt.want+`")`) || strings.Contains(envelope, ` "evil.test")`) {
				t.Errorf("%q, judged %q, shown %s", got, a.domain, envelope)
			}
		})
	}
}
