package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

func sharer(t *testing.T, s store.Store) store.Sharer {
	t.Helper()
	sh, ok := s.(store.Sharer)
	if !ok {
		t.Skip("the store shares no mailboxes")
	}
	return sh
}

func rights(t *testing.T, letters string) store.Rights {
	t.Helper()
	r, err := store.ParseRights(letters)
	must(t, err)
	return r
}

// accounts makes accounts with a mailbox Work each.
func accounts(t *testing.T, s store.Store, names ...string) {
	t.Helper()
	for _, name := range names {
		a, err := s.Account(t.Context(), name)
		must(t, err)
		must(t, a.Create(t.Context(), "Work", ""))
	}
}

func openAs(t *testing.T, s store.Store, account, name, reader string) store.SharedBox {
	t.Helper()
	m, err := sharer(t, s).OpenAs(t.Context(), account, name, reader)
	must(t, err)
	return m
}

func testACL(t *testing.T, s store.Store) {
	sh, ctx := sharer(t, s), t.Context()
	accounts(t, s, "a@x", "b@x")
	for _, err := range []error{
		sh.SetACL(ctx, "no@x", "INBOX", "b@x", 0, rights(t, "lr")), sh.SetACL(ctx, "a@x", "Nothing", "b@x", 0, rights(t, "lr")),
	} {
		if !errors.Is(err, store.ErrNoMailbox) {
			t.Errorf("no such mailbox: %v", err)
		}
	}
	must(t, sh.SetACL(ctx, "a@x", "Work", "b@x", store.RightsReplace, rights(t, "lr")))
	must(t, sh.SetACL(ctx, "a@x", "Work", "b@x", store.RightsAdd, rights(t, "sk")))
	must(t, sh.SetACL(ctx, "a@x", "Work", "-anyone", store.RightsReplace, rights(t, "a")))
	must(t, sh.SetACL(ctx, "a@x", "Drafts", "group=g@x", store.RightsReplace, rights(t, "l")))
	must(t, sh.SetACL(ctx, "a@x", "Drafts", "c@x", store.RightsReplace, rights(t, "l")))
	must(t, sh.SetACL(ctx, "a@x", "Drafts", "c@x", store.RightsRemove, rights(t, "l")))
	want := store.ACL{{Identifier: "-anyone", Rights: rights(t, "a")}, {Identifier: "b@x", Rights: rights(t, "lrsk")}}
	got, err := sh.ACL(ctx, "a@x", "Work")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	list, err := sh.Granted(ctx, []string{"b@x"})
	if err != nil || len(list) != 2 || list[0].Name != "Drafts" || list[1].Name != "Work" || !cmp.Equal(list[1].ACL, want) {
		t.Errorf("granted %v %v", list, err)
	}
	if list, err = sh.Granted(ctx, nil); err != nil || len(list) != 1 {
		t.Errorf("granted to groups alone: %v %v", list, err)
	}

	// What is made below has the list; what is renamed keeps it; what is deleted loses it.
	a, err := s.Account(ctx, "a@x")
	must(t, err)
	must(t, a.Create(ctx, "Work/Sub/Deep", ""))
	must(t, a.Rename(ctx, "Work/Sub", "Moved"))
	for _, name := range []string{"Moved", "Moved/Deep"} {
		if got, err = sh.ACL(ctx, "a@x", name); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	must(t, a.Delete(ctx, "Work"))
	must(t, a.Create(ctx, "Work", ""))
	if got, err = sh.ACL(ctx, "a@x", "Work"); err != nil || len(got) != 0 {
		t.Errorf("a new mailbox has the list of one that was deleted: %v %v", got, err)
	}
	for _, open := range []struct{ account, name, reader string }{{"no@x", "INBOX", "b@x"}, {"a@x", "Nothing", "b@x"}, {"a@x", "Work", "no@x"}} {
		if _, err := sh.OpenAs(ctx, open.account, open.name, open.reader); !errors.Is(err, store.ErrNoMailbox) {
			t.Errorf("%v: %v", open, err)
		}
	}
}

// flagsOf are the flags of all messages, as a user sees them.
func flagsOf(t *testing.T, m store.Mailbox) (out []string) {
	listed(t, m)
	t.Helper()
	for msg, err := range m.Messages(t.Context(), store.AllUIDs(), store.FieldEnvelope) {
		must(t, err)
		out = append(out, string(msg.Flags.AppendTo(nil)))
	}
	return out
}

func testReaders(t *testing.T, s store.Store) {
	ctx := t.Context()
	accounts(t, s, "a@x", "b@x", "c@x")
	owner, b, c := open(t, s, "a@x", "Work"), openAs(t, s, "a@x", "Work", "b@x"), openAs(t, s, "a@x", "Work", "c@x")
	again := openAs(t, s, "a@x", "Work", "b@x")
	fill(t, owner, 3)
	before, err := b.Status(ctx)
	must(t, err)
	woken := 0
	defer again.Watch(func() { woken++ })()

	add := func(f store.SystemFlags) store.FlagChange {
		return store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: f}}
	}
	r, err := b.StoreFlags(ctx, store.UIDsOf(1, 2), add(store.Seen|store.Flagged), 0)
	must(t, err)
	if len(r.Changed) != 2 || !r.Changed[0].Flags.Has(store.Seen|store.Flagged) || woken != 1 {
		t.Errorf("%+v, woken %d times", r, woken)
	}
	for who, want := range map[store.Mailbox][]string{
		owner: {`\Flagged`, `\Flagged`, ""}, b: {`\Flagged \Seen`, `\Flagged \Seen`, ""}, again: {`\Flagged \Seen`, `\Flagged \Seen`, ""}, c: {`\Flagged`, `\Flagged`, ""},
	} {
		if got := flagsOf(t, who); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	// The owner's own is no reader's.
	_, err = owner.StoreFlags(ctx, store.UIDsOf(3), add(store.Seen), 0)
	must(t, err)
	for who, want := range map[store.Mailbox]uint32{owner: 2, b: 1, again: 1, c: 3} {
		if st, err := who.Status(ctx); err != nil || st.Unseen != want || who != owner && st.Recent != 0 {
			t.Errorf("%+v %v, want %d unseen", st, err, want)
		}
	}
	// Only \Seen: a change to that reader alone, under a MODSEQ of the mailbox.
	mid, err := b.Status(ctx)
	must(t, err)
	_, err = b.StoreFlags(ctx, store.UIDsOf(3), add(store.Seen), 0)
	must(t, err)
	ch, err := again.Changes(ctx, mid.HighestModSeq)
	if err != nil || len(ch.Messages) != 1 || ch.Messages[0].UID != 3 || !ch.Messages[0].Flags.Has(store.Seen) || ch.Messages[0].ModSeq != ch.Highest || ch.Highest <= mid.HighestModSeq {
		t.Errorf("%+v %v", ch, err)
	}
	if ch, err = c.Changes(ctx, mid.HighestModSeq); err != nil || len(ch.Messages) != 0 {
		t.Errorf("somebody else's: %+v %v", ch, err)
	}
	if ch, err = b.Changes(ctx, before.HighestModSeq); err != nil || len(ch.Messages) != 3 || !slices.IsSortedFunc(ch.Messages, func(x, y store.FlagState) int { return int(x.UID) - int(y.UID) }) {
		t.Errorf("%+v %v", ch, err)
	}
	if r, err = b.StoreFlags(ctx, store.UIDsOf(3), store.FlagChange{Kind: store.FlagsRemove, Flags: store.Flags{System: store.Seen}}, mid.HighestModSeq); err != nil || len(r.Modified) != 1 {
		t.Errorf("the condition is of the reader's MODSEQ: %+v %v", r, err)
	}
	// Append with \Seen, and what is expunged is nobody's any more.
	uid, err := b.Append(ctx, Message("new@x", "new"), store.Flags{System: store.Seen}, time.Time{}, store.NoQuota())
	must(t, err)
	if got := flagsOf(t, b); uid != 4 || got[3] != `\Seen` {
		t.Errorf("UID %d %q", uid, got)
	}
	if got := flagsOf(t, owner); got[3] != "" {
		t.Errorf("owner: %q", got)
	}
	_, err = owner.Remove(ctx, store.UIDsOf(1, 4))
	must(t, err)
	if st, err := b.Status(ctx); err != nil || st.Messages != 2 || st.Unseen != 0 {
		t.Errorf("%+v %v", st, err)
	}
}

func testTransfer(t *testing.T, s store.Store) {
	sh, ctx := sharer(t, s), t.Context()
	accounts(t, s, "a@x", "b@x")
	owner, b, own := open(t, s, "a@x", "Work"), openAs(t, s, "a@x", "Work", "b@x"), open(t, s, "b@x", "Work")
	fill(t, owner, 4)
	_, err := b.StoreFlags(ctx, store.UIDsOf(1, 2), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen | store.Flagged, Keywords: []string{"k"}}}, 0)
	must(t, err)
	r, err := sh.Transfer(ctx, b, store.UIDsOf(1, 3), own, store.AllRights, store.NoQuota(), false)
	if err != nil || !slices.Equal(r.From, []store.UID{1, 3}) || !slices.Equal(r.To, []store.UID{1, 2}) {
		t.Errorf("%+v %v", r, err)
	}
	if got := flagsOf(t, own); !slices.Equal(got, []string{`\Flagged \Seen k`, ""}) {
		t.Errorf("copied as %q", got)
	}
	if whole(t, own, 1) != whole(t, owner, 1) {
		t.Error("a copy is another message")
	}
	// The quota is the destination's; what moves away makes room in its own.
	if _, err = sh.Transfer(ctx, own, store.AllUIDs(), b, store.AllRights, store.Quota{Bytes: -1, Messages: 5}, true); !errors.Is(err, store.ErrOverQuota) {
		t.Errorf("over quota: %v", err)
	}
	if r, err = sh.Transfer(ctx, own, store.AllUIDs(), b, rights(t, "is"), store.Quota{Bytes: -1, Messages: 6}, true); err != nil || !slices.Equal(r.To, []store.UID{5, 6}) {
		t.Errorf("%+v %v", r, err)
	}
	if got := flagsOf(t, b); !slices.Equal(got[4:], []string{`\Seen`, ""}) || len(uids(t, own)) != 0 {
		t.Errorf("moved as %q, left %v", got, uids(t, own))
	}
	if got := flagsOf(t, owner); !slices.Equal(got[4:], []string{"", ""}) {
		t.Errorf("to the owner %q", got)
	}
	// Within one mailbox too.
	if r, err = sh.Transfer(ctx, b, store.UIDsOf(5), b, store.AllRights, store.NoQuota(), false); err != nil || !slices.Equal(r.To, []store.UID{7}) {
		t.Errorf("%+v %v", r, err)
	}
	if got := flagsOf(t, b); got[6] != `\Seen` {
		t.Errorf("copied as %q", got)
	}
	for account, want := range map[string]int64{"a@x": 7, "b@x": 0} {
		a, err := s.Account(ctx, account)
		must(t, err)
		if u, err := a.Usage(ctx); err != nil || u.Messages != want {
			t.Errorf("%s holds %+v %v, want %d", account, u, err, want)
		}
	}
}

// testPost: mail to a +detail goes to the mailbox that anyone may post to.
func testPost(t *testing.T, s store.Store) {
	sh, ctx := sharer(t, s), t.Context()
	accounts(t, s, "a@x", "b@x")
	a, err := s.Account(ctx, "a@x")
	must(t, err)
	for name, grants := range map[string]store.ACL{
		"Lists/Go": {{Identifier: "anyone", Rights: rights(t, "p")}},
		"Closed":   {{Identifier: "anyone", Rights: rights(t, "lri")}},
		"Bobs":     {{Identifier: "b@x", Rights: rights(t, "lrp")}},
		"Taken":    {{Identifier: "anyone", Rights: rights(t, "p")}, {Identifier: "-anyone", Rights: rights(t, "p")}},
	} {
		must(t, a.Create(ctx, name, ""))
		for _, g := range grants {
			must(t, sh.SetACL(ctx, "a@x", name, g.Identifier, 0, g.Rights))
		}
	}
	d := store.NewDeliverer(s, &people{quota: -1}, store.NoQuota())
	for local, want := range map[string]string{
		"a": "", "a+Lists/Go": "Lists/Go", "a+lists/go": "Lists/Go", "a+closed": "", "a+Bobs": "", "a+taken": "", "a+none": "", "b+Lists/Go": "", "a+": "",
	} {
		got, err := d.Target(ctx, mail.Address{Local: "b", Domain: "x"}, mail.Recipient{Address: mail.Address{Local: local, Domain: "x"}})
		if err != nil || got.Mailbox != want || got.Account != local[:1]+"@x" {
			t.Errorf("%s: %+v %v, want %q", local, got, err, want)
		}
	}
	got, err := d.Target(ctx, mail.Address{}, mail.Recipient{Address: mail.Address{Local: "a+lists/go", Domain: "x"}, Mailbox: "Sent"})
	if err != nil || got.Mailbox != "Sent" {
		t.Errorf("the MTA's own word: %+v %v", got, err)
	}
	for _, local := range []string{"no", "no+Work", "+a"} {
		if got, err := d.Target(ctx, mail.Address{}, mail.Recipient{Address: mail.Address{Local: local, Domain: "x"}}); err == nil {
			t.Errorf("%s: %+v", local, got)
		}
	}
}
