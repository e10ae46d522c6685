package imapserver_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/wire"
)

// compressed turns compression on at both ends.
func compressed(t *testing.T, p *peer) *chat {
	c := p.chat(t.Context())
	c.ok("COMPRESS DEFLATE")
	c.conn = wire.Deflate(c.conn)
	c.r = bufio.NewReader(c.conn)
	return c
}

// TestCompress: answers come at once, also to IDLE, which is woken through the
// deadline of a read.
func TestCompress(t *testing.T) {
	p := newPeer(t, nil)
	c := compressed(t, p)
	c.ok("SELECT INBOX")
	if got := c.do("COMPRESS DEFLATE"); got[0] != "t NO [COMPRESSIONACTIVE] compression is active" {
		t.Errorf("twice: %q", got)
	}
	for i := 1; i <= 3; i++ {
		c.send("t IDLE\r\n")
		c.line()
		p.put("INBOX", simpleMail(i))
		if got, want := c.line()+c.line(), fmt.Sprintf("* %d EXISTS* %d RECENT", i, i); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		c.send("DONE\r\n")
		c.line()
	}
	long := strings.Repeat("a line of a message\r\n", 20000)
	c.send(fmt.Sprintf("t APPEND INBOX {%d+}\r\n%s\r\n", len(long), long))
	for !strings.HasPrefix(c.line(), "t OK") {
	}
	c.ok("LOGOUT")
}

// TestCompressBomb is hardening row M6: what a few bytes inflate to is bounded
// like what a plain client sends.
func TestCompressBomb(t *testing.T) {
	p := newPeer(t, nil)
	c := p.chat(t.Context())
	c.ok("COMPRESS DEFLATE")
	var bomb bytes.Buffer
	w, err := flate.NewWriter(&bomb, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	xs := bytes.Repeat([]byte{'x'}, 1<<20)
	fmt.Fprint(w, "a ")
	for range 20 {
		w.Write(xs)
	}
	w.Flush()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	_ = c.conn.SetDeadline(begun.Add(20 * time.Second))
	go io.Copy(c.conn, &bomb)
	r := bufio.NewReader(flate.NewReader(c.conn))
	line, err := r.ReadString('\n')
	if err != nil || line != "* BYE command line is too long\r\n" {
		t.Errorf("%q %v", line, err)
	}
	runtime.ReadMemStats(&after)
	if took, grown := time.Since(begun), int64(after.TotalAlloc-before.TotalAlloc); took > 5*time.Second || grown > 8<<20 {
		t.Errorf("took %v and %d bytes", took, grown)
	}
}
