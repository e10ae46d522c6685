package imapserver_test

import (
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/google/go-cmp/cmp"
)

// foreign is go-imap's client on a connection that is logged in.
func foreign(t *testing.T, p *peer, o *imapclient.Options) *imapclient.Client {
	t.Helper()
	c := p.chat(t.Context()) // reads the login's answer
	// The client wants a greeting; PREAUTH says that it is logged in.
	client := imapclient.New(&greeted{Conn: c.conn, greeting: []byte("* PREAUTH ready\r\n")}, o)
	if err := client.WaitGreeting(); err != nil {
		t.Fatal(err)
	}
	return client
}

// must is for commands whose failure leaves nothing to test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestForeignClient(t *testing.T) {
	p := newPeer(t, nil)
	exists := make(chan uint32, 8)
	client := foreign(t, p, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				exists <- *d.NumMessages
			}
		},
	}})
	mixed := readMail(t, "mixed.eml")
	w := client.Append("INBOX", int64(len(mixed)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Label"}, Time: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)})
	if _, err := w.Write(mixed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	appended := must(w.Wait())(t)
	selected := must(client.Select("INBOX", nil).Wait())(t)
	if appended.UID != 1 || appended.UIDValidity != selected.UIDValidity || selected.NumMessages != 1 || selected.UIDNext != 2 {
		t.Errorf("append %+v, select %+v", appended, selected)
	}
	text := &imap.FetchItemBodySection{Part: []int{1}, Peek: true}
	messages := must(client.Fetch(imap.UIDSetNum(1), &imap.FetchOptions{
		UID: true, Flags: true, Envelope: true, InternalDate: true, RFC822Size: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true},
		BodySection: []*imap.FetchItemBodySection{text, {Peek: true}},
	}).Collect())(t)
	m := messages[0]
	if m.Envelope.Subject != "Grüße aus Berlin" || m.Envelope.From[0].Name != "Björn" || m.RFC822Size != int64(len(mixed)) {
		t.Errorf("message %+v %+v", m, m.Envelope)
	}
	if diff := cmp.Diff(string(mixed), string(m.FindBodySection(&imap.FetchItemBodySection{Peek: true}))); diff != "" {
		t.Errorf("body:\n%s", diff)
	}
	if got := string(m.FindBodySection(text)); got != "Viele Gr=FC=DFe =\r\nschickt Zebra" {
		t.Errorf("part 1: %q", got)
	}
	parts := 0
	m.BodyStructure.Walk(func([]int, imap.BodyStructure) bool { parts++; return true })
	if parts != 4 {
		t.Errorf("%d parts", parts)
	}
	if diff := cmp.Diff([]imap.Flag{imap.FlagSeen, "$Label"}, m.Flags[:2]); diff != "" {
		t.Errorf("flags:\n%s", diff)
	}
	if err := client.Create("Entwürfe", &imap.CreateOptions{SpecialUse: []imap.MailboxAttr{imap.MailboxAttrDrafts}}).Wait(); err != nil {
		t.Fatal(err)
	}
	listed := must(client.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{NumMessages: true, NumUnseen: true, Size: true}}).Collect())(t)
	if len(listed) != 2 || listed[1].Mailbox != "Entwürfe" || listed[0].Status == nil || *listed[0].Status.NumMessages != 1 {
		t.Errorf("list %+v", listed)
	}
	copied := must(client.Copy(imap.UIDSetNum(1), "Entwürfe").Wait())(t)
	if copied.SourceUIDs.String() != "1" || copied.DestUIDs.String() != "1" {
		t.Errorf("copy %+v", copied)
	}
	found := must(client.UIDSearch(&imap.SearchCriteria{Body: []string{"WALRUS"}}, &imap.SearchOptions{ReturnAll: true, ReturnCount: true}).Wait())(t)
	if found.Count != 1 || found.All.String() != "1" {
		t.Errorf("search %+v", found)
	}
	idle := must(client.Idle())(t)
	p.put("INBOX", simpleMail(1))
	for n := uint32(0); n != 2; n = <-exists {
	}
	if err := idle.Close(); err != nil {
		t.Fatal(err)
	}
	if err := idle.Wait(); err != nil {
		t.Fatal(err)
	}
	must(client.Move(imap.SeqSetNum(1, 2), "Entwürfe").Wait())(t)
	status := must(client.Status("Entwürfe", &imap.StatusOptions{NumMessages: true, UIDNext: true}).Wait())(t)
	if *status.NumMessages != 3 || status.UIDNext != 4 {
		t.Errorf("status %+v", status)
	}
	if err := client.Logout().Wait(); err != nil {
		t.Error(err)
	}
}
