package imapserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// TestSlowReaderDelaysNobody: a client asks for much and does not read it; what
// others do in the same mailbox meanwhile is done.
func TestSlowReaderDelaysNobody(t *testing.T) {
	p := newPeer(t, nil)
	box, err := p.account().Open(context.Background(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 76) + "\r\n"
	for i := range 100 {
		body := mail.Bytes(append(simpleMail(i), strings.Repeat(line, 3000)...)) // 23 MB in all: more than sockets hold
		if _, err := box.Append(context.Background(), body, store.Flags{}, time.Time{}, store.NoQuota()); err != nil {
			t.Fatal(err)
		}
	}
	slow := p.chat(context.Background())
	slow.ok("SELECT INBOX")
	slow.send("f FETCH 1:* (UID BODY.PEEK[])\r\n")
	if first := slow.line(); !strings.HasPrefix(first, "* 1 FETCH") {
		t.Fatal(first)
	}
	quick := p.chat(context.Background())
	for _, command := range []string{
		"SELECT INBOX", "FETCH 1:* (UID FLAGS ENVELOPE)", "FETCH 50 (BODY.PEEK[])", "STORE 1:* +FLAGS (\\Flagged)", "SEARCH BODY xxx", "COPY 1:* Copies",
		"STORE 99:100 +FLAGS (\\Deleted)", "EXPUNGE", "NOOP",
	} {
		if strings.HasPrefix(command, "COPY") {
			quick.ok("CREATE Copies")
		}
		quick.ok(command)
	}
	// The slow one gets all that was there when it asked and still is, in order.
	seen := 0
	for {
		line := slow.line()
		if strings.HasPrefix(line, "* ") && strings.Contains(line, " FETCH (UID") {
			seen++
		}
		if strings.HasPrefix(line, "f ") {
			if !strings.HasPrefix(line, "f OK") {
				t.Error(line)
			}
			break
		}
	}
	if seen < 97 {
		t.Errorf("%d messages after the first", seen)
	}
}

// TestPipelinedCommands: commands that come at once are answered in their order,
// each with what the one before left.
func TestPipelinedCommands(t *testing.T) {
	p := newPeer(t, nil)
	for i := range 3 {
		p.put("INBOX", simpleMail(i))
	}
	c := p.chat(context.Background())
	c.send("a SELECT INBOX\r\nb STORE 1 +FLAGS.SILENT (\\Deleted)\r\nc SEARCH DELETED\r\nd EXPUNGE\r\ne FETCH 1:* (UID)\r\n" +
		"f IDLE\r\nDONE\r\ng APPEND INBOX {14+}\r\nSubject: x\r\n\r\n\r\nh NOOP\r\ni SEARCH ALL\r\nj LOGOUT\r\n")
	var tags, rest []string
	for line := c.line(); line != "(closed)"; line = c.line() {
		if tag, answer, _ := strings.Cut(line, " "); len(tag) == 1 && tag != "*" && tag != "+" {
			if !strings.HasPrefix(answer, "OK") {
				t.Error(line)
			}
			tags = append(tags, tag)
		} else if !strings.HasPrefix(line, "* OK") && !strings.HasPrefix(line, "* FLAGS") {
			rest = append(rest, line)
		}
	}
	if got := strings.Join(tags, ""); got != "abcdefghij" {
		t.Errorf("answers come in the order %s", got)
	}
	want := []string{"* 3 EXISTS", "* 3 RECENT", "* SEARCH 1", "* 1 EXPUNGE", "* 2 RECENT", "* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)", "+ idling",
		"* 3 EXISTS", "* 3 RECENT", "* SEARCH 1 2 3", "* BYE logging out"}
	if strings.Join(rest, "\n") != strings.Join(want, "\n") {
		t.Errorf("the server says\n%s\nand not\n%s", strings.Join(rest, "\n"), strings.Join(want, "\n"))
	}
}

// TestKeywordsWithoutNumber: there is no bound on how many keywords a mailbox knows.
func TestKeywordsWithoutNumber(t *testing.T) {
	const n = 2000
	p := newPeer(t, nil)
	box, err := p.account().Open(context.Background(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Incoming
	for i := range n / 10 {
		var f store.Flags
		for k := range 10 {
			f.Keywords = append(f.Keywords, fmt.Sprintf("k%04d", i*10+k))
		}
		all = append(all, store.Incoming{Body: mail.Bytes(simpleMail(i)), Flags: f})
	}
	if _, err := box.AppendAll(context.Background(), all, store.NoQuota()); err != nil {
		t.Fatal(err)
	}
	c := p.chat(context.Background())
	told := strings.Join(c.ok("SELECT INBOX"), "\n")
	for i := range n {
		if !strings.Contains(told, fmt.Sprintf(" k%04d", i)) {
			t.Fatalf("SELECT does not tell keyword %d", i)
		}
	}
	if got := c.ok("SEARCH KEYWORD K1234")[0]; got != "* SEARCH 124" {
		t.Error(got)
	}
	c.ok("STORE 1 +FLAGS.SILENT (another)")
	if got := c.ok("SEARCH KEYWORD another")[0]; got != "* SEARCH 1" {
		t.Error(got)
	}
}

// TestMailboxNamesInAnyScript: what one client names in UTF-8 another finds in
// modified UTF-7, and the other way.
func TestMailboxNamesInAnyScript(t *testing.T) {
	names := []string{"Ελληνικά", "Русский/Почта", "日本語/受信", "हिन्दी", "العربية", "עברית", "ไทย", "한국어", "Grüße & Küsse", "😀/🇨🇭", "A&B", "e\u0301"}
	p := newPeer(t, nil)
	modern, old := p.chat(context.Background()), p.chat(context.Background())
	modern.ok("ENABLE IMAP4rev2")
	for _, name := range names {
		modern.ok(fmt.Sprintf("CREATE %q", name))
		listed := modern.ok(fmt.Sprintf("LIST \"\" %q", name))
		if len(listed) != 2 || !strings.Contains(listed[0], name) {
			t.Errorf("%s is listed as %q", name, listed)
			continue
		}
	}
	for _, line := range old.ok(`LIST "" *`) {
		encoded, ok := strings.CutPrefix(line, `* LIST (\HasNoChildren) "/" `)
		if !ok || strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
			if ok {
				t.Errorf("not in UTF-7: %q", line)
			}
			continue
		}
		old.ok("SELECT " + encoded)
		old.ok("UNSELECT")
		if encoded != "INBOX" {
			old.ok("DELETE " + encoded)
		}
	}
	for _, line := range modern.ok(`LIST "" *`) {
		if strings.Contains(line, `(\HasNoChildren)`) && !strings.HasSuffix(line, " INBOX") && !strings.Contains(line, "Русский") && !strings.Contains(line, "日本語") && !strings.Contains(line, "😀") {
			t.Errorf("still there: %q", line)
		}
	}
}
