package mta_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/sqlstore"
)

// crashFound counts what is in the mailboxes and was taken outside, by place
// and message; reports under "report " and the message that they are about.
type crashFound map[string]int

// check holds both ledgers and the mailboxes against each other, and returns
// how many messages were acknowledged.
func (c *crashRun) check() (acked int) {
	found := crashFound{}
	known := map[string]*crashMessage{}
	for _, m := range c.sent {
		known[m.id] = m
	}
	c.mailboxes(known, found)
	repeated := c.outside(known, found)
	for _, m := range c.sent {
		least, most := 0, 1
		if m.acked {
			acked++
			least = 1
		}
		for _, place := range m.kind.copies {
			if n := found[place+" "+m.id]; n < least || n > most {
				c.t.Errorf("%s, acknowledged %t: %d copies in %s", m.id, m.acked, n, place)
			}
		}
		for _, to := range m.kind.outside {
			if n := found[to+" "+m.id]; n < least {
				c.t.Errorf("%s, acknowledged %t: %s got none", m.id, m.acked, to)
			}
		}
		if m.kind.report != "" {
			if n := found["report "+m.kind.report+" "+m.id]; n < least || n > most {
				c.t.Errorf("%s, acknowledged %t: %s got %d reports", m.id, m.acked, m.kind.report, n)
			}
		}
	}
	c.t.Logf("%d messages sent, %d acknowledged, %d deliveries outside repeated", len(c.sent), acked, repeated)
	return acked
}

// mailboxes reads the store.
func (c *crashRun) mailboxes(known map[string]*crashMessage, found crashFound) {
	s, err := sqlstore.Open(c.t.Context(), sqlstore.Options{Dir: filepath.Join(c.dir, "store"), Mailboxes: sqlstore.DefaultMailboxes()})
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Verify(c.t.Context(), func(f store.Fault) { c.t.Errorf("verify: %+v", f) }); err != nil {
		c.t.Error(err)
	}
	for _, place := range []string{aliceInbox, aliceSent, bobInbox} {
		account, name, _ := strings.Cut(place, "/")
		a, err := s.Account(c.t.Context(), account)
		if err != nil {
			c.t.Fatal(err)
		}
		box, err := a.Open(c.t.Context(), name)
		if err != nil {
			c.t.Fatal(err)
		}
		for m, err := range box.Messages(c.t.Context(), store.AllUIDs(), 0) {
			if err != nil {
				c.t.Fatal(err)
			}
			body, err := box.Body(c.t.Context(), m.UID)
			if err != nil {
				c.t.Fatal(err)
			}
			text, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
			if err = errors.Join(err, body.Close()); err != nil {
				c.t.Fatal(err)
			}
			c.note(known, found, place, string(text))
		}
	}
}

// note counts one message at a place, and wants it whole.
func (c *crashRun) note(known map[string]*crashMessage, found crashFound, place, text string) string {
	if about := headerField(text, "In-Reply-To"); about != "" {
		id := strings.TrimSuffix(strings.TrimPrefix(about, "<"), "@crash>")
		key := "report " + place + " " + id
		if !strings.HasSuffix(text, "--\r\n") || known[id] == nil {
			c.t.Errorf("%s holds a torn report, or one about nothing sent:\n%s", place, text)
		}
		// The same report may come again from the relay's boundary.
		if once := key + " " + headerField(text, "Message-ID"); found[once] == 0 || strings.Contains(place, "/") {
			found[once]++
			found[key]++
		}
		return headerField(text, "Message-ID")
	}
	id := strings.TrimSuffix(strings.TrimPrefix(headerField(text, "Message-ID"), "<"), "@crash>")
	m := known[id]
	if m == nil {
		c.t.Errorf("%s holds what nobody sent:\n%s", place, text[:min(len(text), 1000)])
		return id
	}
	_, want, _ := strings.Cut(m.text(), "\r\n\r\n")
	if _, got, _ := strings.Cut(text, "\r\n\r\n"); got != want {
		c.t.Errorf("%s in %s is torn: %d bytes of %d", id, place, len(got), len(want))
	}
	found[place+" "+id]++
	return id
}

// outside reads the far host's ledger: a delivery that came again must come
// from a later life, and only one for each kill and host.
func (c *crashRun) outside(known map[string]*crashMessage, found crashFound) (repeated int) {
	c.far.mu.Lock()
	defer c.far.mu.Unlock()
	last := map[string]int{} // life of the delivery before
	killed := map[string]int{}
	for _, m := range c.far.taken {
		key := m.to + " " + c.note(known, found, m.to, m.text)
		if before, again := last[key]; again {
			repeated++
			_, domain, _ := strings.Cut(m.to, "@")
			// Reports come back by a rewritten address of ours, another destination.
			boundary := fmt.Sprintf("%s, report %t, after life %d", domain, headerField(m.text, "In-Reply-To") != "", before)
			if killed[boundary]++; !c.faults && (before == m.life || killed[boundary] > 1) {
				c.t.Errorf("%s came again in life %d: %d deliveries repeated at %s", key, m.life, killed[boundary], boundary)
			}
		}
		last[key] = m.life
	}
	return repeated
}

// headerField returns the first field of that name, without its name.
func headerField(text, name string) string {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+": ") })
	if i < 0 {
		return ""
	}
	return strings.TrimSpace(lines[i][len(name)+2:])
}
