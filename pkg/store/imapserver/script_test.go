package imapserver_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailsrv/pkg/store/imapserver"
)

// TestScripts runs the dialogues of testdata/script. Their lines are:
//
//	C: text    the client sends text and CRLF (2C: the second client)
//	S: text    the server answers exactly this line
//	S~ regexp  the server answers a line that matches
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
		name := strings.TrimRight(who, "CS:~")
		switch strings.TrimPrefix(who, name) {
		case "C:":
			client(name).send(unescape(text) + "\r\n")
		case "S:":
			if got := client(name).line(); got != unescape(text) {
				t.Fatalf("%s:%d: server said\n  %q, want\n  %q", file, n+1, got, text)
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
