package milter_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dkim"
	"mailsrv/pkg/mta/milter"
	"mailsrv/pkg/peertest"
)

// TestOpenDKIM shows a message that we signed to OpenDKIM, a real milter.
func TestOpenDKIM(t *testing.T) {
	keys, err := dkim.OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	made, err := keys.Make("far.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]string{}
	for _, k := range made {
		name, value, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		records[name] = value
	}
	if err := keys.Activate("far.test"); err != nil {
		t.Fatal(err)
	}
	head, err := keys.Sign(t.Context(), "far.test", mail.Bytes(letter))
	if err != nil {
		t.Fatal(err)
	}
	c := milter.New(milter.Options{Network: "tcp", Address: peertest.StartOpenDKIM(t, records), Log: slog.New(slog.DiscardHandler)})
	for change, want := range map[string]string{"hello": "dkim=pass", "hullo": "dkim=fail"} {
		e := evidence()
		text := string(head) + strings.Replace(letter, "hello", change, 1)
		e.Body, e.Header.Block = mail.Bytes(text), []byte(text[:strings.Index(text, change)])
		if err := c.Check(t.Context(), mta.AtMessage, e); err != nil {
			t.Fatal(err)
		}
		if got := string(e.Fields); !strings.HasPrefix(got, "Authentication-Results: opendkim.test;") || !strings.Contains(got, want) {
			t.Errorf("%s: OpenDKIM adds %q", change, got)
		}
	}
}
