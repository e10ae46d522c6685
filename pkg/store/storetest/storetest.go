// Package storetest is the suite that every store.Store passes.
package storetest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Message is a small message with that Message-ID and subject.
func Message(id, subject string) mail.Bytes {
	return mail.Bytes(fmt.Sprintf("From: a@example.com\r\nTo: b@example.com\r\nSubject: %s\r\nMessage-ID: <%s>\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\nHello %s\r\n", subject, id, subject))
}

func open(t *testing.T, s store.Store, account, name string) store.Mailbox {
	t.Helper()
	a, err := s.Account(t.Context(), account)
	must(t, err)
	m, err := a.Open(t.Context(), name)
	must(t, err)
	return m
}

// listed holds a mailbox's listing against its Messages.
func listed(t *testing.T, m store.Mailbox) {
	t.Helper()
	l, err := store.List(t.Context(), m)
	must(t, err)
	slow, err := store.List(t.Context(), struct{ store.Mailbox }{m})
	must(t, err)
	if !slices.Equal(l.UIDs, slow.UIDs) || l.UIDValidity != slow.UIDValidity || l.UIDNext != slow.UIDNext || l.HighestModSeq != slow.HighestModSeq {
		t.Errorf("listed as %+v\nand slowly %+v", l, slow)
	}
	flags := func(l store.Listing, i int) store.Flags {
		if ref := l.Flags[i]; ref >= store.FirstSet {
			return l.Sets[ref-store.FirstSet]
		}
		return store.Flags{System: store.SystemFlags(l.Flags[i])}
	}
	for i, uid := range l.UIDs {
		if got, want := flags(l, i), flags(slow, i); !got.Equal(want) {
			t.Errorf("message %d is listed with %v, and not %v", uid, got, want)
		}
	}
}

func uids(t *testing.T, m store.Mailbox) (out []store.UID) {
	listed(t, m)
	t.Helper()
	for msg, err := range m.Messages(t.Context(), store.AllUIDs(), 0) {
		must(t, err)
		out = append(out, msg.UID)
	}
	return out
}

func whole(t *testing.T, m store.Mailbox, uid store.UID) string {
	t.Helper()
	b, err := m.Body(t.Context(), uid)
	must(t, err)
	defer b.Close()
	all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	must(t, err)
	return string(all)
}

// Run proves the contract over empty stores that make returns.
func Run(t *testing.T, makeStore func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"Deliver": testDeliver, "Append": testAppend, "Flags": testFlags, "Expunge": testExpunge, "CopyMove": testCopyMove,
		"Tree": testTree, "SentCopy": testSentCopy, "Quota": testQuota, "Watch": testWatch, "AppendAll": testAppendAll, "Replace": testReplace, "ID": testID, "Parallel": testParallel,
		"ACL": testACL, "Readers": testReaders, "Transfer": testTransfer, "Rights": testRights, "Namespaces": testNamespaces, "Metadata": testMetadata, "Limits": testLimits, "Subscriptions": testSubscriptions, "Post": testPost,
	} {
		t.Run(name, func(t *testing.T) { test(t, makeStore(t)) })
	}
}

func testDeliver(t *testing.T, s store.Store) {
	body := Message("1@x", "one")
	trace := mail.NewTraceID()
	targets := []store.Target{
		{Account: "a@x", ReturnPath: mail.Address{Local: "s", Domain: "x"}, Recipient: mail.Address{Local: "a", Domain: "x"}, Quota: store.NoQuota()},
		{Account: "b@x", Mailbox: "New/Deep", Flags: store.Flags{System: store.Flagged}, Quota: store.NoQuota()},
	}
	for range 2 { // the second time it is there already
		for i, err := range s.Deliver(t.Context(), trace, body, targets) {
			if err != nil {
				t.Errorf("target %d: %v", i, err)
			}
		}
	}
	m := open(t, s, "a@x", "INBOX")
	if got := uids(t, m); !slices.Equal(got, []store.UID{1}) {
		t.Fatalf("UIDs %v, want one: a trace is taken once", got)
	}
	want := "Return-Path: <s@x>\r\nDelivered-To: a@x\r\n" + string(body)
	if got := whole(t, m, 1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for msg, err := range m.Messages(t.Context(), store.UIDsOf(1), store.FieldMeta|store.FieldEnvelope|store.FieldHeader|store.FieldParts|store.FieldBodyStructure) {
		must(t, err)
		if msg.Size != int64(len(want)) || len(msg.Envelope) == 0 || len(msg.BodyStructure) == 0 || len(msg.Parts) == 0 || string(msg.Header[:12]) != "Return-Path:" {
			t.Errorf("%+v", msg)
		}
	}
	deep := open(t, s, "b@x", "New/Deep")
	for msg, err := range deep.Messages(t.Context(), store.AllUIDs(), 0) {
		must(t, err)
		if !msg.Flags.Has(store.Flagged) {
			t.Error("flags of the delivery are lost")
		}
	}
}

func testAppend(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	at := time.Date(2020, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600))
	flags, err := store.ParseFlags([]string{`\Seen`, "$Work"})
	must(t, err)
	uid, err := m.Append(t.Context(), Message("1@x", "one"), flags, at, store.NoQuota())
	must(t, err)
	for msg, err := range m.Messages(t.Context(), store.UIDsOf(uid), store.FieldMeta) {
		must(t, err)
		if !msg.InternalDate.Equal(at) || !msg.Flags.Equal(flags) {
			t.Errorf("%v %v", msg.InternalDate, msg.Flags)
		}
	}
	big := make(mail.Bytes, 300<<10)
	copy(big, "Subject: big\r\n\r\n")
	uid, err = m.Append(t.Context(), big, store.Flags{}, time.Time{}, store.NoQuota())
	must(t, err)
	if got := whole(t, m, uid); got != string(big) {
		t.Errorf("a large body came back as %d bytes", len(got))
	}
	if _, err := m.Body(t.Context(), 99); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("no message: %v", err)
	}
}

func fill(t *testing.T, m store.Mailbox, n int) {
	t.Helper()
	for i := range n {
		_, err := m.Append(t.Context(), Message(fmt.Sprintf("%d@fill", i), "fill"), store.Flags{}, time.Time{}, store.NoQuota())
		must(t, err)
	}
}

func testFlags(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	fill(t, m, 5)
	before, err := m.Status(t.Context())
	must(t, err)
	set := store.NewUIDSet([]store.UIDRange{{First: 2, Last: 4}, {First: 90, Last: 4_000_000_000}})
	r, err := m.StoreFlags(t.Context(), set, store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Seen, Keywords: []string{"k"}}}, 0)
	must(t, err)
	after, err := m.Status(t.Context())
	must(t, err)
	if len(r.Changed) != 3 || after.Unseen != 2 || after.HighestModSeq <= before.HighestModSeq {
		t.Errorf("%+v %+v", r, after)
	}
	c, err := m.Changes(t.Context(), before.HighestModSeq)
	must(t, err)
	listed(t, m)
	if len(c.Messages) != 3 || c.Highest != after.HighestModSeq || !c.Messages[0].Flags.HasKeyword("K") {
		t.Errorf("%+v", c)
	}
	r, err = m.StoreFlags(t.Context(), store.UIDsOf(1, 2), store.FlagChange{Kind: store.FlagsReplace}, before.HighestModSeq)
	must(t, err)
	if len(r.Changed) != 1 || len(r.Modified) != 1 || r.Modified[0].UID != 2 {
		t.Errorf("unchangedSince: %+v", r)
	}
}

func testExpunge(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	fill(t, m, 4)
	st, err := m.Status(t.Context())
	must(t, err)
	_, err = m.StoreFlags(t.Context(), store.UIDsOf(2, 4), store.FlagChange{Kind: store.FlagsAdd, Flags: store.Flags{System: store.Deleted}}, 0)
	must(t, err)
	gone, err := m.Expunge(t.Context(), store.NewUIDSet([]store.UIDRange{{First: 1, Last: 3}}))
	must(t, err)
	if !slices.Equal(gone, []store.UID{2}) || !slices.Equal(uids(t, m), []store.UID{1, 3, 4}) {
		t.Errorf("gone %v, left %v", gone, uids(t, m))
	}
	_, err = m.Expunge(t.Context(), store.AllUIDs())
	must(t, err)
	c, err := m.Changes(t.Context(), st.HighestModSeq)
	must(t, err)
	if !slices.Equal(c.Expunged, []store.UID{2, 4}) {
		t.Errorf("%+v", c)
	}
	uid, err := m.Append(t.Context(), Message("n@x", "new"), store.Flags{}, time.Time{}, store.NoQuota())
	if err != nil || uid != 5 {
		t.Errorf("UID %d %v, want 5: a UID is never used again", uid, err)
	}
	gone, err = m.Remove(t.Context(), store.UIDsOf(3, 4, 5)) // 4 is gone already
	if err != nil || !slices.Equal(gone, []store.UID{3, 5}) || !slices.Equal(uids(t, m), []store.UID{1}) {
		t.Errorf("removed %v %v, left %v", gone, err, uids(t, m))
	}
}

func testCopyMove(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	fill(t, m, 3)
	r, err := m.Copy(t.Context(), store.AllUIDs(), "Archive", store.NoQuota())
	must(t, err)
	if !slices.Equal(r.From, []store.UID{1, 2, 3}) || !slices.Equal(r.To, []store.UID{1, 2, 3}) || r.UIDValidity == 0 {
		t.Errorf("%+v", r)
	}
	r, err = m.Move(t.Context(), store.UIDsOf(2), "Archive")
	must(t, err)
	archive := open(t, s, "a@x", "Archive")
	if !slices.Equal(r.To, []store.UID{4}) || !slices.Equal(uids(t, m), []store.UID{1, 3}) || len(uids(t, archive)) != 4 {
		t.Errorf("%+v %v %v", r, uids(t, m), uids(t, archive))
	}
	if whole(t, archive, 4) != string(Message("1@fill", "fill")) {
		t.Error("a moved message changed")
	}
	if _, err := m.Copy(t.Context(), store.AllUIDs(), "None", store.NoQuota()); !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("%v", err)
	}
}

func testTree(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, err := s.Account(ctx, "a@x")
	must(t, err)
	must(t, a.Create(ctx, "Work/Östlich/2026", ""))
	for name, c := range map[string]struct{ err, want error }{
		"exists": {a.Create(ctx, "Work", ""), store.ErrMailboxExists}, "inbox": {a.Create(ctx, "inbox", ""), store.ErrMailboxExists},
		"bad": {a.Create(ctx, "a//b", ""), store.ErrBadName}, "delete inbox": {a.Delete(ctx, "InBox"), store.ErrInbox},
		"delete none": {a.Delete(ctx, "None"), store.ErrNoMailbox}, "rename none": {a.Rename(ctx, "None", "x"), store.ErrNoMailbox},
		"rename taken": {a.Rename(ctx, "Work", "Sent"), store.ErrMailboxExists},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	must(t, a.Subscribe(ctx, "Gone", true))
	must(t, a.Rename(ctx, "Work", "Play"))
	must(t, a.Delete(ctx, "Play"))
	list, err := a.Mailboxes(ctx)
	must(t, err)
	got := map[string]store.MailboxEntry{}
	for _, e := range list {
		got[e.Name] = e
	}
	if list[0].Name != "INBOX" || !got["Play"].NoSelect || !got["Play"].HasChildren || got["Play/Östlich/2026"].NoSelect || !got["Gone"].NonExistent || got["Sent"].SpecialUse != `\Sent` {
		t.Errorf("%+v", list)
	}
	if _, ok := got["Work"]; ok {
		t.Error("the renamed mailbox is still there")
	}
	m := open(t, s, "a@x", "INBOX")
	fill(t, m, 2)
	old, err := m.Status(ctx)
	must(t, err)
	must(t, a.Rename(ctx, "INBOX", "Old"))
	if len(uids(t, m)) != 0 || len(uids(t, open(t, s, "a@x", "Old"))) != 2 {
		t.Error("renaming INBOX moves its messages")
	}
	must(t, a.Create(ctx, "Twice", ""))
	first, err := open(t, s, "a@x", "Twice").Status(ctx)
	must(t, err)
	must(t, a.Delete(ctx, "Twice"))
	must(t, a.Create(ctx, "Twice", ""))
	second, err := open(t, s, "a@x", "Twice").Status(ctx)
	if err != nil || second.UIDValidity <= first.UIDValidity || first.UIDValidity <= old.UIDValidity {
		t.Errorf("UIDVALIDITY %d, then %d", first.UIDValidity, second.UIDValidity)
	}
}

func testSentCopy(t *testing.T, s store.Store) {
	target := []store.Target{{Account: "a@x", Mailbox: "Sent", SentCopy: true, Flags: store.Flags{System: store.Seen}, Quota: store.NoQuota()}}
	deliver := func(b mail.Body) {
		t.Helper()
		must(t, errors.Join(s.Deliver(t.Context(), mail.NewTraceID(), b, target)...))
	}
	m := func() store.Mailbox { return open(t, s, "a@x", "Sent") }
	deliver(Message("1@x", "sent"))
	own := append(Message("1@x", "sent"), "with bcc"...)
	uid, err := m().Append(t.Context(), own, store.Flags{}, time.Time{}, store.NoQuota())
	must(t, err)
	if got := uids(t, m()); !slices.Equal(got, []store.UID{uid}) || whole(t, m(), uid) != string(own) {
		t.Errorf("the client's copy replaces ours: %v", got)
	}
	deliver(Message("1@x", "sent"))
	if got := uids(t, m()); len(got) != 1 {
		t.Errorf("the client's copy was there first: %v", got)
	}
	deliver(Message("2@x", "sent"))
	if _, err := m().Append(t.Context(), Message("2@x", "sent"), store.Flags{}, time.Time{}, store.NoQuota()); err != nil || len(uids(t, m())) != 2 {
		t.Errorf("the same bytes: %v %v", err, uids(t, m()))
	}
	whole(t, m(), uids(t, m())[1])
}

func testQuota(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	body := Message("1@x", "one")
	q := store.Quota{Bytes: 2*body.Size() + 10, Messages: -1}
	for i := range 3 {
		_, err := m.Append(t.Context(), Message(fmt.Sprintf("%d@x", i), "one"), store.Flags{}, time.Time{}, q)
		if (i < 2) != (err == nil) || i == 2 && !errors.Is(err, store.ErrOverQuota) {
			t.Errorf("append %d: %v", i, err)
		}
	}
	errs := s.Deliver(t.Context(), mail.NewTraceID(), body, []store.Target{{Account: "a@x", Quota: q}, {Account: "b@x", Quota: store.NoQuota()}})
	if !errors.Is(errs[0], store.ErrOverQuota) || errs[1] != nil {
		t.Errorf("%v: a full account harms nobody else", errs)
	}
	a, err := s.Account(t.Context(), "a@x")
	must(t, err)
	if u, err := a.Usage(t.Context()); err != nil || u.Messages != 2 || u.Bytes != 2*body.Size() {
		t.Errorf("%+v %v", u, err)
	}
}

func testWatch(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	woken := make(chan struct{}, 1)
	stop := m.Watch(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	fill(t, m, 1)
	<-woken
	if first, err := m.ClaimRecent(t.Context(), true); err != nil || first != 1 {
		t.Errorf("recent from %d %v, want 1", first, err)
	}
	if first, err := m.ClaimRecent(t.Context(), true); err != nil || first != 2 {
		t.Errorf("recent from %d %v, want 2", first, err)
	}
	stop()
	fill(t, m, 1)
	select {
	case <-woken:
		t.Error("woken after stop")
	default:
	}
}

func testParallel(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				body := Message(fmt.Sprintf("%d.%d@x", g, i), "parallel")
				for _, err := range s.Deliver(t.Context(), mail.NewTraceID(), body, []store.Target{{Account: "a@x", Quota: store.NoQuota()}, {Account: "b@x", Quota: store.NoQuota()}}) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, account := range []string{"a@x", "b@x"} {
		got := uids(t, open(t, s, account, "INBOX"))
		if len(got) != 80 || got[79] != 80 {
			t.Errorf("%s: %d messages, the last %d", account, len(got), got[len(got)-1])
		}
	}
}
