package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

func TestProgram(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("no /bin/sh to write programs for")
	}
	env := mail.Envelope{From: mail.Address{Local: "s;rm -rf", Domain: "far.test"}, To: []mail.Recipient{{Address: mail.Address{Local: "alice", Domain: "us.example"}}}}
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, tt := range []struct{ name, script, want string }{
		{"success", `{ echo "$1|$SENDER|$RECIPIENT|$HOME"; cat; } >` + out, ""},
		{"does not read its input", "exit 0", ""},
		{"refusal", "echo no such thing; exit 67", "554 5.3.0 the recipient's program refused the message"},
		{"temporary failure", "exit 75", "451 4.3.0 the recipient's program failed, try again later"},
		{"crash", "kill -9 $$", "451 4.3.0 the recipient's program failed, try again later"},
		{"too slow", "sleep 60", "451 4.3.0 the recipient's program failed, try again later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "program")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			p := Program{Command: []string{path, "$(id)"}, Timeout: 300 * time.Millisecond}
			if tt.name == "success" {
				p.Timeout = 0
			}
			err := p.Deliver(t.Context(), env, mail.Bytes("Subject: x\r\n\r\n"+strings.Repeat("y", 1<<17)))[0]
			got := ""
			if err != nil {
				got = mail.StatusOf(err).Reply()
			}
			if got != tt.want {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	text, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(text), "$(id)|\"s;rm -rf\"@far.test|alice@us.example|\nSubject: x\r\n\r\nyyy") {
		t.Errorf("%.100q, %v", text, err)
	}
}

func TestMissingProgramIsTransient(t *testing.T) {
	err := Program{Command: []string{"/nonexistent/program"}}.Deliver(t.Context(), mail.Envelope{To: make([]mail.Recipient, 1)}, mail.Bytes(""))[0]
	if st := mail.StatusOf(err); st.Permanent() {
		t.Error(err)
	}
}
