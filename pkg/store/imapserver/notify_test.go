package imapserver_test

import (
	"context"
	"testing"

	"mailsrv/pkg/store/imapserver"
)

// TestNotifyIsBounded: who asks for more mailboxes than one may, or gets more of
// them later, is told so, and nothing else from then on.
func TestNotifyIsBounded(t *testing.T) {
	p := newPeer(t, func(o *imapserver.Options) { o.MaxNotified = 2 })
	c := p.chat(context.Background())
	const overflow = "* OK [NOTIFICATIONOVERFLOW] no more notifications"
	c.ok("CREATE One")
	if lines := c.ok("NOTIFY SET (PERSONAL (MessageNew MessageExpunge))"); len(lines) != 1 {
		t.Fatalf("two mailboxes: %q", lines)
	}
	if err := p.account().Create(context.Background(), "Two", ""); err != nil {
		t.Fatal(err)
	}
	if line := c.line(); line != overflow {
		t.Fatalf("a third mailbox: %q", line)
	}
	if lines := c.ok("NOTIFY SET (PERSONAL (MessageNew MessageExpunge))"); lines[0] != overflow {
		t.Fatalf("three mailboxes: %q", lines)
	}
	p.put("One", simpleMail(1))
	if lines := c.ok("NOOP"); len(lines) != 1 {
		t.Errorf("after the overflow: %q", lines)
	}
}
