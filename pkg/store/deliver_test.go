package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// engine takes what it is given, but fails for the accounts in errs.
type engine struct {
	store.Store
	calls int
	got   []store.Target
	errs  map[string]error
}

func (e *engine) Deliver(_ context.Context, _ mail.TraceID, _ mail.Body, targets []store.Target) []error {
	e.calls++
	e.got = append(e.got, targets...)
	errs := make([]error, len(targets))
	for i, t := range targets {
		errs[i] = e.errs[t.Account]
	}
	return errs
}

// users has everybody whose name does not begin with "no".
type users struct {
	directory.Directory
	err error
}

func (u users) Recipient(_ context.Context, a mail.Address) (directory.Recipient, error) {
	if u.err != nil {
		return directory.Recipient{}, u.err
	}
	if strings.HasPrefix(a.Local, "no") {
		return directory.Recipient{}, directory.ErrNotFound
	}
	return directory.Recipient{User: &directory.User{UID: a.Key().Local, Domain: a.Domain, Status: directory.Active,
		Quota: directory.QuotaDefault, MessageQuota: 7}}, nil
}

func addressed(locals ...string) []mail.Recipient {
	var out []mail.Recipient
	for _, l := range locals {
		out = append(out, mail.Recipient{Address: mail.Address{Local: l, Domain: "example.test"}})
	}
	return out
}

func replies(errs []error) []string {
	out := make([]string, len(errs))
	for i, err := range errs {
		if err != nil {
			out[i] = mail.StatusOf(err).Reply()
		}
	}
	return out
}

func TestDelivererAnswersInOrder(t *testing.T) {
	e := &engine{errs: map[string]error{
		"full@example.test": store.ErrOverQuota, "odd@example.test": errors.New("odd"), "gone@example.test": store.ErrUnavailable,
	}}
	d := store.NewDeliverer(e, users{}, store.Quota{Bytes: 1000, Messages: -1})
	env := mail.Envelope{From: mail.Address{Local: "x", Domain: "y.test"}, To: addressed("Alice", "nobody", "full", "odd", "nobody2", "gone", "bob")}
	env.To[6].Mailbox, env.To[6].Flags, env.To[6].SentCopy = "Sent", []string{`\Seen`}, true
	want := []string{"", "550 5.1.1 no such user here", "452 4.2.2 mailbox full", "451 4.3.0 temporary failure, try again later",
		"550 5.1.1 no such user here", "451 4.3.0 temporary failure, try again later", ""}
	if diff := cmp.Diff(want, replies(d.Deliver(t.Context(), env, mail.Bytes("x\r\n")))); diff != "" {
		t.Error("replies (-want +got):\n" + diff)
	}
	if e.calls != 1 {
		t.Errorf("the engine was asked %d times", e.calls)
	}
	wantBob := store.Target{Account: "bob@example.test", Mailbox: "Sent", Flags: store.Flags{System: store.Seen}, ReturnPath: env.From,
		SentCopy: true, Quota: store.Quota{Bytes: 1000, Messages: 7}}
	if diff := cmp.Diff(wantBob, e.got[4]); diff != "" {
		t.Error("target (-want +got):\n" + diff)
	}
	if got := e.got[0]; got.Account != "alice@example.test" || got.Recipient != env.To[0].Address {
		t.Errorf("target %+v", got)
	}
}

func TestDelivererNeverBouncesAnOutage(t *testing.T) {
	for _, err := range []error{directory.ErrUnavailable, directory.ErrAmbiguous, context.DeadlineExceeded, errors.New("odd")} {
		e := &engine{}
		errs := store.NewDeliverer(e, users{err: err}, store.NoQuota()).Deliver(t.Context(), mail.Envelope{To: addressed("a", "b")}, mail.Bytes("x\r\n"))
		for _, got := range errs {
			if st := mail.StatusOf(got); st == nil || st.Permanent() || !errors.Is(got, err) {
				t.Errorf("%v became %v", err, got)
			}
		}
		if e.calls != 0 {
			t.Error("the engine was asked")
		}
	}
}

// TestDelivererQuota: what can never fit is refused for good.
func TestDelivererQuota(t *testing.T) {
	full := map[string]error{"a@example.test": store.ErrOverQuota}
	for size, want := range map[int]string{1000: "452 4.2.2 mailbox full", 1001: "552 5.2.2 message exceeds the mailbox's quota"} {
		d := store.NewDeliverer(&engine{errs: full}, users{}, store.Quota{Bytes: 1000, Messages: -1})
		got := replies(d.Deliver(t.Context(), mail.Envelope{To: addressed("a")}, make(mail.Bytes, size)))
		if got[0] != want {
			t.Errorf("%d bytes: %s, want %s", size, got[0], want)
		}
	}
}
