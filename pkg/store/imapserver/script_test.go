package imapserver_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/store/imapserver"
)

// TestScripts runs the dialogues of testdata/script. Their lines are:
//
//	C: text    the client sends text and CRLF (2C: the second client)
//	S: text    the server answers exactly this line
//	S~ regexp  the server answers a line that matches
//	S> text    the server says this line after others that do not matter
//	put MAILBOX FILE FLAGS...   a message is stored meanwhile
//	limit N    before all: MaxMessage
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, func(o *imapserver.Options) { o.MaxMessage = 2000 })
	clients := map[string]*chat{}
	client := func(name string) *chat {
		if clients[name] == nil {
			clients[name] = p.chat(context.Background())
		}
		return clients[name]
	}
	for n, line := range strings.Split(string(script), "\n") {
		if args, ok := strings.CutPrefix(line, "put "); ok {
			words := strings.Fields(args)
			p.put(words[0], readMail(t, words[1]), words[2:]...)
			continue
		}
		who, text, ok := strings.Cut(line, " ")
		if !ok || strings.HasPrefix(line, "#") {
			text = ""
		}
		name := strings.TrimRight(who, "CS:~>")
		switch strings.TrimPrefix(who, name) {
		case "C:":
			client(name).send(unescape(text) + "\r\n")
		case "S:":
			if got := client(name).line(); got != unescape(text) {
				t.Fatalf("%s:%d: server said\n  %q, want\n  %q", file, n+1, got, text)
			}
		case "S>":
			for got := ""; got != unescape(text); {
				if got = client(name).line(); got == "(closed)" {
					t.Fatalf("%s:%d: server never said %q", file, n+1, text)
				}
			}
		case "S~":
			if got := client(name).line(); !regexp.MustCompile("^" + text + "$").MatchString(got) {
				t.Fatalf("%s:%d: server said\n  %q, want a match of\n  %q", file, n+1, got, text)
			}
		default:
			if line != "" && !strings.HasPrefix(line, "#") {
				t.Fatalf("%s:%d: what is %q?", file, n+1, line)
			}
		}
	}
}

// unescape lets a script hold octets that an editor would not.
func unescape(s string) string {
	return strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00").Replace(s)
}

// TestQResyncSelect is RFC 7162 §3.2.5: what a client that comes back is told.
func TestQResyncSelect(t *testing.T) {
	p := newPeer(t, nil)
	for i := range 6 {
		p.put("INBOX", simpleMail(i))
	}
	c := p.chat(t.Context())
	c.ok("ENABLE QRESYNC")
	validity := code(t, c.ok("SELECT INBOX"), "UIDVALIDITY")
	c.ok("STORE 1,3,6 +FLAGS.SILENT (\\Deleted)")
	c.ok("EXPUNGE")
	c.ok("STORE 1 +FLAGS (\\Seen)")
	p.put("INBOX", simpleMail(7), "$New")
	tests := []struct {
		params string
		want   []string
	}{
		{validity + " 7", []string{"* VANISHED (EARLIER) 1,3,6", `* 1 FETCH (UID 2 FLAGS (\Seen) MODSEQ (10))`, "* 4 FETCH (UID 7 FLAGS ($New \\Recent) MODSEQ (11))"}},
		{validity + " 7 1:3,5", []string{"* VANISHED (EARLIER) 1,3", `* 1 FETCH (UID 2 FLAGS (\Seen) MODSEQ (10))`, "* 4 FETCH (UID 7 FLAGS ($New \\Recent) MODSEQ (11))"}},
		{validity + " 9 1:4000000000 (1,3 1,3)", []string{`* 1 FETCH (UID 2 FLAGS (\Seen) MODSEQ (10))`, "* 4 FETCH (UID 7 FLAGS ($New \\Recent) MODSEQ (11))"}},
		{validity + " 11", nil},
		{validity + " 99", nil},
		{"1 1", nil},
	}
	for _, tt := range tests {
		var got []string
		for _, line := range c.ok("EXAMINE INBOX (QRESYNC (" + tt.params + "))") {
			if strings.Contains(line, "VANISHED") || strings.Contains(line, "FETCH") {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("QRESYNC (%s) (-want +got):\n%s", tt.params, diff)
		}
	}
	for _, params := range []string{"1", validity + " 0", validity + " 7 1:*", validity + " 7 (1 1)x", validity + " 7 1 (1)"} {
		if got := c.do("SELECT INBOX (QRESYNC (" + params + "))"); !strings.HasPrefix(got[len(got)-1], "t BAD") {
			t.Errorf("QRESYNC (%s): %q", params, got)
		}
	}
}

// code finds a response code's argument.
func code(t *testing.T, lines []string, name string) string {
	t.Helper()
	for _, line := range lines {
		if _, after, ok := strings.Cut(line, "["+name+" "); ok {
			value, _, _ := strings.Cut(after, "]")
			return value
		}
	}
	t.Fatalf("no %s in %q", name, lines)
	return ""
}
