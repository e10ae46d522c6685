package mta_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/sqldir"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/autoreply"
	"mailsrv/pkg/mta/moderate"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// realHouse is the MTA on its real neighbours: directory, store and queue on disk.
type realHouse struct {
	tree  *sqldir.Dir
	view  *directory.View
	store *sqlstore.Store
	queue *queue.Queue
	agent *mta.Agent
	far   *sink
	// shut makes the store unreachable; settled gets a token an attempt.
	shut    atomic.Bool
	remote  atomic.Pointer[remote] // in the place of far, if not nil
	settled chan queue.Outcome
}

type remote struct{ mail.Deliverer }

func newRealHouse(t *testing.T) *realHouse {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, err := sqldir.Open(t.Context(), filepath.Join(dir, "directory.db"), sqldir.Options{Log: log})
	fatal(err)
	t.Cleanup(func() { tree.Close() })
	base, err := directory.ParseDN("o=isp")
	fatal(err)
	o := directory.ViewOptions{Base: base, DefaultDomain: "us.example", MailHost: "a.us.example"}
	p := directory.NewProvisioner(tree, o)
	fatal(p.EnsureBase(t.Context()))
	fatal(p.AddDomain(t.Context(), "us.example", ""))
	fatal(p.AddUser(t.Context(), "alice@us.example", "", "secret", ""))
	fatal(p.AddUser(t.Context(), "bob@us.example", "", "secret", ""))
	fatal(p.AddGroup(t.Context(), "team@us.example", []string{"alice@us.example", "bob@us.example", "x@far.test"}))
	fatal(p.AddAlias(t.Context(), "sales@us.example", "bob@us.example"))
	fatal(p.AddAlias(t.Context(), "us.test", "us.example"))

	h := &realHouse{tree: tree, view: directory.NewView(tree, o), far: &sink{}, settled: make(chan queue.Outcome, 100)}
	h.store, err = sqlstore.Open(t.Context(), sqlstore.Options{Dir: filepath.Join(dir, "store"), Mailboxes: sqlstore.DefaultMailboxes(), Log: log})
	fatal(err)
	t.Cleanup(func() { h.store.Close() })
	local := store.NewDeliverer(h.store, h.view, store.NoQuota())
	stores := func(host string) (mail.Deliverer, error) {
		if h.shut.Load() || host != "a.us.example" {
			return nil, errors.New("no route to " + host)
		}
		return local, nil
	}
	key := []byte("key")
	r := &mta.Resolver{Directory: h.view, Lists: h.view, Hosts: []string{"mx.us.example"}, SRS: mta.NewSRS(key)}
	var actions map[string]mail.Deliverer
	router := mta.NewRouter(r, mta.Ways{Stores: stores, Remotes: func(string) mail.Deliverer {
		if r := h.remote.Load(); r != nil {
			return r
		}
		return h.far
	},
		Actions: func(name string) (mail.Deliverer, error) { return actions[name], nil }})
	h.queue, err = queue.Open(t.Context(), queue.Options{Dir: filepath.Join(dir, "queue"), Next: router, Hostname: "mx.us.example", Log: log,
		Attempted: func(o queue.Outcome) { h.settled <- o }})
	fatal(err)
	replies, err := autoreply.Open(t.Context(), autoreply.Options{Path: filepath.Join(dir, "autoreply.db"), Directory: h.view, Queue: h.queue, Hostname: "mx.us.example", Log: log})
	fatal(err)
	t.Cleanup(func() { replies.Close() })
	moderation := moderate.New(moderate.Options{Queue: h.queue, Directory: h.view, Key: key, Hostname: "mx.us.example", Log: log})
	actions = map[string]mail.Deliverer{mta.ActionReply: replies, mta.ActionNotify: moderation, mta.ActionDecide: moderation}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.queue.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, h.queue.Close()); err != nil {
			t.Error(err)
		}
	})
	h.agent = mta.New(mta.Options{Hostname: "mx.us.example", Resolver: r, Stores: stores, Queue: h.queue, DefaultDomain: "us.example", SentMailbox: "Sent", Log: log,
		Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.99/32")}})
	return h
}

// sendAs sends as a stranger, for whom his domain vouches or nothing does.
func (h *realHouse) sendAs(t *testing.T, from string, proven bool, to ...string) {
	t.Helper()
	s := stranger()
	if proven {
		s.Client.Addr = netip.MustParseAddrPort("192.0.2.99:25") // trusted
	}
	h.transact(t, s, from, to...)
}

func (h *realHouse) send(t *testing.T, login, from string, to ...string) {
	t.Helper()
	s := stranger()
	if login != "" {
		u, err := h.view.Verify(t.Context(), login, "secret")
		if err != nil {
			t.Fatal(err)
		}
		s.Submission, s.Identity = true, &auth.Identity{User: u, Login: login}
	}
	h.transact(t, s, from, to...)
}

func (h *realHouse) transact(t *testing.T, s *mta.Session, from string, to ...string) {
	t.Helper()
	tx, err := h.agent.Begin(t.Context(), s, mta.Sender{From: addr(t, from)})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range to {
		if err := tx.Recipient(t.Context(), mail.Recipient{Address: addr(t, a)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Data(t.Context(), mail.Bytes("From: "+from+"\r\nSubject: x\r\n\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the outcome of n attempts.
func (h *realHouse) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-h.settled:
		case <-time.After(30 * time.Second):
			t.Fatal("no attempt was made")
		}
	}
}

// mailbox returns "flags sender" for each message.
func (h *realHouse) mailbox(t *testing.T, account, name string) []string {
	t.Helper()
	a, err := h.store.Account(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	all := store.AllUIDs()
	var out []string
	for m, err := range box.Messages(t.Context(), all, store.FieldHeader) {
		if err != nil {
			t.Fatal(err)
		}
		from := ""
		for line := range strings.Lines(string(m.Header)) {
			if v, ok := strings.CutPrefix(line, "Return-Path: "); ok {
				from = strings.TrimSpace(v)
			}
		}
		out = append(out, strings.TrimSpace(strings.Join(append(m.Flags.Names(), from), " ")))
	}
	return out
}

func TestWholeHouse(t *testing.T) {
	h := newRealHouse(t)
	check := func(account, mailbox string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, h.mailbox(t, account, mailbox)); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", mailbox, account, diff)
		}
	}
	// Use case 3: alice writes to bob under two of his names, and to far.test.
	h.send(t, "alice", "alice@us.example", "bob@us.example", "sales@us.test", "y@far.test")
	check("bob@us.example", "INBOX", "<alice@us.example>")
	check("alice@us.example", "Sent", `\Seen`)
	h.wait(t, 1)
	// A stranger writes to a group while the store cannot be reached.
	h.shut.Store(true)
	h.send(t, "", "s@far.test", "team@us.example")
	h.wait(t, 3)
	h.shut.Store(false)
	if err := h.queue.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.wait(t, 1)
	check("bob@us.example", "INBOX", "<alice@us.example>", "<s@far.test>")
	check("alice@us.example", "INBOX", "<s@far.test>")
	want := []string{"alice@us.example -> y@far.test", "SRS0=far.test=s@us.example -> x@far.test"}
	got := strings.Split(regexp.MustCompile(`=[A-Z2-7]{8}=[A-Z2-7]{2}=`).ReplaceAllString(strings.Join(h.far.got, "\n"), "="), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sent outside (-want +got):\n%s", diff)
	}
	if entries, err := h.queue.List(t.Context(), queue.Filter{}); err != nil || len(entries) != 0 {
		t.Errorf("left in the queue: %+v, %v", entries, err)
	}
}

// TestRepeatedAttemptIsStoredOnce: an attempt whose outcome was lost is made
// again, and the store knows the trace.
func TestRepeatedAttemptIsStoredOnce(t *testing.T) {
	h := newRealHouse(t)
	env := mail.Envelope{From: addr(t, "s@far.test"), Trace: mail.NewTraceID(), To: []mail.Recipient{{Address: addr(t, "alice@us.example"), Mailbox: mta.Inbox}}}
	for range 2 {
		if err := h.queue.Deliver(t.Context(), env, mail.Bytes("Subject: x\r\n\r\n"))[0]; err != nil {
			t.Fatal(err)
		}
		h.wait(t, 1)
	}
	if got := h.mailbox(t, "alice@us.example", "INBOX"); len(got) != 1 {
		t.Errorf("%d copies", len(got))
	}
}

// TestBounceReachesTheSender: a refusal from outside comes back as a message.
func TestBounceReachesTheSender(t *testing.T) {
	h := newRealHouse(t)
	h.far.answers = map[string]error{"*": mail.Refuse(1, 1, "far.test said: no")}
	h.send(t, "alice", "alice@us.example", "y@far.test")
	h.wait(t, 2)
	if diff := cmp.Diff([]string{"<>"}, h.mailbox(t, "alice@us.example", "INBOX")); diff != "" {
		t.Errorf("inbox (-want +got):\n%s", diff)
	}
	a, err := h.store.Account(t.Context(), "alice@us.example")
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	body, err := box.Body(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil || !strings.Contains(string(text), "Final-Recipient: rfc822; y@far.test\r\nAction: failed\r\nStatus: 5.1.1\r\n") {
		t.Errorf("%s\n%v", text, err)
	}
}
