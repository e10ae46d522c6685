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

// TestSpamAssassin has a real content filter in the path: the test message that
// all such filters know is refused with the filter's words, another passes and
// has its verdict in the header.
func TestSpamAssassin(t *testing.T) {
	c := milter.New(milter.Options{Network: "tcp", Address: peertest.StartSpamAssassin(t), Log: slog.New(slog.DiscardHandler)})
	judge := func(line string) (*mta.Evidence, error) {
		e := evidence()
		text := strings.Replace(letter, "hello", line, 1)
		e.Body, e.Header.Block = mail.Bytes(text), []byte(text[:strings.Index(text, line)])
		for _, at := range []mta.Stage{mta.AtSender, mta.AtRecipient, mta.AtMessage} {
			if err := c.Check(t.Context(), at, e); err != nil {
				return e, err
			}
		}
		return e, nil
	}
	e, err := judge("hello")
	if got := string(e.Fields); err != nil || !strings.Contains(got, "X-Spam-Checker-Version: SpamAssassin") || !strings.Contains(got, "X-Spam-Status: No") {
		t.Errorf("%v, SpamAssassin adds %q", err, got)
	}
	_, err = judge("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
	if got := mail.StatusOf(err); !mail.IsPermanent(err) || !strings.HasPrefix(got.Reply(), "550 5.7.1 ") {
		t.Errorf("the test spam: %v", err)
	}
}
