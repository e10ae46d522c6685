package cmd

import (
	"encoding/base64"
	"os"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// acceptedTrace finds the trace of a message that the MTA took.
var acceptedTrace = regexp.MustCompile(`msg="message accepted".* trace=(\S+)`)

// scriptTraced is "traced ROLE...": the trace of every message that the MTA took
// stands in a line of each of these roles.
func scriptTraced(ts *testscript.TestScript, neg bool, args []string) {
	t := topologyOf(ts)
	log := func(role string) string {
		text, err := os.ReadFile(t.logFile(t.process(role)))
		ts.Check(err)
		return string(text)
	}
	found := acceptedTrace.FindAllStringSubmatch(log("mta"), -1)
	if neg || len(args) == 0 || len(found) == 0 {
		ts.Fatalf("usage: traced ROLE..., after a message was accepted")
	}
	for _, m := range found {
		for _, role := range args {
			line := regexp.MustCompile(`(?m)^.* role=` + role + ` .*trace=` + regexp.QuoteMeta(m[1]) + `\b|^.*trace=` + regexp.QuoteMeta(m[1]) + `\b.* role=` + role + `\b`)
			if !line.MatchString(log(role)) {
				ts.Fatalf("no line of role %s has trace=%s:\n%s", role, m[1], log(role))
			}
		}
	}
}

// logKey is a key of a line that slog's text handler wrote.
var logKey = regexp.MustCompile(`(?:^| )([A-Za-z_.]+)=(?:"(?:[^"\\]|\\.)*"|[^ ]*)`)

// scriptSilent is "silent WORD...": no log has any of these words, in plain text
// or in base64, and no line of a log has a key twice.
func scriptSilent(ts *testscript.TestScript, neg bool, args []string) {
	t := topologyOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: silent WORD...")
	}
	for _, name := range t.processes(nil) {
		text, err := os.ReadFile(t.logFile(name))
		ts.Check(err)
		for line := range strings.Lines(string(text)) {
			for _, word := range args {
				for _, form := range []string{word, base64.StdEncoding.EncodeToString([]byte("\x00alice\x00" + word)), base64.StdEncoding.EncodeToString([]byte(word))} {
					if strings.Contains(line, strings.TrimRight(form, "=")) {
						ts.Fatalf("%s is in the log of %s:\n%s", word, name, line)
					}
				}
			}
			seen := map[string]bool{}
			for _, m := range logKey.FindAllStringSubmatch(line, -1) {
				if seen[m[1]] {
					ts.Fatalf("the key %s stands twice in a line of %s:\n%s", m[1], name, line)
				}
				seen[m[1]] = true
			}
		}
	}
}
