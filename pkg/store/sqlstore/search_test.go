package sqlstore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

// searchedWords are what the messages of these tests say.
func searchedWords() []string {
	return strings.Fields("alpha Beta gamma Grüße naïve Привет 日本語 office ﬁnance e\u0301tude étude x-mailer 2026 q ab")
}

func searchedMessage(r *rand.Rand) mail.Bytes {
	words := searchedWords()
	say := func(n int) string {
		s := make([]string, n)
		for i := range s {
			s[i] = words[r.IntN(len(words))]
		}
		return strings.Join(s, " ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s <u%d@example.test>\r\nSubject: %s\r\nTo: %s <to@example.test>\r\n", say(1), r.IntN(5), say(2), say(1))
	if r.IntN(3) == 0 {
		fmt.Fprintf(&b, "Cc: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <cc@example.test>\r\nX-Note: %s\r\n", say(1))
	}
	switch r.IntN(3) {
	case 0:
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n", say(3))
	case 1:
		b.WriteString("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe aus =\r\nnaheN Orten\r\n")
	default:
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner %s\r\n\r\n%s\r\n--x--\r\n",
			say(2), say(1), say(2))
	}
	return mail.Bytes(b.String())
}

func searchedKeys() []store.SearchKey {
	var keys []store.SearchKey
	for _, text := range append(searchedWords(), "grüsse", "u3@example", "aus nahen", "inner", "x-note: ", "zeta", "", "ü") {
		for _, f := range append(store.SearchFields(), store.SearchAnywhere) {
			keys = append(keys, store.SearchKey{Field: f, Text: store.AppendFold(nil, []byte(text))})
		}
	}
	return keys
}

// searchedTexts is what a message says, by field.
func searchedTexts(t *testing.T, m *store.Message) map[store.SearchField][]byte {
	t.Helper()
	var text store.SearchText
	all := map[store.SearchField][]byte{}
	for f := range mime.Fields(m.Header) {
		for _, name := range store.SearchFields() {
			if f.Is(string(name)) {
				all[name] = append(append(all[name], 0xff), text.Field(f, false)...)
			}
		}
	}
	parts, err := mime.DecodeParts(m.Parts)
	if err == nil {
		err = text.Message(bytes.NewReader(m.Text), parts, true, func(piece []byte, begins bool) bool {
			if begins {
				all[store.SearchAnywhere] = append(all[store.SearchAnywhere], 0xff)
			}
			all[store.SearchAnywhere] = append(all[store.SearchAnywhere], piece...)
			return true
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// holdAgainst looks at what the index says of every message, and returns how
// many it knows.
func holdAgainst(t *testing.T, box store.Mailbox) (known int) {
	t.Helper()
	keys := searchedKeys()
	hits, err := box.(store.Searcher).Search(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range box.Messages(t.Context(), store.AllUIDs(), store.FieldHeader|store.FieldParts|store.FieldText) {
		if err != nil {
			t.Fatal(err)
		}
		if !hits.Known.Contains(m.UID) {
			continue
		}
		known++
		texts := searchedTexts(t, m)
		for n, k := range keys {
			_, in := slices.BinarySearch(hits.Match[n], m.UID)
			_, maybe := slices.BinarySearch(hits.Maybe, m.UID)
			text, there := texts[k.Field]
			switch is := there && bytes.Contains(text, k.Text); {
			case is && !in:
				t.Fatalf("message %d of %s meets %q %q, which the index does not know", m.UID, box.Name(), k.Field, k.Text)
			case !is && in && !maybe && hits.Exact[n]:
				t.Fatalf("message %d of %s does not meet %q %q, which the index says", m.UID, box.Name(), k.Field, k.Text)
			}
		}
	}
	return known
}

// TestSearchIndexIsRight takes mailboxes through all that happens to messages,
// with the index ahead and behind, and restarts.
func TestSearchIndexIsRight(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(11, 12))
	s := openStore(t, dir)
	open := func() (box, other store.Mailbox) {
		a, err := s.Account(t.Context(), "a@example.test")
		if err != nil {
			t.Fatal(err)
		}
		if box, err = a.Open(t.Context(), "INBOX"); err == nil {
			other, err = a.Open(t.Context(), "Archive")
		}
		if err != nil {
			t.Fatal(err)
		}
		return box, other
	}
	box, other := open()
	some := func() store.UIDSet {
		st, err := box.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first := store.UID(1 + r.IntN(int(st.UIDNext)))
		return store.NewUIDSet([]store.UIDRange{{First: first, Last: first + store.UID(r.IntN(60))}})
	}
	for step := range 60 {
		var err error
		switch r.IntN(6) {
		case 0, 1:
			for range 20 + r.IntN(80) {
				if err == nil {
					err = s.Deliver(t.Context(), mail.NewTraceID(), searchedMessage(r), []store.Target{{Account: "a@example.test", Quota: store.NoQuota(),
						Recipient: mail.Address{Local: "a", Domain: "example.test"}}})[0]
				}
			}
		case 2:
			_, err = box.Remove(t.Context(), some())
		case 3:
			_, err = box.Move(t.Context(), some(), "Archive")
		case 4:
			_, err = box.Copy(t.Context(), some(), "Archive", store.NoQuota())
		case 5:
			err = s.Index(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if step%12 == 11 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, dir)
			box, other = open()
		}
		if step%6 == 5 {
			holdAgainst(t, box)
			holdAgainst(t, other)
		}
	}
	if err := s.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, b := range []store.Mailbox{box, other} {
		st, err := b.Status(t.Context())
		if known := holdAgainst(t, b); err != nil || known != int(st.Messages) || known == 0 {
			t.Errorf("%s: the index knows %d of %d messages (%v)", b.Name(), known, st.Messages, err)
		}
	}
	if tally, err := s.Verify(t.Context(), func(f store.Fault) { t.Error(f) }); err != nil || tally.Faults > 0 {
		t.Error(tally, err)
	}
}

// TestSearchIndexIsFilledBehind: nobody asks for the index, and it comes; what
// was removed goes from it.
func TestSearchIndexIsFilledBehind(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := rand.New(rand.NewPCG(13, 14))
	for range fillMessages {
		if err := s.Deliver(t.Context(), mail.NewTraceID(), searchedMessage(r), []store.Target{{Account: "a", Quota: store.NoQuota()}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Account(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return holdAgainst(t, box) == fillMessages })
	if _, err := box.Remove(t.Context(), store.AllUIDs()); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return countSegments(t, s) == 0 })
	if err := a.Create(t.Context(), "box", ""); err != nil {
		t.Fatal(err)
	}
	if box, err = a.Open(t.Context(), "box"); err != nil {
		t.Fatal(err)
	}
	var many []store.Incoming
	for range 2 * fillMessages {
		many = append(many, store.Incoming{Body: searchedMessage(r)})
	}
	if _, err := box.AppendAll(t.Context(), many, store.NoQuota()); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return countSegments(t, s) == 1 })
	if err := a.Delete(t.Context(), "box"); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return countSegments(t, s) == 0 })
}

func countSegments(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.search.read(t.Context(), func(tx *sqlite.Tx) error {
		_, err := tx.Get("SELECT count(*) FROM segment", nil, &n)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// await waits for what the store does by itself.
func await(t *testing.T, done func() bool) {
	t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); !done(); <-tick.C {
		if t.Context().Err() != nil {
			t.Fatal("did not come")
		}
	}
}

// TestVerifySearchIndex breaks the index, which is then found and made again.
func TestVerifySearchIndex(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := rand.New(rand.NewPCG(15, 16))
	for range 300 {
		if err := s.Deliver(t.Context(), mail.NewTraceID(), searchedMessage(r), []store.Target{{Account: "a", Quota: store.NoQuota()}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		"UPDATE page SET grams=(SELECT grams FROM page ORDER BY id DESC LIMIT 1) WHERE id=(SELECT min(id) FROM page)",
		"DELETE FROM page WHERE id=(SELECT max(id) FROM page)",
		"UPDATE field SET text=upper(text) WHERE id=(SELECT min(id) FROM field)",
		"DELETE FROM segment WHERE id=(SELECT min(id) FROM segment)",
		"UPDATE segment SET uids=x'' WHERE id=(SELECT min(id) FROM segment)",
		"UPDATE covered SET upto=100000",
	} {
		if err := s.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.search.write(t.Context(), func(tx *sqlite.Tx) error { _, _, err := tx.Exec(sql); return err }); err != nil {
			t.Fatal(err)
		}
		if tally, err := s.Verify(t.Context(), func(store.Fault) {}); err != nil || tally.Faults != 1 {
			t.Errorf("%s: %+v, %v", sql, tally, err)
		}
		if tally, err := s.Reconstruct(t.Context(), func(store.Fault) {}); err != nil || tally.Faults != 1 || tally.Left != 0 {
			t.Errorf("%s: reconstruct: %+v, %v", sql, tally, err)
		}
		if tally, err := s.Verify(t.Context(), func(f store.Fault) { t.Error(f) }); err != nil || tally.Faults != 0 {
			t.Errorf("%s: after reconstruct: %+v, %v", sql, tally, err)
		}
	}
}

// TestSearchIndexHealsByItself: what is missing below what is covered, or cannot
// be read, comes with the next filling.
func TestSearchIndexHealsByItself(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := rand.New(rand.NewPCG(17, 18))
	for range 300 {
		if err := s.Deliver(t.Context(), mail.NewTraceID(), searchedMessage(r), []store.Target{{Account: "a", Quota: store.NoQuota()}})[0]; err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Account(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	box, err := a.Open(t.Context(), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"SELECT 1", "DELETE FROM segment WHERE first=1", "UPDATE segment SET uids=x'' WHERE first=1", "UPDATE covered SET uidvalidity=1"} {
		if err := s.search.write(t.Context(), func(tx *sqlite.Tx) error { _, _, err := tx.Exec(sql); return err }); err != nil {
			t.Fatal(err)
		}
		if err := s.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
		if known := holdAgainst(t, box); known != 300 {
			t.Errorf("%s: the index knows %d messages", sql, known)
		}
		if tally, err := s.Verify(t.Context(), func(f store.Fault) { t.Error(f) }); err != nil || tally.Faults > 0 {
			t.Errorf("%s: %+v, %v", sql, tally, err)
		}
	}
}

// BenchmarkSearch looks keys up as SEARCH does, in a mailbox of 100,000 messages.
func BenchmarkSearch(b *testing.B) {
	const n = 100_000
	s, _ := filled(b, n, 1<<10)
	begun := time.Now()
	if err := s.Index(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d messages indexed in %v", 2*n, time.Since(begun))
	m := inbox(b, s, "a@bench.test").(store.Searcher)
	for _, k := range []store.SearchKey{{Field: store.SearchFrom, Text: []byte("sender")}, {Field: store.SearchSubject, Text: []byte("nowhere")},
		{Text: []byte("12345@bench")}, {Text: []byte("nowhere")}} {
		b.Run(fmt.Sprintf("%s_%s", k.Field, k.Text), func(b *testing.B) {
			for b.Loop() {
				if _, err := m.Search(b.Context(), []store.SearchKey{k}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
