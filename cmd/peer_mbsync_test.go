package cmd

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsrv/pkg/peertest"
)

// TestPeerMbsync keeps a mailbox of 200 odd messages in step with a Maildir, by
// isync's mbsync over IMAPS: pulled, changed on both sides, pushed back, and
// the same to the byte each time.
func TestPeerMbsync(t *testing.T) {
	mbsync := peertest.Program(t, "mbsync", "isync")
	w := newWhole(t)
	w.start(allRoles, nil)
	w.mailsrv("domain", "add", "example.test")
	password := w.user("alice@example.test")
	c := w.dial(t, "alice@example.test", password)
	m := &maildir{t: t, dir: filepath.Join(w.dir, "local"), mailbox: "Entw&APw-rfe"}
	config := w.file("mbsyncrc", fmt.Sprintf(mbsyncConf, w.imaps[strings.LastIndexByte(w.imaps, ':')+1:], password, w.cert, m.dir, w.dir))
	sync := func() {
		t.Helper()
		peertest.Client(t, "", mbsync, "-c", config, "-a")
		m.compare(c)
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Create("Entwürfe", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	texts, flags := oddMessages(), oddFlags()
	for i, text := range texts {
		add(t, c, "INBOX", text, flags[i%len(flags)]...)
	}
	add(t, c, "Entwürfe", texts[0])
	sync()

	m.change(texts)
	sync()
	if got := len(messages(t, c, "INBOX")); got != len(texts)-15+25 {
		t.Errorf("%d messages after the changes in the Maildir", got)
	}

	changeAtServer(t, c)
	sync()
	before, files := messages(t, c, "INBOX"), m.files()
	if got := len(before); got != len(texts)-15+25-10+5 {
		t.Errorf("%d messages after the changes at the server", got)
	}
	sync()
	if !slices.Equal(before, messages(t, c, "INBOX")) || !maps.Equal(files, m.files()) {
		t.Error("a run with nothing to do changed something")
	}
}

// mbsyncConf wants port, password, CA and the two folders.
const mbsyncConf = `IMAPAccount ours
Host localhost
Port %s
User alice@example.test
Pass %s
SSLType IMAPS
CertificateFile %s
PipelineDepth 50

IMAPStore far
Account ours

MaildirStore near
Path %[4]s/
Inbox %[4]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX "Entw*"
Create Both
Expunge Both
CopyArrivalDate yes
SyncState %[5]s/sync-
`

func oddFlags() [][]imap.Flag {
	return [][]imap.Flag{
		nil, {imap.FlagSeen}, {imap.FlagFlagged, imap.FlagSeen}, {imap.FlagAnswered}, {imap.FlagDraft, "$Forwarded"}, {"$Label1", "NonJunk"},
		{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDraft, "work"},
	}
}

func add(t *testing.T, c *imapclient.Client, mailbox, text string, flags ...imap.Flag) {
	t.Helper()
	cmd := c.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags, Time: time.Date(2020, 2, 29, 23, 59, 58, 0, time.FixedZone("", 5400))})
	if _, err := cmd.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// changeAtServer deletes ten messages, adds five, and changes flags.
func changeAtServer(t *testing.T, c *imapclient.Client) {
	t.Helper()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	store := func(set imap.SeqSet, op imap.StoreFlagsOp, flags ...imap.Flag) {
		t.Helper()
		if err := c.Store(set, &imap.StoreFlags{Op: op, Silent: true, Flags: flags}, nil).Close(); err != nil {
			t.Fatal(err)
		}
	}
	store(imap.SeqSet{{Start: 101, Stop: 110}}, imap.StoreFlagsAdd, imap.FlagDeleted)
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	store(imap.SeqSet{{Start: 20, Stop: 40}}, imap.StoreFlagsAdd, imap.FlagFlagged, "later")
	store(imap.SeqSet{{Start: 30, Stop: 50}}, imap.StoreFlagsDel, imap.FlagSeen)
	for i := range 5 {
		add(t, c, "INBOX", fmt.Sprintf("Subject: late %d\r\n\r\nx\r\n", i), imap.FlagSeen)
	}
}

// maildir is the other side: the folder of INBOX and one more mailbox.
type maildir struct {
	t       *testing.T
	dir     string
	mailbox string
}

// files maps the names of the messages of INBOX to their texts.
func (m *maildir) files() map[string]string {
	m.t.Helper()
	return m.read("INBOX")
}

func (m *maildir) read(mailbox string) map[string]string {
	m.t.Helper()
	files := map[string]string{}
	for _, sub := range []string{"cur", "new"} {
		list, err := filepath.Glob(filepath.Join(m.dir, mailbox, sub, "*"))
		if err != nil {
			m.t.Fatal(err)
		}
		for _, path := range list {
			b, err := os.ReadFile(path)
			if err != nil {
				m.t.Fatal(err)
			}
			files[filepath.Join(sub, filepath.Base(path))] = string(b)
		}
	}
	return files
}

// change sets flags on 40 messages, removes 15, and adds 25.
func (m *maildir) change(texts []string) {
	m.t.Helper()
	inbox := filepath.Join(m.dir, "INBOX")
	for i, name := range slices.Sorted(maps.Keys(m.files())) {
		var err error
		switch path := filepath.Join(inbox, name); {
		case i < 15:
			err = os.Remove(path)
		case i < 55:
			file, _, _ := strings.Cut(filepath.Base(name), ":")
			err = os.Rename(path, filepath.Join(inbox, "cur", file+[]string{":2,", ":2,S", ":2,FS", ":2,DRS"}[i%4]))
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	for i := range 25 {
		text := "X-Local: yes\n" + strings.ReplaceAll(texts[i*7], "\r\n", "\n")
		name := fmt.Sprintf("cur/%d.local.test:2,%s", i, []string{"", "S", "FS"}[i%3])
		if i%2 == 0 {
			name = fmt.Sprintf("new/%d.local.test", i)
		}
		if err := os.WriteFile(filepath.Join(inbox, name), []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// compare demands that both sides hold the same texts with the same flags.
func (m *maildir) compare(c *imapclient.Client) {
	m.t.Helper()
	marks := regexp.MustCompile(`(?m)^X-TUID: .{12}\n`) // mbsync's own, in each copy that it makes
	for far, near := range map[string]string{"INBOX": "INBOX", "Entwürfe": m.mailbox} {
		var ours, theirs []string
		for _, msg := range messages(m.t, c, far) {
			ours = append(ours, maildirFlags(msg.flags)+" "+marks.ReplaceAllString(strings.ReplaceAll(msg.text, "\r\n", "\n"), ""))
		}
		for name, text := range m.read(near) {
			_, flags, _ := strings.Cut(name, ":2,")
			theirs = append(theirs, flags+" "+marks.ReplaceAllString(text, ""))
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		if len(ours) != len(theirs) {
			m.t.Errorf("%s: %d messages at the server, %d in the Maildir", far, len(ours), len(theirs))
		}
		for i := range min(len(ours), len(theirs)) {
			if ours[i] != theirs[i] {
				m.t.Fatalf("%s, message %d: at the server\n%.300q\nin the Maildir\n%.300q", far, i, ours[i], theirs[i])
			}
		}
	}
}

// maildirFlags are IMAP flags in a Maildir's letters, which know no keyword but one.
func maildirFlags(flags string) string {
	letters := map[string]string{`\draft`: "D", `\flagged`: "F", "$forwarded": "P", `\answered`: "R", `\seen`: "S", `\deleted`: "T"}
	var s []string
	for f := range strings.FieldsSeq(flags) {
		if l, ok := letters[f]; ok {
			s = append(s, l)
		}
	}
	slices.Sort(s)
	return strings.Join(s, "")
}

// oddMessages are 200 messages, most of which break some rule. What mbsync
// refuses or changes is not among them: a lone CR, and a header that no empty
// line ends.
func oddMessages() []string {
	const header = "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.test>\nMessage-ID: <same@example.test>\nDate: Sat, 29 Feb 2020 23:59:58 +0130\n"
	kinds := []string{
		"\n", // no field and no body
		"\nno field, only text\n",
		"no colon\n\nand text\n",
		header + "Subject: plain\n\nbody\n",
		header + "Subject: no end of the last line\n\nbody",
		header + "Subject: gr\xfc\xdfe, raw latin 1\nX-Raw: \xf0\x9f\x92\xa9 utf-8\n\n8 bit \xe4\xf6\xfc\n",
		header + "Subject: header alone\n\n",
		header + "Subject: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=\nContent-Type: text/plain; charset=iso-2022-jp\n\n\x1b$BF|K\\\x1b(B\n",
		header + "Subject: dots\n\n.\n..\n.dot\n...\n\n.\n",
		header + "Subject: long line\n\n" + strings.Repeat("x", 9000) + "\n" + strings.Repeat("y ", 2000) + "\n",
		header + "Subject: " + strings.Repeat("folded\n\t", 60) + "end\n\n\n\n\n",
		header + "Content-Type: multipart/mixed; boundary=a\n\npreamble\n--a\n\none\n--a\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\ntwo\n--b\nContent-Type: text/html\n\n<p>\n--b--\n--a\n" +
			"Content-Type: message/rfc822\n\nSubject: inner\n\ninner body\n--a--\nepilogue\n",
		header + "Content-Type: multipart/mixed; boundary=never\n\n--other\n\nwrong boundary\n",
		header + "Content-Type: multipart/mixed; boundary=open\n\n--open\nContent-Type: text/plain\n\nnever closed",
		header + "Content-Type: multipart/mixed\n\n--x\n\nno boundary parameter\n",
		header + "Content-Type: multipart/mixed; boundary=\"=_a b\"\n\n--=_a b\n\n\n--=_a b\n--=_a b--\n",
		header + "Content-Type: text/plain; charset=\"utf-8\ncontent-transfer-encoding: base64\n\n4pyT=not base64\x01\x02\x7f\n",
		header + "Content-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n\x01\x02\x80\xff\xfe\x7f\x1b\n",
		"From mbox@example.test Sat Feb 29 23:59:58 2020\n" + header + "\n>From x\nFrom y\n",
		header + "Subject\n : odd colon\nSubject: twice\nSubject: thrice\n\n-- \nsignature\n",
	}
	var list []string
	for i := range 199 {
		text := kinds[i%len(kinds)]
		if text[0] != '\n' {
			text = fmt.Sprintf("X-Number: %d\n%s", i, text)
		}
		list = append(list, strings.ReplaceAll(text, "\n", "\r\n"))
	}
	return append(list, "Subject: large\r\n\r\n"+strings.Repeat(strings.Repeat("0123456789abcde ", 4)+"\r\n", 2<<20/66))
}
