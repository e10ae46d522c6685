package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/store"
)

func rights(t testing.TB, letters string) store.Rights {
	t.Helper()
	r, err := store.ParseRights(letters)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRightsLetters(t *testing.T) {
	for _, x := range []struct{ in, plain, wire string }{
		{"", "", ""},
		{"rl", "lr", "lr"},
		{"aetxkpiwsrl", "lrswipkxtea", "lrswipkxteacd"},
		{"lrc", "lrkx", "lrkxc"},
		{"lrd", "lrte", "lrted"},
		{"t", "t", "td"},
		{"k", "k", "kc"},
	} {
		r := rights(t, x.in)
		if r.String() != x.plain || r.Wire() != x.wire {
			t.Errorf("%q is %q, on the wire %q; want %q, %q", x.in, r.String(), r.Wire(), x.plain, x.wire)
		}
	}
	for _, bad := range []string{"lrq", "L", "l r", "0", "é"} {
		if r, err := store.ParseRights(bad); err == nil {
			t.Errorf("%q is %s", bad, r)
		}
	}
}

func TestACLRights(t *testing.T) {
	outage := errors.New("outage")
	is := func(id string) (bool, error) {
		switch id {
		case "bob@x", "anyone", "group=staff@x":
			return true, nil
		case "group=down@x":
			return false, outage
		}
		return false, nil
	}
	for _, x := range []struct {
		name string
		list store.ACL
		want string
		err  error
	}{
		{"nobody is named", nil, "", nil},
		{"somebody else", store.ACL{{"carol@x", store.AllRights}}, "", nil},
		{"anyone", store.ACL{{"anyone", rights(t, "lr")}}, "lr", nil},
		{"all that are he together", store.ACL{{"anyone", rights(t, "l")}, {"bob@x", rights(t, "r")}, {"group=staff@x", rights(t, "s")}}, "lrs", nil},
		{"taken away from him", store.ACL{{"-bob@x", rights(t, "s")}, {"anyone", rights(t, "lrs")}}, "lr", nil},
		{"taken away from his group, given to himself", store.ACL{{"-group=staff@x", rights(t, "lrs")}, {"bob@x", rights(t, "lrsw")}}, "w", nil},
		{"taken away from another", store.ACL{{"-carol@x", store.AllRights}, {"anyone", rights(t, "lr")}}, "lr", nil},
		{"taken away from anyone", store.ACL{{"-anyone", rights(t, "r")}, {"bob@x", rights(t, "lr")}}, "l", nil},
		{"what is not known grants nothing", store.ACL{{"bob@x", rights(t, "lr")}, {"group=down@x", rights(t, "lr")}}, "", outage},
		{"what is not known may take away", store.ACL{{"-group=down@x", rights(t, "lr")}, {"bob@x", rights(t, "lr")}}, "", outage},
	} {
		t.Run(x.name, func(t *testing.T) {
			got, err := x.list.Rights(is)
			if got.String() != x.want || !errors.Is(err, x.err) {
				t.Errorf("%q %v, want %q %v", got, err, x.want, x.err)
			}
		})
	}
}

func TestACLWith(t *testing.T) {
	list := store.ACL{{"a@x", rights(t, "lr")}, {"c@x", rights(t, "l")}}
	for _, x := range []struct {
		id     string
		change store.RightsChange
		rights string
		want   store.ACL
	}{
		{"b@x", store.RightsReplace, "r", store.ACL{list[0], {"b@x", rights(t, "r")}, list[1]}},
		{"b@x", store.RightsAdd, "r", store.ACL{list[0], {"b@x", rights(t, "r")}, list[1]}},
		{"b@x", store.RightsRemove, "r", list},
		{"a@x", store.RightsReplace, "s", store.ACL{{"a@x", rights(t, "s")}, list[1]}},
		{"a@x", store.RightsAdd, "s", store.ACL{{"a@x", rights(t, "lrs")}, list[1]}},
		{"a@x", store.RightsRemove, "ls", store.ACL{{"a@x", rights(t, "r")}, list[1]}},
		{"a@x", store.RightsReplace, "", store.ACL{list[1]}},
		{"c@x", store.RightsRemove, "l", store.ACL{list[0]}},
	} {
		got, err := list.With(x.id, x.change, rights(t, x.rights))
		if diff := cmp.Diff(x.want, got); diff != "" || err != nil {
			t.Errorf("%s %c%s: %v %s", x.id, x.change, x.rights, err, diff)
		}
	}
	var full store.ACL
	var err error
	for i := range 1000 {
		if full, err = full.With(fmt.Sprintf("u%d@x", i), store.RightsReplace, store.AllRights); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := full.With("more@x", store.RightsReplace, store.AllRights); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("a list without end: %v", err)
	}
	if _, err := full.With("u1@x", store.RightsReplace, 0); err != nil {
		t.Error(err)
	}
}

// TestFlagsWithinRights is the table of RFC 4314 §4 for STORE.
func TestFlagsWithinRights(t *testing.T) {
	has, err := store.ParseFlags([]string{`\Seen`, `\Flagged`, "old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		rights string
		kind   store.FlagChangeKind
		flags  []string
		want   string
	}{
		{"swt", store.FlagsReplace, []string{`\Deleted`, "new"}, `\Deleted new`},
		{"s", store.FlagsReplace, []string{`\Deleted`, "new"}, `\Flagged old`},
		{"t", store.FlagsReplace, []string{`\Deleted`, "new"}, `\Flagged \Deleted \Seen old`},
		{"w", store.FlagsReplace, []string{`\Deleted`, "new"}, `\Seen new`},
		{"w", store.FlagsAdd, []string{`\Deleted`, "new"}, `\Flagged \Seen new old`},
		{"t", store.FlagsRemove, []string{`\Seen`, `\Flagged`, "old"}, `\Flagged \Seen old`},
		{"s", store.FlagsRemove, []string{`\Seen`, `\Flagged`, "old"}, `\Flagged old`},
	} {
		f, err := store.ParseFlags(x.flags)
		if err != nil {
			t.Fatal(err)
		}
		got := has.Apply(store.FlagChange{Kind: x.kind, Flags: f, Within: rights(t, x.rights)})
		if string(got.AppendTo(nil)) != x.want {
			t.Errorf("%s, %d %v: %s, want %s", x.rights, x.kind, x.flags, got.AppendTo(nil), x.want)
		}
	}
}
