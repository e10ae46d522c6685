package imapserver_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/store/imapserver"
)

// TestLongCommandTellsItsProgress: a SEARCH says how far it is, a COPY that it
// goes on, and who asks for neither hears nothing (RFC 9585).
func TestLongCommandTellsItsProgress(t *testing.T) {
	told := func(every time.Duration, command string) (progress, rest []string) {
		p := newPeer(t, func(o *imapserver.Options) { o.Progress = every })
		for n := range 30 {
			p.put("INBOX", simpleMail(n))
		}
		if err := p.account().Create(context.Background(), "Elsewhere", ""); err != nil {
			t.Fatal(err)
		}
		c := p.chat(context.Background())
		c.ok("SELECT INBOX")
		for _, line := range c.ok(command) {
			if strings.Contains(line, "INPROGRESS") {
				progress = append(progress, line)
			} else {
				rest = append(rest, line)
			}
		}
		return progress, rest
	}
	progress, rest := told(time.Nanosecond, "SEARCH BODY 17")
	if len(progress) == 0 || rest[0] != "* SEARCH 18" {
		t.Fatalf("SEARCH says %q and %q", progress, rest)
	}
	last := regexp.MustCompile(`^\* OK \[INPROGRESS \("t" 29 30\)\] `)
	if line := progress[len(progress)-1]; !last.MatchString(line) {
		t.Errorf("the last word of SEARCH is %q", line)
	}
	progress, _ = told(time.Nanosecond, "COPY 1:* Elsewhere")
	for _, line := range progress {
		if !strings.HasPrefix(line, `* OK [INPROGRESS ("t" NIL NIL)] `) {
			t.Errorf("COPY says %q", line)
		}
	}
	if len(progress) == 0 {
		t.Error("COPY says nothing")
	}
	if progress, _ = told(time.Nanosecond, "ESEARCH IN (mailboxes Elsewhere) BODY 17"); len(progress) != 1 {
		t.Errorf("ESEARCH of one mailbox says %q", progress)
	}
	for _, command := range []string{"SEARCH BODY 17", "COPY 1:* Elsewhere"} {
		if progress, _ := told(time.Hour, command); len(progress) > 0 {
			t.Errorf("%s says %q", command, progress)
		}
	}
}
