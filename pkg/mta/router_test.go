package mta_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

func TestRouter(t *testing.T) {
	h := newHouse(t)
	relays := map[string]*sink{"": {}, "old.split.example": {}}
	router := mta.NewRouter(resolver(t, h.people), mta.Ways{Stores: h.find, Remotes: func(relay string) mail.Deliverer { return relays[relay] }})
	h.stores["b.us.example"].answers = map[string]error{"*": mail.TryLater(2, 2, "mailbox full", nil)}

	final := func(s, mailbox string) mail.Recipient { return mail.Recipient{Address: addr(t, s), Mailbox: mailbox} }
	env := mail.Envelope{From: addr(t, "s@far.test"), Trace: mail.NewTraceID(), To: []mail.Recipient{
		final("both@us.example", mta.Inbox), // final: no forward is followed again
		final("alice@us.example", "Sent"),
		final("bob@us.example", mta.Inbox),
		final("disabled@us.example", mta.Inbox),
		final("held@us.example", mta.Inbox),
		final("nobody@us.example", mta.Inbox),
		final("x@far.test", ""),
		final("splituser@split.example", ""),
		final("both@us.example", ""),
		final("team@us.example", ""),
		final("held@us.example", ""),
		final("nomail@us.example", ""),
	}}
	errs := router.Deliver(t.Context(), env, mail.Bytes("x: y\r\n\r\n"))
	var got []string
	for i, err := range errs {
		line := env.To[i].Address.String() + ": " + reply(err)
		if e, ok := errors.AsType[*mta.Expansion](err); ok {
			line = env.To[i].Address.String() + ": " + e.Error()
			for _, next := range e.Messages {
				for _, r := range next.Envelope.To {
					line += " " + next.Envelope.From.String() + "->" + r.Address.String() + ":" + r.Mailbox
				}
			}
		}
		if errors.Is(err, mta.ErrHold) {
			line += " (hold)"
		}
		got = append(got, line)
	}
	want := []string{
		"both@us.example: ",
		"alice@us.example: ",
		"bob@us.example: 451 4.2.2 mailbox full",
		"disabled@us.example: 550 5.2.1 user disabled; cannot receive new mail",
		"held@us.example: 450 4.2.1 mailbox is on hold (hold)",
		"nobody@us.example: 550 5.1.1 no such user here",
		"x@far.test: ",
		"splituser@split.example: ",
		"both@us.example: expanded to 3 recipients s@far.test->both@us.example:INBOX s@far.test->x@far.test: s@far.test->bob@us.example:INBOX",
		"team@us.example: expanded to 5 recipients s@far.test->alice@us.example:INBOX s@far.test->bob@us.example:INBOX" +
			" s@far.test->inactive@us.example: s@far.test->held@us.example: owner@us.example->x@far.test:",
		"held@us.example: 450 4.2.1 mailbox is on hold (hold)",
		"nomail@us.example: ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	deliveries := strings.Join([]string{h.stores["a.us.example"].got[0], h.stores["b.us.example"].got[0], relays[""].got[0], relays["old.split.example"].got[0]}, "\n")
	wantDeliveries := "s@far.test -> both@us.example, alice@us.example:Sent\ns@far.test -> bob@us.example\ns@far.test -> x@far.test\ns@far.test -> splituser@split.example"
	if diff := cmp.Diff(wantDeliveries, deliveries); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

func TestRouterKeepsMailInAnOutage(t *testing.T) {
	h := newHouse(t)
	h.people.down = true
	router := mta.NewRouter(resolver(t, h.people), mta.Ways{Stores: h.find, Remotes: func(string) mail.Deliverer { return &sink{} }})
	env := mail.Envelope{To: []mail.Recipient{{Address: addr(t, "alice@us.example"), Mailbox: mta.Inbox}, {Address: addr(t, "nobody@us.example")}}}
	for i, err := range router.Deliver(t.Context(), env, mail.Bytes("")) {
		if st := mail.StatusOf(err); st.Code != 451 || st.Enhanced != [3]int{4, 4, 3} {
			t.Errorf("recipient %d: %v, want 451 4.4.3", i, err)
		}
	}
}
