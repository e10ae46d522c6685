package mta_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// sink is a Deliverer that keeps what it gets, and answers by address.
type sink struct {
	mu      sync.Mutex
	got     []string // "from -> to:mailbox[flags], ..." one an envelope, in order of arrival
	bodies  []string
	answers map[string]error // by address, or "*"
}

func (s *sink) Deliver(_ context.Context, env mail.Envelope, body mail.Body) []error {
	rc, err := body.Open()
	if err != nil {
		return mail.All(len(env.To), err)
	}
	defer rc.Close()
	text, err := io.ReadAll(rc)
	if err != nil || int64(len(text)) != body.Size() {
		return mail.All(len(env.To), fmt.Errorf("%d bytes of %d: %v", len(text), body.Size(), err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(env.To))
	var to []string
	for i, r := range env.To {
		if errs[i] = s.answers["*"]; errs[i] == nil {
			errs[i] = s.answers[r.Address.String()]
		}
		name := r.Address.String()
		if r.Mailbox != "" {
			name += ":" + r.Mailbox
		}
		if r.SentCopy {
			name += " sent " + strings.Join(r.Flags, " ")
		}
		to = append(to, name)
	}
	s.got = append(s.got, env.From.String()+" -> "+strings.Join(to, ", "))
	s.bodies = append(s.bodies, string(text))
	return errs
}

// house is an Agent with a store on each host, and a queue.
type house struct {
	people  *people
	stores  map[string]*sink
	queue   *sink
	options mta.Options
	agent   *mta.Agent
	out     mta.Outcome
	counts  map[string]int
}

func newHouse(t testing.TB, checks ...mta.Check) *house {
	h := &house{people: office(t), queue: &sink{}, counts: make(map[string]int),
		stores: map[string]*sink{"a.us.example": {}, "b.us.example": {}}}
	r := resolver(t, h.people)
	r.Decided = func(d mta.DomainDecision) { h.counts[d.Name+" is "+string(d.Kind)]++ }
	h.options = mta.Options{Hostname: "mx.us.example", Resolver: r, Stores: h.find, Queue: h.queue,
		DefaultDomain: "us.example", SentMailbox: "Sent", MaxSize: 20_000, MaxRecipients: 5,
		Log: slog.New(slog.DiscardHandler), Accepted: func(o mta.Outcome) { h.out = o }, Checks: checks}
	h.agent = mta.New(h.options)
	return h
}

func (h *house) find(host string) (mail.Deliverer, error) {
	if s := h.stores[host]; s != nil {
		return s, nil
	}
	return nil, errors.New("no route to " + host)
}

func stranger() *mta.Session {
	return &mta.Session{Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.7:4000"), Service: directory.ServiceSMTP},
		Helo: "far.test", ESMTP: true, Log: slog.New(slog.DiscardHandler)}
}

func (h *house) login(uid string) *mta.Session {
	s := stranger()
	s.Submission = true
	s.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	i := slices.IndexFunc(h.people.users, func(u *directory.User) bool { return u.UID == uid })
	s.Identity = &auth.Identity{User: *h.people.users[i], Login: uid}
	return s
}

// send runs a whole transaction and returns the first error.
func (h *house) send(t testing.TB, s *mta.Session, from, body string, to ...string) error {
	t.Helper()
	m := mta.Sender{}
	if from != "" {
		m.From = addr(t, from)
	}
	tx, err := h.agent.Begin(t.Context(), s, m)
	if err != nil {
		return err
	}
	for _, a := range to {
		r := mail.Recipient{Address: mail.Address{Local: a}}
		if strings.Contains(a, "@") {
			r.Address = addr(t, a)
		}
		if err := tx.Recipient(t.Context(), r); err != nil {
			return err
		}
	}
	return tx.Data(t.Context(), mail.Bytes(strings.ReplaceAll(body, "\n", "\r\n")))
}

const letter = "From: Alice <alice@us.example>\nTo: x@far.test\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nMessage-ID: <1@us.example>\n\nhello\n"

func TestRecipientPolicy(t *testing.T) {
	tests := []struct {
		name, login, from, to, want string
	}{
		{"local", "", "x@far.test", "alice@us.example", ""},
		{"relay", "", "x@far.test", "y@far.test", "550 5.7.1 relay denied"},
		{"relay to a literal", "", "x@far.test", "y@[192.0.2.1]", "550 5.7.1 relay denied"},
		{"relay from our own address", "", "alice@us.example", "y@far.test", "550 5.7.1 relay denied"},
		{"percent", "", "x@far.test", "y%far.test@us.example", "550 5.1.1 no such user here"},
		{"postmaster", "", "x@far.test", "postmaster", ""},
		{"bounce", "", "", "alice@us.example", ""},
		{"submission outside", "alice", "alice@us.example", "y@far.test", ""},
		{"alternate", "alice", "a.smith@us.test", "y@far.test", ""},
		{"detail", "alice", "alice+shop@us.example", "y@far.test", ""},
		{"vanity", "alice", "whatever@vanity.example", "y@far.test", ""},
		{"somebody else", "alice", "bob@us.example", "y@far.test", "550 5.7.1 sender address is not yours"},
		{"foreign", "alice", "x@far.test", "y@far.test", "550 5.7.1 sender address is not yours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			s := stranger()
			if tt.login != "" {
				s = h.login(tt.login)
			}
			if got := reply(h.send(t, s, tt.from, letter, tt.to)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	h := newHouse(t)
	big := letter + strings.Repeat("x\n", 10_000)
	if got := reply(h.send(t, stranger(), "", big, "alice@us.example")); got != "552 5.3.4 message is larger than 20000 bytes" {
		t.Error(got)
	}
	if _, err := h.agent.Begin(t.Context(), stranger(), mta.Sender{Size: 20_001}); reply(err) != "552 5.3.4 message is larger than 20000 bytes" {
		t.Error(err)
	}
	six := slices.Repeat([]string{"alice@us.example"}, 6)
	if got := reply(h.send(t, stranger(), "", letter, six...)); got != "452 4.5.3 too many recipients" {
		t.Error(got)
	}
	if got := reply(h.send(t, stranger(), "", letter+strings.Repeat("x\n", 1000), "bob@us.example")); got != "552 5.2.3 message is larger than this recipient takes (2000 bytes)" {
		t.Error(got)
	}
	loop := strings.Repeat("Received: by x\n", 51) + letter
	if got := reply(h.send(t, stranger(), "", loop, "alice@us.example")); got != "554 5.4.6 too many hops, the message goes round in circles" {
		t.Error(got)
	}
	if len(h.queue.got)+len(h.stores["a.us.example"].got) != 0 {
		t.Error("a refused message was delivered")
	}
}

func TestHeaderForm(t *testing.T) {
	tests := []struct{ name, login, body, want string }{
		{"two From", "", "From: a@us.example\nFrom: b@us.example\n\n", "550 5.6.0 more than one From field"},
		{"two From in two cases", "", "From: a@us.example\nfrOM: b@us.example\n\n", "550 5.6.0 more than one From field"},
		{"space", "", "From : a@us.example\n\n", "550 5.6.0 white space before the colon of the From field"},
		{"two domains", "", "From: a@us.example, b@far.test\n\n", "550 5.6.0 a From field with addresses of several domains"},
		{"nul", "", "From: a@us.example\nX: \x00\n\n", "550 5.6.0 NUL in the message header"},
		{"continuation", "", " x\nFrom: a@us.example\n\n", "550 5.6.0 the message begins with a continuation line"},
		{"no From from outside", "", "Subject: x\n\n", "550 5.6.0 no From field"},
		{"only a header", "", "From: x@far.test\n", ""},
		{"no header", "", "\nx\n", "550 5.6.0 no From field"},
		{"empty", "", "", "550 5.6.0 no From field"},
		{"no From", "alice", "Subject: x\n\n", "550 5.6.0 a submission needs one From field"},
		{"empty From", "alice", "From: \n\n", "550 5.6.0 a submission needs one From field"},
		{"other's From", "alice", "From: bob@us.example\n\n", "550 5.7.1 From field is not yours"},
		{"name is another's address", "alice", "From: \"bob@us.example\" <alice@us.example>\n\n", ""},
		{"hidden From", "alice", "From: alice@us.example <bob@us.example>\n\n", "550 5.7.1 From field is not yours"},
		{"broken From", "alice", "From: alice\n\n", "550 5.6.0 malformed From field"},
		{"group", "alice", "From: team: alice@us.example, a.smith@us.example;\n\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			s := stranger()
			if tt.login != "" {
				s = h.login(tt.login)
			}
			if got := reply(h.send(t, s, "alice@us.example", tt.body, "alice@us.example")); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestM3HeaderIsBounded is row M3 of hardening.md.
func TestM3HeaderIsBounded(t *testing.T) {
	h := newHouse(t)
	agent := mta.New(mta.Options{Resolver: resolver(t, h.people), Stores: h.find, Queue: h.queue, Log: slog.New(slog.DiscardHandler)})
	tx, err := agent.Begin(t.Context(), stranger(), mta.Sender{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example")}); err != nil {
		t.Fatal(err)
	}
	err = tx.Data(t.Context(), mail.Bytes(strings.Repeat("X: y\r\n", 200_000)))
	if got := reply(err); got != "552 5.6.0 message header is larger than 1048576 bytes" {
		t.Error(got)
	}
}

func TestDeliverThrough(t *testing.T) {
	permanent := mail.Refuse(2, 2, "mailbox full for good")
	tests := []struct {
		name, login string
		to          []string
		a, b        error // what the stores say
		wantA       string
		wantB       string
		wantQueue   string
		err         string
	}{
		{name: "one store", to: []string{"alice@us.example", "a.smith@us.test", "self@us.example"},
			wantA: "s@far.test -> alice@us.example, self@us.example", wantQueue: "s@far.test -> x@far.test"},
		{name: "two stores", to: []string{"alice@us.example", "bob@us.example"},
			wantA: "s@far.test -> alice@us.example", wantB: "s@far.test -> bob@us.example"},
		{name: "store down", to: []string{"alice@us.example", "bob@us.example"}, b: errors.New("connection refused"),
			wantA: "s@far.test -> alice@us.example", wantB: "s@far.test -> bob@us.example", wantQueue: "s@far.test -> bob@us.example:INBOX"},
		{name: "all refused", to: []string{"alice@us.example", "bob@us.example"}, a: permanent, b: permanent,
			wantA: "s@far.test -> alice@us.example", wantB: "s@far.test -> bob@us.example", err: "550 5.2.2 mailbox full for good"},
		{name: "one refused", to: []string{"alice@us.example", "bob@us.example"}, b: permanent,
			wantA: "s@far.test -> alice@us.example", wantB: "s@far.test -> bob@us.example", wantQueue: "s@far.test -> bob@us.example:INBOX"},
		{name: "held", to: []string{"held@us.example"}, wantQueue: "s@far.test -> held@us.example"},
		{name: "nobody wants it", to: []string{"nomail@us.example"}},
		{name: "list", to: []string{"team@us.example"},
			wantA: "s@far.test -> alice@us.example", wantB: "s@far.test -> bob@us.example",
			wantQueue: "owner@us.example -> x@far.test | s@far.test -> inactive@us.example, held@us.example"},
		{name: "submission", login: "alice", to: []string{"y@far.test", "self@us.example", "bob@us.example"},
			wantA:     `alice@us.example -> self@us.example, alice@us.example:Sent sent \Seen`,
			wantB:     "alice@us.example -> bob@us.example",
			wantQueue: "alice@us.example -> y@far.test, x@far.test"},
		{name: "to herself", login: "alice", to: []string{"alice@us.example"},
			wantA: `alice@us.example -> alice@us.example, alice@us.example:Sent sent \Seen`},
		{name: "submission with her store down", login: "alice", to: []string{"y@far.test"}, a: errors.New("down"),
			wantA:     `alice@us.example -> alice@us.example:Sent sent \Seen`,
			wantQueue: `alice@us.example -> y@far.test, alice@us.example:Sent sent \Seen`},
		{name: "submission with no room for the copy", login: "alice", to: []string{"y@far.test"}, a: permanent,
			wantA:     `alice@us.example -> alice@us.example:Sent sent \Seen`,
			wantQueue: `alice@us.example -> y@far.test`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			h.stores["a.us.example"].answers = map[string]error{"*": tt.a}
			h.stores["b.us.example"].answers = map[string]error{"*": tt.b}
			s, from := stranger(), "s@far.test"
			if tt.login != "" {
				s, from = h.login(tt.login), tt.login+"@us.example"
			}
			if got := reply(h.send(t, s, from, letter, tt.to...)); got != tt.err {
				t.Fatalf("%q, want %q", got, tt.err)
			}
			got := []string{strings.Join(h.stores["a.us.example"].got, " | "), strings.Join(h.stores["b.us.example"].got, " | "), strings.Join(h.queue.got, " | ")}
			if diff := cmp.Diff([]string{tt.wantA, tt.wantB, tt.wantQueue}, got); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSuccessReportsAreTheQueues(t *testing.T) {
	h := newHouse(t)
	tx, err := h.agent.Begin(t.Context(), stranger(), mta.Sender{From: addr(t, "s@far.test")})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Recipient(t.Context(), mail.Recipient{Address: addr(t, "alice@us.example"), Notify: "SUCCESS"}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Data(t.Context(), mail.Bytes("From: s@far.test\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"s@far.test -> alice@us.example:INBOX"}, h.queue.got); diff != "" {
		t.Errorf("queued (-want +got):\n%s", diff)
	}
}

func TestQueueFailureIsTransient(t *testing.T) {
	h := newHouse(t)
	h.queue.answers = map[string]error{"*": mail.Refuse(3, 0, "disk on fire")}
	if got := reply(h.send(t, h.login("alice"), "alice@us.example", letter, "y@far.test")); got != "451 4.3.0 cannot queue the message now, try again later" {
		t.Error(got)
	}
}

func TestOneDecisionPerDomain(t *testing.T) {
	h := newHouse(t)
	if err := h.send(t, h.login("alice"), "alice@us.example", letter, "x@far.test", "y@far.test", "bob@us.example", "bob@us.test", "self@us.example"); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"far.test is external": 1, "us.example is hosted": 1, "us.test is alias of hosted": 1}
	if diff := cmp.Diff(want, h.counts); diff != "" {
		t.Errorf("decisions (-want +got):\n%s", diff)
	}
	slices.Sort(h.people.asked)
	if diff := cmp.Diff([]string{"far.test", "us.example", "us.test"}, h.people.asked); diff != "" {
		t.Errorf("the directory was asked for domains (-want +got):\n%s", diff)
	}
}

func TestAmendedMessage(t *testing.T) {
	h := newHouse(t)
	s := h.login("alice")
	s.Helo = "laptop\r\nX-Evil: 1"
	body := "From: alice@us.example\nBcc: secret@far.test,\n more@far.test\nSubject: x\n\nbody\n"
	if err := h.send(t, s, "alice@us.example", body, "bob@us.example"); err != nil {
		t.Fatal(err)
	}
	if err := h.send(t, stranger(), "x@far.test", "From: x@far.test\nBcc: kept\n\nbody\n", "bob@us.example", "bob@us.test"); err != nil {
		t.Fatal(err)
	}
	blur := strings.NewReplacer("\r\n", "\n")
	var got []string
	for _, b := range h.stores["b.us.example"].bodies {
		b = regexp.MustCompile(`[a-z0-9]{26}`).ReplaceAllString(blur.Replace(b), "TRACE")
		got = append(got, regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} [0-9:]{8} [-+]\d{4}`).ReplaceAllString(b, "NOW"))
	}
	want := []string{
		"Received: from laptop??X-Evil:?1 ([192.0.2.7])\n\tby mx.us.example with ESMTPSA id TRACE\n\t(TLS 1.3 TLS_AES_128_GCM_SHA256)\n" +
			"\tfor <bob@us.example>;\n\tNOW\nMessage-ID: <TRACE@mx.us.example>\nDate: NOW\nFrom: alice@us.example\nSubject: x\n\nbody\n",
		"Received: from far.test ([192.0.2.7])\n\tby mx.us.example with ESMTP id TRACE;\n\tNOW\nFrom: x@far.test\nBcc: kept\n\nbody\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
}

func TestTraceOfTrustedPeerIsKept(t *testing.T) {
	h := newHouse(t)
	trace := mail.NewTraceID()
	tx, err := h.agent.Begin(t.Context(), stranger(), mta.Sender{Trace: trace})
	if err != nil || tx.Trace() != trace {
		t.Errorf("%v, %v", tx, err)
	}
}
