package imapserver_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/store"
)

// TestUsersTogether lets sessions of three users, in all dialects, work on one
// mailbox that one of them owns. At each checkpoint each has been told what a new
// session of the same user reads, and all users agree on all but \Seen.
func TestUsersTogether(t *testing.T) {
	p := newPeer(t, nil)
	users := []directory.User{alice()}
	for _, uid := range []string{"bob", "carol"} {
		u := alice()
		u.UID = uid
		users = append(users, u)
	}
	p.dir.others = users
	p.chat(t.Context()).ok("SETACL INBOX anyone lrswite")
	names := []string{"INBOX", `"Other Users/alice@example.test/INBOX"`, `"Other Users/alice@example.test/INBOX"`}
	join := func(who int, dialect string) *mirror {
		m := &mirror{chat: p.chatAs(t.Context(), users[who]), box: names[who], flags: map[int]string{}}
		if dialect != "" {
			m.ok(dialect)
		}
		m.take(m.ok("SELECT " + m.name()))
		return m
	}
	var clients []*mirror
	for i := range 3 * len(dialects()) {
		clients = append(clients, join(i%3, dialects()[i/3]))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for begun, round := time.Now(), uint64(0); (time.Since(begun) < *together || round < 2) && !t.Failed(); round++ {
		var wg sync.WaitGroup
		for i, m := range clients {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(seed+round, uint64(i)))
				for range 8 {
					m.anything(random)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		var all []string
		for who := range users {
			fresh := join(who, "")
			want := fresh.known()
			for i, m := range clients {
				if diff := cmp.Diff(want, m.known()); i%3 == who && diff != "" {
					t.Fatalf("round %d: client %d of %s (%s) disagrees (-new session +told):\n%s", round, i, users[who].UID, dialects()[i/3], diff)
				}
			}
			fresh.ok("LOGOUT")
			for i, line := range want {
				number, flags, _ := strings.Cut(line, " flags ")
				kept := slices.DeleteFunc(strings.Fields(flags), func(f string) bool { return f == `\Seen` })
				want[i] = number + " " + strings.Join(kept, " ")
			}
			if diff := cmp.Diff(all, want); who > 0 && diff != "" {
				t.Fatalf("round %d: %s and %s do not agree:\n%s", round, users[who-1].UID, users[who].UID, diff)
			}
			all = want
		}
	}
	if _, err := p.store.(store.Keeper).Verify(t.Context(), func(f store.Fault) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}
