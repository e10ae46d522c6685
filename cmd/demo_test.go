package cmd

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailsrv/pkg/peertest"
)

// demonstration is a running mailsrv serve --demo.
type demonstration struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     *io.PipeReader
	exited chan error // how it ended, once
}

// startDemo returns it with all it printed until it was ready.
func startDemo(t *testing.T, data string) (*demonstration, string) {
	t.Helper()
	in, out := io.Pipe()
	d := &demonstration{t: t, cmd: exec.CommandContext(t.Context(), "mailsrv", "serve", "--demo", "--data", data), in: in, exited: make(chan error, 1)}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		err := d.cmd.Wait()
		_ = out.Close()
		d.exited <- err
	}()
	var text strings.Builder
	for b := make([]byte, 4096); !strings.Contains(text.String(), "Stop with Ctrl-C."); {
		n, err := in.Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, &text)
		}
		text.Write(b[:n])
	}
	return d, text.String()
}

// interrupt is Ctrl-C, which it must end with 0 after.
func (d *demonstration) interrupt() {
	d.t.Helper()
	go func() { _, _ = io.Copy(io.Discard, d.in) }()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	if err := <-d.exited; err != nil {
		d.t.Errorf("after Ctrl-C: %v", err)
	}
}

// TestDemo starts the demonstration, pastes every line that it prints into a
// shell, stops it, and finds mail and accounts again at a second start.
func TestDemo(t *testing.T) {
	for _, address := range regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(demoFile, -1) {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip("the demonstration's ports are not free here: ", err)
		}
		ln.Close()
	}
	curl := peertest.Program(t, "curl", "curl")
	data := filepath.Join(t.TempDir(), "bob's demo") // with mail to keep
	d, text := startDemo(t, data)
	passwords := regexp.MustCompile(`(?m)^(alice|bob)@example.test +(\S+) +\(shown this once\)$`).FindAllStringSubmatch(text, -1)
	if len(passwords) != 2 {
		t.Fatalf("%d passwords:\n%s", len(passwords), text)
	}
	want := map[string]string{"Send a": "", "List t": `"Hello"`, "Read a message b": "Hello Bob!", "Read a message,": "Hello Bob!"}
	for what, said := range pasted(t, d, text) {
		for prefix, part := range want {
			if strings.HasPrefix(what, prefix) {
				delete(want, prefix)
				if !strings.Contains(said, part) {
					t.Errorf("%s said %q, without %q", what, said, part)
				}
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not printed: %v", want)
	}
	send := strings.Split(text, "Send a message (use case 3):\n  ")[1]
	send, _, _ = strings.Cut(send, "\n")
	d.shell(send)
	d.interrupt()

	d, text = startDemo(t, data)
	if strings.Contains(text, passwords[1][2]) {
		t.Error("a password is shown twice")
	}
	inbox := d.shell(curl + " -sS --cacert \"" + data + "/cert.pem\" imaps://127.0.0.1:10993/INBOX --user bob:" + passwords[1][2] + " -X 'FETCH 1:* (UID)'")
	if !strings.HasPrefix(inbox, "* 1 FETCH (UID 2)") {
		t.Errorf("after a second start: %q", inbox)
	}
	d.interrupt()
}

// pasted runs what is printed below each heading, and maps the heading to what
// was said.
func pasted(t *testing.T, d *demonstration, text string) map[string]string {
	t.Helper()
	said := map[string]string{}
	_, text, _ = strings.Cut(text, "\n\nSend")
	var heading string
	for line := range strings.Lines("Send" + text) {
		command, ok := strings.CutPrefix(line, "  ")
		switch {
		case !ok:
			heading = line
		case heading != "":
			said[heading] += d.shell(command)
		}
	}
	return said
}

// shell runs a line and returns what it says on both outputs.
func (d *demonstration) shell(line string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "sh", "-c", line)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Errorf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}
