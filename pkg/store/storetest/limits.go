package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"mailsrv/pkg/store"
)

// testLimits: hardening.md section 3 wants 5,000 mailboxes an account, names of
// 255 bytes and 20 levels.
func testLimits(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, err := s.Account(ctx, "a@x")
	must(t, err)
	long := strings.Repeat("l", 250)
	deep := strings.TrimSuffix(strings.Repeat("d/", 19), "/")
	for name, c := range map[string]struct{ err, want error }{
		"255 bytes":               {a.Create(ctx, long+"12345", ""), nil},
		"256 bytes":               {a.Create(ctx, long+"123456", ""), store.ErrBadName},
		"20 levels":               {a.Create(ctx, deep+"/e", ""), nil},
		"21 levels":               {a.Create(ctx, deep+"/e/f", ""), store.ErrBadName},
		"a child that is too low": {errors.Join(a.Create(ctx, "top/low", ""), a.Rename(ctx, "top", deep+"/t")), store.ErrBadName},
		"a child that is too far": {errors.Join(a.Create(ctx, "far/"+long, ""), a.Rename(ctx, "far", "farther")), store.ErrBadName},
		"room to rename":          {a.Rename(ctx, "far", "f"), nil},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	for _, name := range []string{"top/low", "f/" + long} {
		if _, err := a.Open(ctx, name); err != nil {
			t.Errorf("%.20s: %v", name, err)
		}
	}

	// To the last mailbox, many at once.
	list, err := a.Mailboxes(ctx)
	must(t, err)
	var wait sync.WaitGroup
	next := make(chan string)
	for range 20 {
		wait.Go(func() {
			for name := range next {
				if err := a.Create(ctx, name, ""); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for i := len(list); i < 4999; i++ {
		name := fmt.Sprint("m", i)
		if i < 4980 { // with 19 levels below it
			name, i = name+"/"+deep, i+19
		}
		next <- name
	}
	close(next)
	wait.Wait()
	for name, c := range map[string]struct{ err, want error }{
		"one too many with its level": {a.Create(ctx, "new/er", ""), store.ErrTooMany},
		"the last":                    {a.Create(ctx, "last", ""), nil},
		"one too many":                {a.Create(ctx, "more", ""), store.ErrTooMany},
		"one that is there":           {a.Create(ctx, "last", ""), store.ErrMailboxExists},
		"renamed with a level":        {a.Rename(ctx, "last", "above/it"), store.ErrTooMany},
		"renamed":                     {a.Rename(ctx, "last", "least"), nil},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if list, err = a.Mailboxes(ctx); err != nil || len(list) != 5000 {
		t.Errorf("%d mailboxes, %v", len(list), err)
	}
	// What was refused has left nothing, and what is deleted makes room.
	must(t, a.Delete(ctx, "least"))
	must(t, a.Create(ctx, "more", ""))
}

func testSubscriptions(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, err := s.Account(ctx, "a@x")
	must(t, err)
	entry := func(name string) (found store.MailboxEntry) {
		list, err := a.Mailboxes(ctx)
		must(t, err)
		for _, e := range list {
			if e.Name == name {
				found = e
			}
		}
		return found
	}
	must(t, a.Create(ctx, "Work/Deep", ""))
	must(t, a.Subscribe(ctx, "Work/Deep", true))
	must(t, a.Delete(ctx, "Work/Deep"))
	if e := entry("Work/Deep"); !e.Subscribed || !e.NonExistent {
		t.Errorf("a subscription outlives its mailbox: %+v", e)
	}
	must(t, a.Create(ctx, "Work/Deep", ""))
	if e := entry("Work/Deep"); !e.Subscribed || e.NonExistent {
		t.Errorf("and is there for a new one: %+v", e)
	}
	// A name is renamed, a subscription is not (RFC 9051 §6.3.6).
	must(t, a.Rename(ctx, "Work", "Play"))
	if e := entry("Work/Deep"); !e.Subscribed || !e.NonExistent {
		t.Errorf("after a rename: %+v", e)
	}
	if e := entry("Play/Deep"); e.Subscribed || e.NonExistent {
		t.Errorf("after a rename: %+v", e)
	}
	must(t, a.Subscribe(ctx, "Work/Deep", false))
	if e := entry("Work/Deep"); e.Name != "" {
		t.Errorf("unsubscribed: %+v", e)
	}
	// A level above that was deleted cannot be selected, and is gone with what is below.
	must(t, a.Delete(ctx, "Play"))
	if _, err := a.Open(ctx, "Play"); !errors.Is(err, store.ErrNoMailbox) || !entry("Play").NoSelect {
		t.Errorf("a level alone: %v %+v", err, entry("Play"))
	}
	if err := a.Delete(ctx, "Play"); !errors.Is(err, store.ErrHasChildren) {
		t.Errorf("a level with a mailbox below: %v", err)
	}
	must(t, a.Delete(ctx, "Play/Deep"))
	must(t, a.Delete(ctx, "Play"))
	// INBOX in any case, also as a level; it stays when it is renamed.
	must(t, a.Create(ctx, "inBox/Sub", ""))
	if e := entry("INBOX/Sub"); e.Name == "" {
		t.Error("INBOX is one, in any case")
	}
	must(t, a.Rename(ctx, "inbox", "Kept"))
	if entry("INBOX").Name == "" || entry("INBOX/Sub").Name == "" || entry("Kept").Name == "" {
		t.Error("INBOX and what is below it stay")
	}
}
