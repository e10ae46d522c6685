package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// Carried is a store and the Carrier of its accounts, which may be reached in
// another way than the store is.
type Carried struct {
	store.Store
	store.Carrier
}

// RunCarrier runs the suite that every Carrier passes.
func RunCarrier(t *testing.T, makeStore func(t *testing.T) Carried) {
	for name, test := range map[string]func(t *testing.T, from, to Carried){
		"all of an account": testCarry, "nothing is changed while it is held": testHeld, "goes on where it was cut": testCut,
		"damaged cargo": testDamagedCargo, "an account that is there": testReceive, "kept and dropped": testDrop,
	} {
		t.Run(name, func(t *testing.T) { test(t, makeStore(t), makeStore(t)) })
	}
}

const mover = "mover@x"

// fillMover makes an account with some of everything.
func fillMover(t *testing.T, s store.Store) {
	t.Helper()
	ctx := t.Context()
	m := open(t, s, mover, "INBOX")
	fill(t, m, 150)
	_, err := m.StoreFlags(ctx, store.NewUIDSet([]store.UIDRange{{First: 2, Last: 40}}), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen, Keywords: []string{"$Work", "x"}}}, 0)
	must(t, err)
	_, err = m.Remove(ctx, store.UIDsOf(7, 9))
	must(t, err)
	big := make(mail.Bytes, 3<<20)
	copy(big, "Subject: big\r\n\r\n")
	_, err = m.Append(ctx, big, store.Flags{System: store.Flagged}, time.Date(2020, 2, 3, 4, 5, 6, 0, time.FixedZone("", -5400)), store.NoQuota())
	must(t, err)
	_, err = m.Append(ctx, big[:200<<10], store.Flags{}, time.Time{}, store.NoQuota()) // lies in a pack
	must(t, err)
	a, err := s.Account(ctx, mover)
	must(t, err)
	must(t, a.Create(ctx, "Gr\u00fc\u00dfe/Deep", ""))
	must(t, a.Subscribe(ctx, "only/subscribed", true))
	if notes, ok := s.(Carried).Store.(store.Annotator); ok {
		for _, box := range []string{"", "Sent"} {
			must(t, notes.Annotate(ctx, mover, box, mover, []store.Annotation{{Entry: "/private/comment", Value: []byte("of " + box)}}))
		}
	}
	if sharer, ok := s.(Carried).Store.(store.Sharer); ok {
		must(t, sharer.SetACL(ctx, mover, "Sent", "friend@x", store.RightsReplace, store.RightLookup|store.RightRead))
	}
	must(t, a.Delete(ctx, "Trash"))
	_, err = m.Copy(ctx, store.NewUIDSet([]store.UIDRange{{First: 1, Last: 20}}), "Gr\u00fc\u00dfe/Deep", store.NoQuota())
	must(t, err)
	for _, err := range s.Deliver(ctx, "delivered-once", Message("trace@x", "trace"), []store.Target{{Account: mover, Quota: store.NoQuota()}}) {
		must(t, err)
	}
}

// carry copies what belongs to a mailbox, or to none, above a UID.
func carry(ctx context.Context, from, to store.Carrier, mailbox string, above store.UID) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(from.Export(ctx, mover, mailbox, above, w)) }()
	defer r.Close()
	return to.Import(ctx, mover, r)
}

func carryAll(t *testing.T, from, to Carried) {
	t.Helper()
	ctx := t.Context()
	must(t, from.Seal(ctx, mover, time.Time{}))
	c, err := from.Census(ctx, mover, false)
	must(t, err)
	must(t, to.Receive(ctx, mover))
	must(t, carry(ctx, from, to, "", 0))
	for _, m := range c.Mailboxes {
		must(t, carry(ctx, from, to, m.Name, 0))
	}
}

// same says that the account is the same in both.
func same(t *testing.T, from, to Carried) {
	t.Helper()
	want, err := from.Census(t.Context(), mover, true)
	must(t, err)
	got, err := to.Census(t.Context(), mover, true)
	must(t, err)
	if d := got.Differs(want); d != "" || len(want.Mailboxes) == 0 {
		t.Errorf("%d mailboxes, which differ: %s", len(want.Mailboxes), d)
	}
}

func testCarry(t *testing.T, from, to Carried) {
	ctx := t.Context()
	fillMover(t, from)
	carryAll(t, from, to)
	same(t, from, to)
	must(t, to.Carrier.Open(ctx, mover))
	old, here := open(t, from, mover, "INBOX"), open(t, to, mover, "INBOX")
	before, err := old.Status(ctx)
	must(t, err)
	after, err := here.Status(ctx)
	must(t, err)
	if before != after {
		t.Errorf("%+v became %+v", before, after)
	}
	for msg, err := range old.Messages(ctx, store.AllUIDs(), store.FieldMeta) {
		must(t, err)
		if whole(t, old, msg.UID) != whole(t, here, msg.UID) {
			t.Errorf("message %d is another", msg.UID)
		}
	}
	changes, err := here.Changes(ctx, 1)
	must(t, err)
	if len(changes.Expunged) != 2 {
		t.Errorf("%d expunges are remembered", len(changes.Expunged))
	}
	for _, err := range to.Deliver(ctx, "delivered-once", Message("trace@x", "trace"), []store.Target{{Account: mover, Quota: store.NoQuota()}}) {
		must(t, err)
	}
	if now, err := here.Status(ctx); err != nil || now != after {
		t.Errorf("what was delivered before came again: %+v %v", now, err)
	}
	uid, err := here.Append(ctx, Message("new@x", "new"), store.Flags{}, time.Time{}, store.NoQuota())
	if must(t, err); uid != before.UIDNext {
		t.Errorf("UID %d, want %d", uid, before.UIDNext)
	}
	a, err := to.Account(ctx, mover)
	must(t, err)
	must(t, a.Delete(ctx, "Sent"))
	must(t, a.Create(ctx, "Sent", ""))
	fresh, err := open(t, to, mover, "Sent").Status(ctx)
	must(t, err)
	all, err := from.Census(ctx, mover, false)
	must(t, err)
	for _, m := range all.Mailboxes {
		if m.UIDValidity >= fresh.UIDValidity {
			t.Errorf("a new mailbox has UIDVALIDITY %d, and %s had %d", fresh.UIDValidity, m.Name, m.UIDValidity)
		}
	}
}

func testHeld(t *testing.T, from, to Carried) {
	ctx := t.Context()
	fillMover(t, from)
	m := open(t, from, mover, "INBOX")
	a, err := from.Account(ctx, mover)
	must(t, err)
	carryAll(t, from, to)
	there, err := to.Account(ctx, mover)
	must(t, err)
	arriving := open(t, to, mover, "INBOX")
	one := store.UIDsOf(1)
	for i, x := range []struct {
		a store.Account
		m store.Mailbox
		s store.Store
	}{{a, m, from}, {there, arriving, to}} {
		for what, do := range map[string]func() error{
			"Append": func() error {
				_, err := x.m.Append(ctx, Message("a@x", "a"), store.Flags{}, time.Time{}, store.NoQuota())
				return err
			},
			"StoreFlags": func() error {
				_, err := x.m.StoreFlags(ctx, one, store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Answered}}, 0)
				return err
			},
			"Remove": func() error { _, err := x.m.Remove(ctx, one); return err },
			"Copy":   func() error { _, err := x.m.Copy(ctx, one, "Sent", store.NoQuota()); return err },
			"Move":   func() error { _, err := x.m.Move(ctx, one, "Sent"); return err },
			"Replace": func() error {
				_, err := x.m.Replace(ctx, 1, "INBOX", store.Incoming{Body: Message("a@x", "a")}, store.NoQuota())
				return err
			},
			"Create":    func() error { return x.a.Create(ctx, "New", "") },
			"Delete":    func() error { return x.a.Delete(ctx, "Sent") },
			"Rename":    func() error { return x.a.Rename(ctx, "Sent", "Seen") },
			"INBOX":     func() error { return x.a.Rename(ctx, "INBOX", "Seen") },
			"Subscribe": func() error { return x.a.Subscribe(ctx, "x", true) },
			"Deliver": func() error {
				return x.s.Deliver(ctx, "another", Message("a@x", "a"), []store.Target{{Account: mover, Quota: store.NoQuota()}})[0]
			},
			"Deliver to a new mailbox": func() error {
				return x.s.Deliver(ctx, "another", Message("a@x", "a"), []store.Target{{Account: mover, Mailbox: "N", Quota: store.NoQuota()}})[0]
			},
		} {
			if err := do(); !errors.Is(err, store.ErrHeld) || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%d: %s: %v, want it held", i, what, err)
			}
		}
	}
	errs := from.Deliver(ctx, "for two", Message("a@x", "a"), []store.Target{{Account: mover, Quota: store.NoQuota()}, {Account: "other@x", Quota: store.NoQuota()}})
	if !errors.Is(errs[0], store.ErrHeld) || errs[1] != nil {
		t.Errorf("of two recipients one is held: %v", errs)
	}
	if _, err := m.ClaimRecent(ctx, true); err != nil {
		t.Errorf("a held mailbox cannot be looked at: %v", err)
	}
	same(t, from, to)
	if err := from.Import(ctx, mover, strings.NewReader("")); !errors.Is(err, store.ErrHeld) {
		t.Errorf("importing into a sealed account: %v", err)
	}
	if err := to.Seal(ctx, mover, time.Time{}); !errors.Is(err, store.ErrHeld) {
		t.Errorf("sealing an account that arrives: %v", err)
	}
	must(t, from.Carrier.Open(ctx, mover))
	_, err = m.Remove(ctx, one)
	must(t, err)
}

// testCut cuts the cargo at some lengths; each time what came whole stays.
func testCut(t *testing.T, from, to Carried) {
	ctx := t.Context()
	fillMover(t, from)
	must(t, from.Seal(ctx, mover, time.Time{}))
	must(t, to.Receive(ctx, mover))
	var cargo bytes.Buffer
	must(t, from.Export(ctx, mover, "INBOX", 0, &cargo))
	last := store.UID(0)
	for i := range 8 {
		var rest bytes.Buffer
		must(t, from.Export(ctx, mover, "INBOX", last, &rest))
		err := to.Import(ctx, mover, io.LimitReader(&rest, int64(i*(7000+i))))
		if !errors.Is(err, store.ErrCargo) {
			t.Errorf("cargo cut: %v", err)
		}
		must(t, to.Receive(ctx, mover))
		c, err := to.Census(ctx, mover, false)
		must(t, err)
		if len(c.Mailboxes) > 0 {
			last = c.Mailboxes[0].Last
		}
	}
	if last == 0 {
		t.Error("nothing stayed of cargo that was cut")
	}
	c, err := from.Census(ctx, mover, false)
	must(t, err)
	must(t, carry(ctx, from, to, "", 0))
	for _, m := range c.Mailboxes {
		above := store.UID(0)
		if m.Name == "INBOX" {
			above = last
		}
		must(t, carry(ctx, from, to, m.Name, above))
	}
	same(t, from, to)
}

func testDamagedCargo(t *testing.T, from, to Carried) {
	ctx := t.Context()
	fill(t, open(t, from, mover, "INBOX"), 3)
	must(t, from.Seal(ctx, mover, time.Time{}))
	var cargo bytes.Buffer
	must(t, from.Export(ctx, mover, "INBOX", 0, &cargo))
	whole := cargo.String()
	for what, bad := range map[string]string{
		"another body": strings.Replace(whole, "Subject: fill", "Subject: full", 1), "no length": "\xff\xff\xff\xff" + whole, "no JSON": "\x00\x00\x00\x02{]",
		"a list of no mailbox": "\x00\x00\x00\x23" + `{"expunged":[{"modseq":1,"uid":1}]}`, "a body of nothing": "\x00\x00\x00\x0a" + `{"size":9}`,
		"a UID beyond": strings.Replace(whole, `{"uid":2,`, `{"uid":9,`, 1),
	} {
		must(t, to.Receive(ctx, mover))
		if err := to.Import(ctx, mover, strings.NewReader(bad)); !errors.Is(err, store.ErrCargo) {
			t.Errorf("%s: %v", what, err)
		}
		c, err := to.Census(ctx, mover, false)
		if must(t, err); c.Messages > 0 {
			t.Errorf("%s: %d messages stayed", what, c.Messages)
		}
		must(t, to.Drop(ctx, mover))
	}
}

func testReceive(t *testing.T, from, to Carried) {
	ctx := t.Context()
	fillMover(t, from)
	if _, err := to.Census(ctx, mover, false); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("nobody of that name: %v", err)
	}
	for _, do := range []func() error{func() error { return to.Seal(ctx, mover, time.Time{}) }, func() error { return to.Carrier.Open(ctx, mover) },
		func() error { return to.Export(ctx, mover, "", 0, io.Discard) }} {
		if err := do(); !errors.Is(err, store.ErrNoAccount) {
			t.Errorf("nobody of that name: %v", err)
		}
	}
	_, err := to.Account(ctx, mover) // with its default mailboxes, and no mail
	must(t, err)
	carryAll(t, from, to)
	same(t, from, to)
	must(t, to.Carrier.Open(ctx, mover))
	if err := to.Receive(ctx, mover); !errors.Is(err, store.ErrAccountInUse) {
		t.Errorf("receiving over an account that is in use: %v", err)
	}
	if err := to.Drop(ctx, mover); !errors.Is(err, store.ErrAccountInUse) {
		t.Errorf("dropping an account that is in use: %v", err)
	}
	if err := from.Export(ctx, mover, "nowhere", 0, io.Discard); !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("exporting no mailbox: %v", err)
	}
	carryAll(t, to, from) // and back, over the sealed one
	same(t, to, from)
}

func testDrop(t *testing.T, from, _ Carried) {
	ctx := t.Context()
	fillMover(t, from)
	stale := open(t, from, mover, "INBOX")
	account, err := from.Account(ctx, mover)
	must(t, err)
	must(t, from.Seal(ctx, mover, time.Now().Add(time.Hour)))
	c, err := from.Census(ctx, mover, false)
	if must(t, err); c.Until.IsZero() {
		t.Error("it is not known how long the account is kept")
	}
	must(t, from.Drop(ctx, mover))
	must(t, from.Drop(ctx, mover))
	if _, err := from.Census(ctx, mover, false); !errors.Is(err, store.ErrNoAccount) {
		t.Errorf("a dropped account: %v", err)
	}
	if _, err := stale.Append(ctx, Message("a@x", "a"), store.Flags{}, time.Time{}, store.NoQuota()); !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("appending to a dropped account: %v", err)
	}
	other, err := from.Account(ctx, "other@x")
	must(t, err)
	_ = account.Create(ctx, "Mine", "") // whatever it answers, it is not theirs
	list, err := other.Mailboxes(ctx)
	must(t, err)
	for _, m := range list {
		if m.Name == "Mine" {
			t.Error("who was dropped writes into another's account")
		}
	}
}
