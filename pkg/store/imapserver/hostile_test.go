package imapserver_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// spent runs do and reports what it allocated and how long it took; the client
// of these tests is in the same process, and counts.
func spent(do func()) (bytes int64, took time.Duration) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	do()
	took = time.Since(begun)
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc), took
}

// TestHostileCommands is hardening rows I1 to I5 after a login: each command
// costs little time and memory, and nothing of it is executed as another.
func TestHostileCommands(t *testing.T) {
	p := newPeer(t, nil)
	for i := range 50 {
		p.put("INBOX", simpleMail(i))
	}
	c := p.chat(t.Context())
	c.ok("SELECT INBOX")
	for _, tt := range []struct {
		name, command, want string
	}{
		{"I1 announced literal", "SUBSCRIBE {2000000000}", "t BAD [TOOBIG]"},
		{"I1 announced message", "APPEND INBOX {2000000000}", "t NO [TOOBIG]"},
		{"I1 sum of literals", "LIST {900000+}\r\n" + strings.Repeat("x", 900000) + " {200000+}\r\n" + strings.Repeat("b DELETE x", 20000), "t BAD [TOOBIG]"},
		{"I2 message", "APPEND INBOX {2000000+}\r\n" + strings.Repeat("z DELETE Sent\r\n\r\n\r\n\r\n", 100000)[:2000000], "t NO [TOOBIG]"},
		{"I2 literal without its space", "APPEND INBOX {3+}\r\na: {2000000+}\r\n" + strings.Repeat("z DELETE Sent\r\n\r\n\r\n\r\n", 100000)[:2000000], "t BAD"},
		{"I2 literal behind a message", "REPLACE 1 INBOX {3+}\r\na: {13+}\r\nz DELETE Sent", "t BAD"},
		{"I2 second message", "APPEND INBOX {3+}\r\na:\n {2000000+}\r\n" + strings.Repeat("z DELETE Sent\r\n\r\n\r\n\r\n", 100000)[:2000000], "t NO [TOOBIG]"},
		{"I3 parentheses", "SEARCH " + strings.Repeat("(", 20000) + "ALL", "t BAD"},
		{"I3 NOT", "SEARCH " + strings.Repeat("NOT ", 12000) + "ALL", "t BAD"},
		{"I3 OR", "SEARCH " + strings.Repeat("OR ", 12000) + "ALL ALL", "t BAD"},
		{"I3 keys", "SEARCH " + strings.Repeat("ALL ", 5000) + "ALL", "t BAD"},
		{"I3 list", "FETCH 1 " + strings.Repeat("(", 5000), "t BAD"},
		{"I4 ranges", "UID SEARCH RETURN (COUNT) UID " + strings.Repeat("1:4294967295,", 4000) + "1", "t OK"},
		{"I4 fetch", "UID FETCH " + strings.Repeat("4294967295:1,", 4000) + "1 (UID)", "t OK"},
		{"I4 store", "UID STORE 51:4294967295 +FLAGS (\\Deleted)", "t OK"},
		{"I4 changed since", "FETCH 1:4294967295 (UID) (CHANGEDSINCE 9000000000000000000)", "t OK"},
		{"I4 partial", "UID SEARCH RETURN (PARTIAL 1:4294967295 COUNT) ALL", "t OK"},
		{"sections", "FETCH 1 (" + strings.Repeat("BODY.PEEK[1] ", 4000) + "UID)", "t BAD"},
		{"sort keys", "SORT (" + strings.Repeat("DATE ", 4000) + "DATE) UTF-8 ALL", "t BAD"},
		{"part number", "FETCH 1 BODY.PEEK[" + strings.Repeat("1.", 20000) + "1]", "t BAD"},
		{"flags", "STORE 1 +FLAGS (" + strings.Repeat("k ", 20000) + "k)", "t NO [LIMIT]"},
	} {
		var last string
		size, took := spent(func() {
			lines := c.do(tt.command)
			last = lines[len(lines)-1]
		})
		if !strings.HasPrefix(last, tt.want) {
			t.Errorf("%s: %.100q, want %q", tt.name, last, tt.want)
		}
		if bound := int64(16*len(tt.command) + 4<<20); took > 5*time.Second || size > bound {
			t.Errorf("%s: took %v and %d bytes for a command of %d", tt.name, took, size, len(tt.command))
		}
	}
	if got := c.ok("STATUS INBOX (MESSAGES)"); got[0] != "* STATUS INBOX (MESSAGES 50)" {
		t.Errorf("something of it was executed: %q", got)
	}
}

// TestHostilePatterns is hardening row I5 on as many mailboxes as there may be.
func TestHostilePatterns(t *testing.T) {
	p := newPeer(t, nil)
	a := p.account()
	for i := range 300 {
		if err := a.Create(t.Context(), fmt.Sprintf("%s%d", strings.Repeat("a", 200), i), ""); err != nil {
			t.Fatal(err)
		}
	}
	c := p.chat(t.Context())
	plain := time.Hour
	for range 3 {
		_, took := spent(func() { c.ok(`LIST "" nothing`) })
		plain = min(plain, took)
	}
	_, took := spent(func() { c.ok(`LIST "" ` + strings.Repeat("*a", 100) + "b") })
	if took > plain+500*time.Millisecond {
		t.Errorf("took %v, and %v without wildcards", took, plain)
	}
}

// TestHostileMessages is hardening rows M1 to M5: such messages are stored, and
// their structure is told at a cost in proportion to their size.
func TestHostileMessages(t *testing.T) {
	deep := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String() + "\r\nleaf\r\n"
	}
	embedded := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 16000) + "\r\nleaf\r\n"
	bomb := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 60)))
	for _, tt := range []struct{ name, message string }{
		{"M1 multiparts", deep(16000)},
		{"M1 messages", embedded},
		{"M2 width", "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 130000)},
		{"M3 addresses", "To: " + strings.Repeat("a@b,", 200000) + "\r\n\r\n"},
		{"M3 fields", strings.Repeat("To: a@b\r\n", 90000) + "\r\n"},
		{"M3 comments", "From: " + strings.Repeat("(", 400000) + "\r\n\r\n"},
		{"M3 quotes", "From: " + strings.Repeat(`"\\" `, 100000) + "\r\n\r\n"},
		{"M4 encoded words", "Subject: " + strings.Repeat("=?utf-8?B?"+bomb+"?= ", 8000) + "\r\n\r\n"},
		{"M4 parameters", "Content-Type: text/plain" + strings.Repeat("; a*0*=utf-8''%41", 40000) + "\r\n\r\n"},
		{"M4 continuations", "Content-Type: text/plain" + strings.Repeat(";\r\n name*99999999*=x", 30000) + "\r\n\r\n"},
		{"M5 octets", "Subject: \xff\xfe\x80\r\nFrom: \x80\x81@\xff\r\nContent-Type: \xfftext/\xfe; charset=\xff\r\n\r\n" + strings.Repeat("\x80\xff", 200000)},
	} {
		p := newPeer(t, nil)
		c := p.chat(t.Context())
		message := tt.message[:min(len(tt.message), 1<<20)]
		size, took := spent(func() {
			c.send(fmt.Sprintf("t APPEND INBOX {%d+}\r\n", len(message)))
			if _, err := io.Copy(c.conn, bytes.NewReader([]byte(message+"\r\n"))); err != nil {
				t.Fatal(err)
			}
			for line := ""; !strings.HasPrefix(line, "t OK"); line = c.line() {
				if line == "(closed)" || strings.HasPrefix(line, "t NO") {
					t.Fatalf("%s: %q", tt.name, line)
				}
			}
			c.ok("SELECT INBOX")
			c.ok("FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)")
			c.ok("FETCH 1 (PREVIEW BODY.PEEK[1] BODY.PEEK[1.1.1.MIME])")
			c.ok("SEARCH TEXT zebra")
			c.ok("SORT (SUBJECT FROM TO) UTF-8 ALL")
			c.ok("THREAD REFERENCES UTF-8 ALL")
		})
		t.Logf("%s: %d bytes, took %v and %d bytes", tt.name, len(message), took.Round(time.Millisecond), size)
		if took > 20*time.Second || size > 300<<20 {
			t.Errorf("%s: took %v and %d bytes for a message of %d", tt.name, took, size, len(message))
		}
	}
}

// TestIdleMemory: what a session that rests in IDLE holds.
func TestIdleMemory(t *testing.T) {
	p := newPeer(t, nil)
	for i := range 20 {
		p.put("INBOX", simpleMail(i))
	}
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	const n = 200
	open := func() {
		conn := p.connect(t.Context())
		if _, err := io.WriteString(conn, "a SELECT INBOX\r\nb FETCH 1:* (UID FLAGS ENVELOPE)\r\nc IDLE\r\n"); err != nil {
			t.Fatal(err)
		}
		all := make([]byte, 0, 16<<10)
		for !bytes.HasSuffix(all, []byte("+ idling\r\n")) {
			k, err := conn.Read(all[len(all):cap(all)])
			if err != nil {
				t.Fatal(err)
			}
			all = all[:len(all)+k]
		}
	}
	open()
	before := held()
	for range n {
		open()
	}
	each := (int64(held()) - int64(before)) / n
	t.Logf("%d bytes a session, its client's socket included", each)
	if each > 32<<10 {
		t.Errorf("%d bytes a session", each)
	}
}
