package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/store"
)

func testMetadata(t *testing.T, s store.Store) {
	a, ok := s.(store.Annotator)
	if !ok {
		t.Skip("the store keeps no metadata")
	}
	ctx := t.Context()
	accounts(t, s, "a@x", "b@x")
	set := func(mailbox, reader, entry, value string) error {
		change := store.Annotation{Entry: entry, Value: []byte(value)}
		if value == "NIL" {
			change.Value = nil
		}
		return a.Annotate(ctx, "a@x", mailbox, reader, []store.Annotation{change})
	}
	must(t, set("Work", "a@x", "/private/comment", "alice's"))
	must(t, set("Work", "b@x", "/private/comment", "bob's"))
	must(t, set("Work", "b@x", "/shared/comment", "all's"))
	must(t, set("Work", "a@x", "/shared/none", ""))
	must(t, set("", "b@x", "/private/comment", "the server, to bob"))
	must(t, set("Work", "a@x", "/private/gone", "x"))
	must(t, set("Work", "a@x", "/private/gone", "NIL"))
	for _, err := range []error{set("Nothing", "a@x", "/shared/x", "y"), a.Annotate(ctx, "no@x", "INBOX", "a@x", nil)} {
		if !errors.Is(err, store.ErrNoMailbox) {
			t.Errorf("no such mailbox: %v", err)
		}
	}
	entry := func(name, value string) store.Annotation { return store.Annotation{Entry: name, Value: []byte(value)} }
	check := func(mailbox, reader string, want ...store.Annotation) {
		t.Helper()
		got, err := a.Annotations(ctx, "a@x", mailbox, reader)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q to %s: %v %s", mailbox, reader, err, diff)
		}
	}
	check("Work", "a@x", entry("/private/comment", "alice's"), entry("/shared/comment", "all's"), entry("/shared/none", ""))
	check("Work", "b@x", entry("/private/comment", "bob's"), entry("/shared/comment", "all's"), entry("/shared/none", ""))
	check("", "b@x", entry("/private/comment", "the server, to bob"))
	check("", "a@x")

	// All or none, within the limits.
	must(t, set("INBOX", "b@x", "/private/kept", "yes"))
	many := make([]store.Annotation, store.MaxAnnotations+1)
	for i := range many {
		many[i] = entry(fmt.Sprintf("/private/%d", i), "")
	}
	if err := a.Annotate(ctx, "a@x", "INBOX", "b@x", many); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("without end: %v", err)
	}
	check("INBOX", "b@x", entry("/private/kept", "yes"))
	must(t, a.Annotate(ctx, "a@x", "INBOX", "b@x", many[:store.MaxAnnotations-1]))
	big, at := bytes.Repeat([]byte("x"), store.MaxAnnotation), 0
	var err error
	for ; err == nil && at <= store.MaxAnnotated/store.MaxAnnotation; at++ {
		err = a.Annotate(ctx, "a@x", "Work", "b@x", []store.Annotation{{Entry: fmt.Sprintf("/shared/%d", at), Value: big}})
	}
	if !errors.Is(err, store.ErrTooMany) || at < store.MaxAnnotated/store.MaxAnnotation-1 {
		t.Errorf("after %d values: %v", at, err)
	}
	if err := set("INBOX", "b@x", "/private/kept", "still room for what is bob's"); err != nil {
		t.Error(err)
	}

	// They go with their mailbox.
	acc, err := s.Account(ctx, "a@x")
	must(t, err)
	must(t, acc.Rename(ctx, "Work", "Moved"))
	if got, err := a.Annotations(ctx, "a@x", "Moved", "b@x"); err != nil || len(got) < 3 {
		t.Errorf("after a rename: %d %v", len(got), err)
	}
	must(t, acc.Delete(ctx, "Moved"))
	must(t, acc.Create(ctx, "Moved", ""))
	check("Moved", "b@x")
	must(t, set("Moved", "a@x", "/shared/comment", "there is room again"))
}
