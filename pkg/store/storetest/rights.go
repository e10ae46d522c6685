package storetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

// people is a Directory in which every uid of the domain x is a user, and
// team@x a group.
type people struct {
	directory.Directory
	members []string // of team@x
	down    bool
	quota   int64 // of all, in messages
}

func dnOf(uid string) directory.DN {
	return directory.MustParseDN("uid=" + strings.ReplaceAll(uid, "+", `\+`) + ",o=x")
}

func (p *people) User(_ context.Context, login string) (directory.User, error) {
	uid, domain, _ := strings.Cut(login, "@")
	if domain != "x" && domain != "" || uid == "team" || uid == "no" || uid == "" {
		return directory.User{}, directory.ErrNotFound
	}
	u := directory.User{DN: dnOf(uid), UID: uid, Domain: "x", Status: directory.Active, Quota: -1, MessageQuota: p.quota}
	if uid == "joined" {
		u.ACLGroups = []string{"team@x"}
	}
	return u, nil
}

func (p *people) Recipient(ctx context.Context, a mail.Address) (directory.Recipient, error) {
	if p.down {
		return directory.Recipient{}, directory.ErrUnavailable
	}
	if len(a.Local) == 1 {
		u, err := p.User(ctx, a.String())
		return directory.Recipient{User: &u}, err
	}
	if a.Local != "team" {
		return directory.Recipient{}, directory.ErrNotFound
	}
	return directory.Recipient{Group: &directory.Group{DN: dnOf("team"), Mail: a}}, nil
}

func (p *people) GroupsOf(_ context.Context, member directory.DN) ([]directory.DN, error) {
	for _, m := range p.members {
		if dnOf(m).Equal(member) {
			return []directory.DN{dnOf("team")}, nil
		}
	}
	return nil, nil
}

func begin(t *testing.T, s store.Store, p *people, login string) store.Session {
	t.Helper()
	client := auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Service: directory.ServiceIMAP}
	granted, err := store.Begin(t.Context(), s, p, login, client, store.NoQuota())
	must(t, err)
	return granted
}

const theirs = store.OtherUsers + "a@x/Work"

// uses is what somebody may do to another's mailbox, and the rights that it
// needs, all of them and no others (RFC 4314 §4).
var uses = map[string]struct {
	need string
	do   func(ctx context.Context, a *store.Namespaces, m store.Mailbox) error
}{
	"Status": {"r", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Status(ctx)
		return err
	}},
	"Messages": {"r", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		for _, err := range m.Messages(ctx, store.AllUIDs(), 0) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	"Body": {"r", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Body(ctx, 1)
		return err
	}},
	"Changes": {"r", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Changes(ctx, 0)
		return err
	}},
	"Append": {"i", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Append(ctx, Message("n@x", "n"), store.Flags{}, time.Time{}, store.NoQuota())
		return err
	}},
	"Replace": {"rtei", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Replace(ctx, 1, theirs, store.Incoming{Body: Message("n@x", "n")}, store.NoQuota())
		return err
	}},
	"StoreFlags \\Seen":    {"rs", storeFlag(`\Seen`)},
	"StoreFlags \\Deleted": {"rt", storeFlag(`\Deleted`)},
	"StoreFlags \\Flagged": {"rw", storeFlag(`\Flagged`)},
	"StoreFlags keyword":   {"rw", storeFlag("k")},
	"Expunge": {"e", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Expunge(ctx, store.AllUIDs())
		return err
	}},
	"Remove": {"te", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Remove(ctx, store.UIDsOf(9))
		return err
	}},
	"Copy to own": {"r", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Copy(ctx, store.UIDsOf(1), "INBOX", store.NoQuota())
		return err
	}},
	"Copy within": {"ri", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Copy(ctx, store.UIDsOf(1), theirs, store.NoQuota())
		return err
	}},
	"Copy from own": {"i", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		m, err := a.Open(ctx, "INBOX")
		if err == nil {
			_, err = m.Copy(ctx, store.AllUIDs(), theirs, store.NoQuota())
		}
		return err
	}},
	"Move from own": {"i", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		m, err := a.Open(ctx, "INBOX")
		if err == nil {
			_, err = m.Move(ctx, store.AllUIDs(), theirs)
		}
		return err
	}},
	"Replace of own": {"i", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		m, err := a.Open(ctx, "INBOX")
		if err != nil {
			return err
		}
		uid, err := m.Append(ctx, Message("o@x", "o"), store.Flags{}, time.Time{}, store.NoQuota())
		if err == nil {
			_, err = m.Replace(ctx, uid, theirs, store.Incoming{Body: Message("n@x", "n")}, store.NoQuota())
		}
		return err
	}},
	"Move": {"rte", func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		_, err := m.Move(ctx, store.UIDsOf(9), "INBOX")
		return err
	}},
	"Create": {"k", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		return a.Create(ctx, theirs+"/New", "")
	}},
	"Delete": {"x", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error { return a.Delete(ctx, theirs) }},
	"Rename": {"xk", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		return a.Rename(ctx, theirs+"/Sub", theirs+"/Bus")
	}},
	"Subscribe": {"l", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		return a.Subscribe(ctx, theirs, true)
	}},
	"GETACL": {"a", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		_, err := a.ACL(ctx, theirs)
		return err
	}},
	"SETACL": {"a", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		return a.SetACL(ctx, theirs, "c", '+', store.RightLookup)
	}},
	"DELETEACL": {"a", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		return a.DeleteACL(ctx, theirs, "c")
	}},
	"LISTRIGHTS": {"a", func(ctx context.Context, a *store.Namespaces, _ store.Mailbox) error {
		_, _, err := a.ListRights(ctx, theirs, "c")
		return err
	}},
}

func storeFlag(name string) func(context.Context, *store.Namespaces, store.Mailbox) error {
	return func(ctx context.Context, _ *store.Namespaces, m store.Mailbox) error {
		f, err := store.ParseFlags([]string{name})
		if err == nil {
			_, err = m.StoreFlags(ctx, store.UIDsOf(1), store.FlagChange{Kind: store.FlagsAdd, Flags: f}, 0)
		}
		return err
	}
}

func testRights(t *testing.T, s store.Store) {
	sh, ctx := sharer(t, s), t.Context()
	p := &people{quota: -1}
	for name, use := range uses {
		accounts(t, s, "a@x")
		a, err := s.Account(ctx, "a@x")
		must(t, err)
		must(t, a.Create(ctx, "Work/Sub", ""))
		fill(t, open(t, s, "a@x", "Work"), 2)
		give := func(r store.Rights) store.Mailbox {
			must(t, sh.SetACL(ctx, "a@x", "Work", "b@x", store.RightsReplace, r|store.RightPost))
			must(t, sh.SetACL(ctx, "a@x", "Work/Sub", "b@x", store.RightsReplace, r|store.RightPost))
			m, err := begin(t, s, p, "b").Account.Open(ctx, theirs)
			must(t, err)
			return m
		}
		need := rights(t, use.need)
		for i := range 11 { // all but one of those that are needed
			one := store.Rights(1) << i
			if need&one == 0 {
				continue
			}
			m := give(store.AllRights &^ one)
			want := store.ErrNoRight
			if one == store.RightLookup {
				want = store.ErrNoMailbox
			}
			if err := use.do(ctx, begin(t, s, p, "b").Sharing, m); !errors.Is(err, want) {
				t.Errorf("%s without %s: %v, want %v", name, one, err, want)
			}
			if need == one {
				m = give(0) // and who does not even see it hears that there is none
				if err := use.do(ctx, begin(t, s, p, "b").Sharing, m); !errors.Is(err, store.ErrNoMailbox) && name != "Create" {
					t.Errorf("%s without any right: %v", name, err)
				}
			}
		}
		m := give(need)
		if err := use.do(ctx, begin(t, s, p, "b").Sharing, m); err != nil {
			t.Errorf("%s with %s: %v", name, use.need, err)
		}
		list, err := a.Mailboxes(ctx)
		must(t, err)
		for _, e := range slices.Backward(list) {
			if strings.HasPrefix(e.Name, "Work") && !e.NonExistent {
				must(t, a.Delete(ctx, e.Name))
			}
		}
	}
}

func names(t *testing.T, a store.Account) (out []string) {
	t.Helper()
	list, err := a.Mailboxes(t.Context())
	must(t, err)
	for _, e := range list {
		if strings.Contains(e.Name, "/") || e.NoSelect {
			out = append(out, e.Name)
		}
	}
	return out
}

func testNamespaces(t *testing.T, s store.Store) {
	sh, ctx := sharer(t, s), t.Context()
	p := &people{quota: 2, members: []string{"in"}}
	accounts(t, s, "a@x", "b@x")
	must(t, sh.SetACL(ctx, "a@x", "Work", "group=team@x", store.RightsReplace, rights(t, "lri")))
	for who, want := range map[string]int{"b": 0, "in": 1, "joined": 1} {
		if got := names(t, begin(t, s, p, who).Account); len(got) != 3*want {
			t.Errorf("%s sees %q", who, got)
		}
	}
	// An outage neither gives nor takes: it is an outage.
	p.down = true
	for _, who := range []string{"b", "in"} {
		if _, err := begin(t, s, p, who).Account.Open(ctx, theirs); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s during an outage: %v", who, err)
		}
	}
	// One's own mailboxes are listed all the same.
	if list, err := begin(t, s, p, "in").Account.Mailboxes(ctx); err != nil || len(list) == 0 || slices.ContainsFunc(list, func(e store.MailboxEntry) bool { return e.Name == theirs }) {
		t.Errorf("a list during an outage: %v %v", list, err)
	}
	p.down = false
	// The owner's quota is not the user's own.
	m, err := begin(t, s, p, "in").Account.Open(ctx, theirs)
	must(t, err)
	for i, want := range []error{nil, nil, store.ErrOverQuota} {
		if _, err := m.Append(ctx, Message("q@x", "q"), store.Flags{}, time.Time{}, store.NoQuota()); !errors.Is(err, want) {
			t.Errorf("append %d: %v, want %v", i, err, want)
		}
	}
	// The domain's tree is made by its admins, and has no INBOX.
	admin, user := begin(t, s, p, "b").Sharing, begin(t, s, p, "c").Sharing
	if err := admin.Create(ctx, "Shared/News", ""); !errors.Is(err, store.ErrNoRight) {
		t.Errorf("not an admin yet: %v", err)
	}
	admin.Admin = true
	must(t, admin.Create(ctx, "Shared/News/Old", ""))
	if got := names(t, admin); !slices.Equal(got, []string{"Shared", "Shared/News", "Shared/News/Old"}) || len(names(t, user)) != 0 {
		t.Errorf("%q, and to others %q", got, names(t, user))
	}
	must(t, admin.SetACL(ctx, "Shared/News/Old", "anyone", store.RightsReplace, rights(t, "l")))
	if got := names(t, user); !slices.Equal(got, []string{"Shared", "Shared/News", "Shared/News/Old"}) {
		t.Errorf("%q", got)
	}
	// Names that lead nowhere, or to oneself by a second name.
	for _, name := range []string{"Shared", "Shared/", "Other Users", "Other Users/a@x", "Other Users/b@x/INBOX", "Other Users/+shared@x/News", "Other Users//INBOX", "Other Users/no@x/INBOX"} {
		if _, err := admin.Open(ctx, name); !errors.Is(err, store.ErrNoMailbox) {
			t.Errorf("%s: %v", name, err)
		}
		if err := admin.Create(ctx, name, ""); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	for text, want := range map[string]string{
		"a": "a@x", "A@X": "a@x", "-a": "-a@x", "anyone": "anyone", "-Anyone": "-anyone", "group=team@x": "group=team@x", "team@x": "group=team@x", "no": "", "group=no@x": "", "": "",
	} {
		got, err := admin.Identifier(ctx, text)
		if got != want || (want == "") != errors.Is(err, store.ErrNoIdentifier) {
			t.Errorf("%q is %q %v, want %q", text, got, err, want)
		}
	}
	if _, err := admin.Identifier(ctx, "--a"); !errors.Is(err, store.ErrNoIdentifier) {
		t.Errorf("a user whose name begins with a dash: %v", err)
	}
	// Nobody is who owns the domain's tree, and what lies under a namespace's name is nobody's own.
	client := auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:4000"), Service: directory.ServiceIMAP}
	if _, err := store.Begin(ctx, s, p, "+shared@x", client, store.NoQuota()); !errors.Is(err, auth.ErrRefused) {
		t.Errorf("+shared logged in: %v", err)
	}
	raw, err := s.Account(ctx, "c@x")
	must(t, err)
	must(t, raw.Create(ctx, "Shared/Old", ""))
	if got := names(t, begin(t, s, p, "c").Account); slices.Contains(got, "Shared/Old") {
		t.Errorf("%q", got)
	}
	d := store.NewDeliverer(s, p, store.NoQuota())
	to := mail.Recipient{Address: mail.Address{Local: "a", Domain: "x"}, Mailbox: "Shared/News"}
	if got, err := d.Target(ctx, mail.Address{}, to); err != nil || got.Mailbox != "" {
		t.Errorf("delivered to %q of one's own: %v", got.Mailbox, err)
	}
	own := begin(t, s, p, "a").Sharing
	if err := own.SetACL(ctx, "Work", "a", store.RightsRemove, store.RightRead); !errors.Is(err, store.ErrOwner) {
		t.Errorf("an owner without rights: %v", err)
	}
}
