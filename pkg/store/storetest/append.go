package storetest

import (
	"errors"
	"slices"
	"testing"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

func testAppendAll(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	large := append(Message("2@x", "two"), make([]byte, 200<<10)...)
	two := []store.Incoming{{Body: Message("1@x", "one"), Flags: store.Flags{System: store.Seen}}, {Body: large}}
	got, err := m.AppendAll(t.Context(), two, store.NoQuota())
	must(t, err)
	if !slices.Equal(got, []store.UID{1, 2}) || !slices.Equal(uids(t, m), got) {
		t.Errorf("UIDs %v, then %v", got, uids(t, m))
	}
	// The second does not fit: neither is there.
	q := store.Quota{Bytes: -1, Messages: 3}
	if _, err := m.AppendAll(t.Context(), []store.Incoming{{Body: Message("3@x", "three")}, {Body: append(large, '3')}}, q); !errors.Is(err, store.ErrOverQuota) {
		t.Errorf("over quota: %v", err)
	}
	if got := uids(t, m); len(got) != 2 {
		t.Errorf("half of an append is there: %v", got)
	}
	if whole(t, m, 2) != string(large) {
		t.Error("a large message was harmed by one that was refused")
	}
}

func testReplace(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "Drafts")
	fill(t, m, 2)
	st, err := m.Status(t.Context())
	must(t, err)
	second := append(Message("new@x", "new"), make([]byte, 100<<10)...)
	q := store.Quota{Bytes: -1, Messages: 2}
	uid, err := m.Replace(t.Context(), 1, "drafts", store.Incoming{Body: second}, q)
	if !errors.Is(err, store.ErrNoMailbox) {
		t.Errorf("no such mailbox: %d %v", uid, err)
	}
	uid, err = m.Replace(t.Context(), 1, "Drafts", store.Incoming{Body: second, Flags: store.Flags{System: store.Draft}}, q)
	if err != nil || uid != 3 || !slices.Equal(uids(t, m), []store.UID{2, 3}) {
		t.Errorf("UID %d %v, left %v", uid, err, uids(t, m))
	}
	c, err := m.Changes(t.Context(), st.HighestModSeq)
	if err != nil || len(c.Messages) != 1 || !slices.Equal(c.Expunged, []store.UID{1}) {
		t.Errorf("changes %+v %v", c, err)
	}
	if _, err := m.Replace(t.Context(), 1, "Drafts", store.Incoming{Body: Message("x@x", "x")}, q); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("gone: %v", err)
	}
	if _, err := m.Replace(t.Context(), 3, "Sent", store.Incoming{Body: second}, q); err != nil {
		t.Fatal(err)
	}
	if sent := open(t, s, "a@x", "Sent"); !slices.Equal(uids(t, m), []store.UID{2}) || whole(t, sent, 1) != string(second) {
		t.Errorf("left %v, sent %v", uids(t, m), uids(t, sent))
	}
}

func testID(t *testing.T, s store.Store) {
	m := open(t, s, "a@x", "INBOX")
	fill(t, m, 2)
	_, err := m.Copy(t.Context(), store.UIDsOf(1), "INBOX", store.NoQuota())
	must(t, err)
	for _, err := range s.Deliver(t.Context(), mail.NewTraceID(), Message("0@fill", "fill"), []store.Target{{Account: "a@x", Quota: store.NoQuota()}}) {
		must(t, err)
	}
	ids := make([]string, 0, 4)
	for msg, err := range m.Messages(t.Context(), store.AllUIDs(), store.FieldID) {
		must(t, err)
		ids = append(ids, msg.ID)
	}
	if len(ids) != 4 || ids[0] == "" || ids[0] != ids[2] || ids[0] == ids[1] || ids[0] == ids[3] {
		t.Errorf("%q: a copy has the ID, and what has other bytes or trace fields has not", ids)
	}
}
