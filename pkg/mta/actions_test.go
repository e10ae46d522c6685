package mta_test

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/store"
)

// set gives an entry of the real house attributes, "name: value" each.
func (h *realHouse) set(t *testing.T, dn string, attributes ...string) {
	t.Helper()
	values := map[string][]string{}
	for _, a := range attributes {
		name, value, _ := strings.Cut(a, ": ")
		values[name] = append(values[name], value)
	}
	var changes []directory.Change
	for name, v := range values {
		changes = append(changes, directory.Change{Kind: directory.ReplaceValues, Attribute: directory.Attribute{Name: name, Values: v}})
	}
	if err := h.tree.Modify(t.Context(), directory.MustParseDN(dn), changes); err != nil {
		t.Fatal(err)
	}
}

// message returns the last message of a mailbox.
func (h *realHouse) message(t *testing.T, account, name string) string {
	t.Helper()
	a, err := h.store.Account(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var last uint32
	for m, err := range box.Messages(t.Context(), store.AllUIDs(), store.FieldHeader) {
		if err != nil {
			t.Fatal(err)
		}
		last = uint32(m.UID)
	}
	body, err := box.Body(t.Context(), store.UID(last))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	teamEntry  = "cn=team,ou=Groups,o=us.example,o=isp"
	aliceEntry = "uid=alice,ou=People,o=us.example,o=isp"
)

// settle waits until nothing in the queue is pending.
func (h *realHouse) settle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := h.queue.Counts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.Pending == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d recipients are still pending", c.Pending)
		}
	}
}

// TestModeration: a message to a moderated group is held, the moderator gets
// it, and decides by a reply; the administrator's release does the same.
func TestModeration(t *testing.T) {
	h := newRealHouse(t)
	h.set(t, teamEntry, "mgrpModerator: mailto:alice@us.example", "mgrpAddHeader: X-Team: yes")
	decide := func(kind string) {
		t.Helper()
		h.settle(t)
		to := regexp.MustCompile(`team\+` + kind + `-[a-z2-7]{20}@us\.example`).FindString(h.message(t, "alice@us.example", "INBOX"))
		if to == "" {
			t.Fatal("the question names no address for " + kind)
		}
		h.send(t, "alice", "alice@us.example", to)
		h.settle(t)
	}
	h.send(t, "", "s@far.test", "team@us.example")
	h.settle(t)
	held, err := h.queue.List(t.Context(), queue.Filter{})
	if err != nil || len(held) != 1 || held[0].Recipients[0].State != queue.Held {
		t.Fatalf("%+v, %v", held, err)
	}
	if got := h.mailbox(t, "bob@us.example", "INBOX"); len(got) != 0 {
		t.Fatalf("bob has it already: %v", got)
	}
	decide("approve")
	if diff := cmp.Diff([]string{"<s@far.test>"}, h.mailbox(t, "bob@us.example", "INBOX")); diff != "" {
		t.Errorf("after the approval (-want +got):\n%s", diff)
	}
	if text := h.message(t, "bob@us.example", "INBOX"); !strings.Contains(text, "\r\nX-Team: yes\r\n") {
		t.Errorf("the list's field is missing: %s", text)
	}

	h.send(t, "bob", "bob@us.example", "team@us.example")
	decide("discard")
	if text := h.message(t, "bob@us.example", "INBOX"); !strings.Contains(text, "Status: 5.7.2\r\n") {
		t.Errorf("the sender was not told: %s", text)
	}

	h.send(t, "", "s@far.test", "team@us.example")
	h.settle(t)
	held, err = h.queue.List(t.Context(), queue.Filter{})
	if err != nil || len(held) != 1 {
		t.Fatalf("%+v, %v", held, err)
	}
	if err := h.queue.Release(t.Context(), held[0].ID); err != nil {
		t.Fatal(err)
	}
	h.settle(t)
	if diff := cmp.Diff([]string{"<s@far.test>", "<>", "<s@far.test>"}, h.mailbox(t, "bob@us.example", "INBOX")); diff != "" {
		t.Errorf("after the release (-want +got):\n%s", diff)
	}
}

// TestNobodyGuessesADecision: a token that was made up decides nothing, and
// neither does an automatic answer to the question.
func TestNobodyGuessesADecision(t *testing.T) {
	h := newRealHouse(t)
	h.set(t, teamEntry, "mgrpModerator: mailto:alice@us.example")
	h.send(t, "", "s@far.test", "team@us.example")
	h.settle(t)
	h.send(t, "alice", "alice@us.example", "team+approve-abcdefghijabcdefghij@us.example")
	h.settle(t)
	if text := h.message(t, "alice@us.example", "INBOX"); !strings.Contains(text, "Status: 5.7.2\r\n") {
		t.Errorf("the guess was not refused: %s", text)
	}
	held, err := h.queue.List(t.Context(), queue.Filter{})
	if err != nil || len(held) != 1 || held[0].Recipients[0].State != queue.Held {
		t.Errorf("%+v, %v", held, err)
	}
}

// TestVacation: a user who is away keeps the message, and its sender hears so once.
func TestVacation(t *testing.T) {
	h := newRealHouse(t)
	h.set(t, aliceEntry, "mailDeliveryOption: mailbox", "mailDeliveryOption: autoreply", "mailAutoReplyMode: reply", "mailAutoReplyText: Gone$fishing")
	h.send(t, "bob", "bob@us.example", "alice@us.example")
	h.settle(t)
	if diff := cmp.Diff([]string{"<bob@us.example>"}, h.mailbox(t, "alice@us.example", "INBOX")); diff != "" {
		t.Errorf("alice (-want +got):\n%s", diff)
	}
	if text := h.message(t, "bob@us.example", "INBOX"); !strings.Contains(text, "Gone\r\nfishing\r\n") || !strings.Contains(text, "Auto-Submitted: auto-replied\r\n") {
		t.Errorf("bob: %s", text)
	}
}

// TestForwardBounceFindsBack: what a next hop refuses of a forward is told to
// the original sender, through the reverse-path that we made.
func TestForwardBounceFindsBack(t *testing.T) {
	h := newRealHouse(t)
	h.set(t, aliceEntry, "mailDeliveryOption: forward", "mailForwardingAddress: gone@far.test")
	h.far.answers = map[string]error{"gone@far.test": mail.Refuse(1, 1, "far.test said: no")}
	h.sendAs(t, "s@other.test", true, "alice@us.example")
	h.settle(t)
	got := h.far.got
	if len(got) != 2 || !strings.HasPrefix(got[0], "SRS0=") || !strings.HasSuffix(got[0], "=other.test=s@us.example -> gone@far.test") || got[1] != " -> s@other.test" {
		t.Errorf("sent: %q", got)
	}
}

// TestS13NoBackscatter (hardening.md S13): a sender for whom nothing vouches
// hears of no failure, one whose domain does hears once.
func TestS13NoBackscatter(t *testing.T) {
	for _, proven := range []bool{false, true} {
		h := newRealHouse(t)
		h.set(t, aliceEntry, "mailDeliveryOption: forward", "mailForwardingAddress: gone@far.test", "mailForwardingAddress: lost@far.test")
		h.far.answers = map[string]error{"gone@far.test": mail.Refuse(1, 1, "no"), "lost@far.test": mail.Refuse(1, 1, "no")}
		h.sendAs(t, "joe@victim.test", proven, "alice@us.example")
		h.settle(t)
		bounces := 0
		for _, line := range h.far.got {
			if strings.HasSuffix(line, " -> joe@victim.test") {
				bounces++
			}
		}
		if want := map[bool]int{false: 0, true: 1}[proven]; bounces != want {
			t.Errorf("proven %v: %d bounces, want %d; sent %q", proven, bounces, want, h.far.got)
		}
	}
}
