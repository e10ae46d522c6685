package imapserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// searchedMail says something else each time, in several charsets and encodings.
func searchedMail(n int) []byte {
	switch n % 4 {
	case 0:
		return simpleMail(n)
	case 1:
		return fmt.Appendf(nil, "From: =?iso-8859-1?Q?J=F6rg_%d?= <j%d@example.test>\r\nCc: Bob <bob@example.test>\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?= %d\r\n"+
			"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe zum Fr=\r\n=FChst=FCck %d\r\n", n, n, n, n)
	case 2:
		return fmt.Appendf(nil, "From: Eve <eve@example.test>\r\nX-Number: %d\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"+
			"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n0J/RgNC40LLQtdGCLCDQvNC40YA=\r\n--x\r\nContent-Type: message/rfc822\r\n\r\n"+
			"Subject: inner %d\r\n\r\nwithin\r\n--x\r\nContent-Type: application/octet-stream\r\n\r\nsecretbytes\r\n--x--\r\n", n, n)
	}
	return fmt.Appendf(nil, "Subject: no sender %d\r\n\r\n", n)
}

// TestSearchIsTheSameWithIndex: whether none, some or all messages are in the
// index, a search finds the same; and what it should.
func TestSearchIsTheSameWithIndex(t *testing.T) {
	p := newPeer(t, nil)
	index := func() {
		if err := p.store.(*sqlstore.Store).Index(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]func(n int) bool{
		`FROM "s4@"`:                        func(n int) bool { return n == 4 },
		`FROM "jörg"`:                       func(n int) bool { return n%4 == 1 },
		`FROM "JO\u0308RG"`:                 func(n int) bool { return n%4 == 1 },
		`FROM ""`:                           func(n int) bool { return n%4 != 3 },
		`NOT FROM "eve"`:                    func(n int) bool { return n%4 != 2 },
		`SUBJECT "grüße"`:                   func(n int) bool { return n%4 == 1 },
		`SUBJECT "inner"`:                   func(int) bool { return false },
		`TEXT "inner"`:                      func(n int) bool { return n%4 == 2 },
		`BODY "inner"`:                      func(n int) bool { return n%4 == 2 },
		`BODY "GRÜßE zum frühst"`:           func(n int) bool { return n%4 == 1 },
		`TEXT "привет, МИР"`:                func(n int) bool { return n%4 == 2 },
		`TEXT "secretbytes"`:                func(int) bool { return false },
		`BODY "example.test"`:               func(int) bool { return false },
		`TEXT "message 8"`:                  func(n int) bool { return n%4 == 0 && (n == 8 || n >= 80 && n < 90) },
		`TEXT "no"`:                         func(n int) bool { return n%4 == 3 },
		`TEXT "n"`:                          func(int) bool { return true },
		`HEADER X-Number ""`:                func(n int) bool { return n%4 == 2 },
		`HEADER X-Number "3"`:               func(n int) bool { return n%4 == 2 && strings.Contains(fmt.Sprint(n), "3") },
		`HEADER X-Number "34"`:              func(n int) bool { return n == 34 },
		`CC "bob" NOT BODY "Frühstück 21"`:  func(n int) bool { return n%4 == 1 && n != 21 },
		`OR TEXT "inner 18" BODY "stück 9"`: func(n int) bool { return n == 18 || n == 9 || n >= 90 && n%4 == 1 },
		`NOT (TEXT "message" FROM "s1")`:    func(n int) bool { return n%4 != 0 || !strings.HasPrefix(fmt.Sprint(n), "1") },
		`SINCE 1-Jan-2026 BODY "within"`:    func(n int) bool { return n%4 == 2 },
		`UNSEEN OR FLAGGED SUBJECT "no s"`:  func(n int) bool { return n%4 == 3 },
		`1:50 SUBJECT "message"`:            func(n int) bool { return n%4 == 0 && n <= 50 },
		`SMALLER 10 TEXT "message"`:         func(int) bool { return false },
	}
	const n = 99
	for i := 1; i <= n; i++ {
		p.put("INBOX", searchedMail(i))
		if i == 40 {
			index()
		}
	}
	c := p.chat(context.Background())
	c.ok("SELECT INBOX")
	check := func(when string) {
		t.Helper()
		for keys, meets := range want {
			expected := "* SEARCH"
			for i := 1; i <= n; i++ {
				if meets(i) {
					expected += fmt.Sprint(" ", i)
				}
			}
			keys = strings.ReplaceAll(keys, `\u0308`, "\u0308")
			literal := fmt.Sprintf("SEARCH CHARSET UTF-8 %s", keys)
			if got := c.ok(literal)[0]; got != expected {
				t.Errorf("%s: %s\n got %s\nwant %s", when, keys, got, expected)
			}
		}
	}
	check("some indexed")
	index()
	check("all indexed")
	granted, err := store.Begin(context.Background(), p.store, p.dir, "alice", auth.Client{Service: directory.ServiceIMAP}, store.NoQuota())
	if err != nil {
		t.Fatal(err)
	}
	box, err := granted.Account.Open(context.Background(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if hits, err := box.(store.Searcher).Search(context.Background(), nil); err != nil || !slices.Equal(hits.Known, store.UIDSet{{First: 1, Last: n}}) {
		t.Errorf("the index knows %v (%v)", hits.Known, err)
	}
}
