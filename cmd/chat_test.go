package cmd

import (
	"bufio"
	"compress/flate"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptChat is "chat DOOR FILE": it connects to a door and runs the dialogue
// in the file, whose lines testdata/script/README.md describes.
func scriptChat(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: chat DOOR FILE")
	}
	d := &dialogue{ts: ts, t: topologyOf(ts), peers: map[string]*peer{}, vars: map[string]string{}}
	defer d.close()
	err := d.connect("", args[0])
	for n, line := range strings.Split(ts.ReadFile(args[1]), "\n") {
		if err == nil {
			err = d.line(strings.TrimRight(line, " "))
		}
		if err != nil {
			ts.Fatalf("%s:%d: %v", args[1], n+1, err)
		}
	}
}

// dialogue is one run of chat.
type dialogue struct {
	ts    *testscript.TestScript
	t     *topology
	peers map[string]*peer // by name; "" is the first
	vars  map[string]string
}

// peer is one connection.
type peer struct {
	name   string
	conn   net.Conn
	reader *bufio.Reader
}

// patience is how long a server may think.
const patience = 20 * time.Second

// chatLine is "[NAME] MARK TEXT".
var chatLine = regexp.MustCompile(`^(?:(\w+) +)?(C:|C<|S:|S~|S\*|S<|TLS$|DEFLATE$|closed$)(?: (.*))?$`)

func (d *dialogue) line(line string) error {
	m := chatLine.FindStringSubmatch(line)
	if m == nil {
		return d.command(strings.Fields(line))
	}
	p := d.peers[m[1]]
	if p == nil {
		return fmt.Errorf("no connection is called %q", m[1])
	}
	d.ts.Logf("%s", line)
	if err := p.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	switch text := m[3]; m[2] {
	case "C:":
		return d.send(p, text)
	case "C<":
		_, err := io.WriteString(p.conn, d.octets(text))
		return err
	case "S<":
		return d.expectOctets(p, d.octets(text))
	case "TLS":
		return p.startTLS(d.t)
	case "DEFLATE":
		return p.startDeflate()
	case "closed":
		return p.expectClosed()
	default:
		return d.expect(p, m[2], text)
	}
}

// command is a line that is no part of the dialogue: a comment, another
// connection, or one of our script commands, with nothing between it and the
// line before.
func (d *dialogue) command(words []string) error {
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	switch args := words[1:]; words[0] {
	case "open":
		if len(args) != 2 {
			return errors.New("usage: open NAME DOOR")
		}
		return d.connect(args[0], args[1])
	case "crash":
		scriptCrash(d.ts, false, args)
	case "up":
		scriptUp(d.ts, false, args)
	case "metric":
		scriptMetric(d.ts, false, args)
	case "mailsrv":
		if !slices.Contains(args, "--config") {
			args = append(args, "--config", d.ts.Getenv("CONFIG"))
		}
		for i := range args {
			var err error
			if args[i], err = d.expand(args[i], func(s string) string { return s }); err != nil {
				return err
			}
		}
		return d.ts.Exec("mailsrv", args...)
	default:
		return fmt.Errorf("what is %q?", strings.Join(words, " "))
	}
	return nil
}

// connect opens a connection; a door whose name ends in s is one with TLS.
func (d *dialogue) connect(name, door string) error {
	address, ok := d.t.doors[door]
	if !ok {
		return fmt.Errorf("no door is called %q", door)
	}
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	p := &peer{name: name, conn: conn, reader: bufio.NewReader(conn)}
	d.peers[name] = p
	if door == "imaps" || door == "pop3s" || door == "submissions" {
		return p.startTLS(d.t)
	}
	return nil
}

func (d *dialogue) close() {
	for _, p := range d.peers {
		p.conn.Close()
	}
}

// startTLS goes on in TLS, with the installation's certificate. What the server
// has said in plain text and nobody read would be a way to inject answers.
func (p *peer) startTLS(t *topology) error {
	if n := p.reader.Buffered(); n > 0 {
		return fmt.Errorf("%d octets of plain text before TLS", n)
	}
	c := tls.Client(p.conn, &tls.Config{RootCAs: t.roots(), ServerName: "localhost"})
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		return err
	}
	p.conn, p.reader = c, bufio.NewReader(c)
	return nil
}

// startDeflate goes on compressed (RFC 4978), what was read ahead included.
func (p *peer) startDeflate() error {
	w, err := flate.NewWriter(p.conn, flate.DefaultCompression)
	if err != nil {
		return err
	}
	p.conn = &deflated{p.conn, w}
	p.reader = bufio.NewReader(flate.NewReader(p.reader))
	return nil
}

// deflated is a connection whose writes are compressed, each to its end.
type deflated struct {
	net.Conn
	w *flate.Writer
}

// Write implements net.Conn.
func (d *deflated) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	return n, errors.Join(err, d.w.Flush())
}

func (d *dialogue) send(p *peer, text string) error {
	text, err := d.expand(text, func(s string) string { return s })
	if err != nil {
		return err
	}
	_, err = io.WriteString(p.conn, text+"\r\n")
	return err
}

// expect reads one line that matches, or with S* as many as there are up to it.
func (d *dialogue) expect(p *peer, mark, text string) error {
	pattern := text
	if mark != "S~" {
		parts := strings.Split(text, "...")
		for i, part := range parts {
			parts[i] = quoteAround(part)
		}
		pattern = strings.Join(parts, ".*")
	}
	pattern, err := d.expand(pattern, regexp.QuoteMeta)
	if err != nil {
		return err
	}
	form, err := regexp.Compile("^(?s:" + pattern + ")$")
	if err != nil {
		return err
	}
	for {
		line, err := p.line()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", text, err)
		}
		m := form.FindStringSubmatch(line)
		if m == nil && mark == "S*" {
			d.ts.Logf("\t%s", line)
			continue
		}
		if m == nil {
			return fmt.Errorf("the server said\n\t%s\nwant\n\t%s", line, text)
		}
		for i, name := range form.SubexpNames() {
			if name != "" {
				d.vars[name] = m[i]
			}
		}
		return nil
	}
}

// quoteAround quotes text for a regexp, but leaves ${...} to be expanded.
func quoteAround(text string) string {
	var b strings.Builder
	for {
		at := placeholder.FindStringIndex(text)
		if at == nil {
			return b.String() + regexp.QuoteMeta(text)
		}
		b.WriteString(regexp.QuoteMeta(text[:at[0]]) + text[at[0]:at[1]])
		text = text[at[1]:]
	}
}

// line reads one line, which ends in CRLF.
func (p *peer) line() (string, error) {
	line, err := p.reader.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%q, %w", line, err)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return "", fmt.Errorf("a line without CR: %q", line)
	}
	return text, nil
}

func (d *dialogue) expectOctets(p *peer, want string) error {
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.reader, got); err != nil {
		return fmt.Errorf("%d of %d octets, %w", n, len(want), err)
	}
	if string(got) != want {
		return fmt.Errorf("the server said\n%q\nwant\n%q", got, want)
	}
	return nil
}

// expectClosed waits until the server closes, and says nothing more before.
func (p *peer) expectClosed() error {
	rest, err := io.ReadAll(p.reader)
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return errors.New("the server did not close")
	}
	if len(rest) > 0 {
		return fmt.Errorf("the server said %q before it closed", rest)
	}
	return nil
}

// octets is a file of the script with CRLF line ends.
func (d *dialogue) octets(file string) string {
	return strings.ReplaceAll(d.ts.ReadFile(file), "\n", "\r\n")
}

var placeholder = regexp.MustCompile(`\$\{([^}]*)\}`)

// expand puts values in the place of ${...}: what an S~ line named, a variable
// of the script, the size of a file, or a login in base64.
func (d *dialogue) expand(text string, quote func(string) string) (out string, err error) {
	out = placeholder.ReplaceAllStringFunc(text, func(s string) string {
		words := strings.Fields(s[2 : len(s)-1])
		switch {
		case len(words) == 2 && words[0] == "size":
			return quote(strconv.Itoa(len(d.octets(words[1]))))
		case len(words) == 2 && words[0] == "base64":
			return quote(base64.StdEncoding.EncodeToString([]byte(words[1])))
		case len(words) == 3 && words[0] == "plain":
			return quote(base64.StdEncoding.EncodeToString([]byte("\x00" + words[1] + "\x00" + words[2])))
		case len(words) == 4 && words[0] == "plain":
			return quote(base64.StdEncoding.EncodeToString([]byte(strings.Join(words[1:], "\x00"))))
		case len(words) == 1:
			if v, ok := d.vars[words[0]]; ok {
				return quote(v)
			}
			if v := d.ts.Getenv(words[0]); v != "" {
				return quote(v)
			}
		}
		err = fmt.Errorf("what is %s?", s)
		return s
	})
	return out, err
}
