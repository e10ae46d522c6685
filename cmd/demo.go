package cmd

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
)

// The people of the demonstration.
const (
	demoDomain = "example.test"
	demoHost   = "mail.example.test"
)

func demoUsers() []string { return []string{"alice", "bob"} }

// demoFile is the demonstration's configuration: everything on loopback, on
// ports that need no rights. It wants the data folder.
const demoFile = `# Written anew at each start of: mailsrv serve --demo
hostname: ` + demoHost + `
data: %[1]q
log: {level: warn}
tls: {cert: %[2]q, key: %[3]q}
admin: {listen: ["127.0.0.1:19925"]}
directory:
  default_domain: ` + demoDomain + `
  listen: {ldap: ["127.0.0.1:10389"]}
mmp:
  imap: {listen: ["127.0.0.1:10143"], listen_tls: ["127.0.0.1:10993"]}
  pop3: {listen: ["127.0.0.1:10110"], listen_tls: ["127.0.0.1:10995"]}
mta:
  smtp: {listen: ["127.0.0.1:10025"]}
  submission: {listen: ["127.0.0.1:10587"]}
  submissions: {listen: ["127.0.0.1:10465"]}
`

// demoConfig writes the configuration into the data folder, where the other
// commands find it, and reads it.
func demoConfig(data string) (config.Config, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return config.Config{}, fmt.Errorf("making the data folder: %w", err)
	}
	cert, key, err := listen.SelfSigned(data, demoHost, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return config.Config{}, err
	}
	path := demoConfigPath(data)
	if err := os.WriteFile(path, fmt.Appendf(nil, demoFile, data, cert, key), 0o600); err != nil {
		return config.Config{}, fmt.Errorf("writing the configuration: %w", err)
	}
	return config.Load(path)
}

func demoConfigPath(data string) string { return filepath.Join(data, "config.yaml") }

func runDemo(ctx context.Context, data string, out io.Writer) error {
	if data == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return errNoCache
		}
		data = filepath.Join(cache, "mailsrv-demo")
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return err
	}
	c, err := demoConfig(data)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	log, _ := newLog(c.Log, os.Stderr)
	err = daemon.Run(ctx, daemon.Options{Config: c, Log: log, Ready: func(addresses map[string]string) {
		fresh, err := demoPeople(ctx, c)
		if err != nil {
			cancel(fmt.Errorf("making the demonstration's users: %w", err))
			return
		}
		printAddresses(out, addresses)
		printDemo(out, data, fresh)
	}})
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// demoPeople makes the domain and its users unless they are there, and returns
// the passwords of those it made.
func demoPeople(ctx context.Context, c config.Config) (map[string]string, error) {
	p, done, err := openProvisioner(ctx, c)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := p.AddDomain(ctx, demoDomain, demoHost); err != nil && !errors.Is(err, directory.ErrExists) {
		return nil, err
	}
	fresh := map[string]string{}
	for _, u := range demoUsers() {
		password := randomPassword()
		switch err := p.AddUser(ctx, u+"@"+demoDomain, "", password, demoHost); {
		case err == nil:
			fresh[u] = password
		case !errors.Is(err, directory.ErrExists):
			return nil, err
		}
	}
	return fresh, nil
}

// randomPassword has 80 bits and can be typed.
func randomPassword() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// quoted is a word for the shell.
func quoted(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+,:@%", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// program is how this program is called again: go run . where Go built it for
// the moment, mailsrv where the shell finds that, else its path.
func program() string {
	path, err := os.Executable()
	if err == nil && strings.Contains(path, "go-build") {
		return "go run ."
	}
	if _, found := exec.LookPath("mailsrv"); found == nil || err != nil {
		return "mailsrv"
	}
	return quoted(path)
}

func printDemo(out io.Writer, data string, fresh map[string]string) {
	password := func(u string) string {
		if p, ok := fresh[u]; ok {
			return p
		}
		return "PASSWORD" // printed once, when the user was made
	}
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "USER\tPASSWORD")
	for _, u := range demoUsers() {
		shown := "(as printed at the first start)"
		if p, ok := fresh[u]; ok {
			shown = p + "  (shown this once)"
		}
		fmt.Fprintf(t, "%s@%s\t%s\n", u, demoDomain, shown)
	}
	_ = t.Flush()
	fmt.Fprintf(out, `
Data lies in %[4]s

Send a message (use case 3):
  printf 'From: alice@example.test\r\nTo: bob@example.test\r\nSubject: Hello\r\n\r\nHello Bob!\r\n' | curl -sS --cacert %[1]s --ssl-reqd smtp://127.0.0.1:10587 --user alice:%[2]s --mail-from alice@example.test --mail-rcpt bob@example.test --upload-file -
List the inbox through the MMP (use case 1):
  curl -sS --cacert %[1]s imaps://127.0.0.1:10993/INBOX --user bob:%[3]s -X 'FETCH 1:* (FLAGS ENVELOPE)'
Read a message by POP3:
  curl -sS --cacert %[1]s pop3s://127.0.0.1:10995/1 --user bob:%[3]s
Read a message, then delete it (use case 2):
  curl -sS --cacert %[1]s 'imaps://127.0.0.1:10993/INBOX;MAILINDEX=1' --user bob:%[3]s
  curl -sS --cacert %[1]s imaps://127.0.0.1:10993/INBOX --user bob:%[3]s -X 'STORE 1 +FLAGS (\Deleted)' --next -sS --cacert %[1]s imaps://127.0.0.1:10993/INBOX --user bob:%[3]s -X EXPUNGE

The commands of the admin take the demonstration's configuration, as in:
  %[5]s user list --config %[6]s

Stop with Ctrl-C.
`, quoted(filepath.Join(data, "cert.pem")), password("alice"), password("bob"), data, program(), quoted(demoConfigPath(data)))
}
