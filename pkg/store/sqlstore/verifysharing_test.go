package sqlstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/sqlite"
	"mailsrv/pkg/store"
)

func TestVerifyWhatIsKeptOfWhatIsGone(t *testing.T) {
	s, ctx := openStore(t, t.TempDir()), t.Context()
	if _, err := s.Account(ctx, "a@x"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetACL(ctx, "a@x", "INBOX", "anyone", store.RightsReplace, store.AllRights); err != nil {
		t.Fatal(err)
	}
	if err := s.Annotate(ctx, "a@x", "", "a@x", []store.Annotation{{Entry: "/private/x", Value: []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	look := func(at func(t *testing.T) ([]string, error), want ...string) {
		t.Helper()
		got, err := at(t)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
	}
	verify := func(t *testing.T) (found []string, err error) {
		_, err = s.Verify(t.Context(), func(f store.Fault) { found = append(found, f.String()) })
		return found, err
	}
	reconstruct := func(t *testing.T) (found []string, err error) {
		_, err = s.Reconstruct(t.Context(), func(f store.Fault) { found = append(found, f.String()) })
		return found, err
	}
	look(verify)
	if err := s.db.Write(ctx, func(tx *sqlite.Tx) error {
		for _, q := range []string{"INSERT INTO acl VALUES (999, 'anyone', 'lr')", "INSERT INTO annotation VALUES (999, 1, '/shared/x', 'y')",
			"INSERT INTO seen VALUES (1, 1, 7, 1, 1)", "INSERT INTO seen VALUES (1, 1, 8, 1, 1)"} {
			if _, _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	faults := []string{"rights on mailboxes of what is gone: 1 entries", "metadata of what is gone: 1 entries", `users' own \Seen flags of what is gone: 2 entries`}
	look(verify, faults...)
	look(reconstruct, faults[0]+" (mended)", faults[1]+" (mended)", faults[2]+" (mended)")
	look(verify)
	if l, err := s.ACL(ctx, "a@x", "INBOX"); err != nil || len(l) != 1 {
		t.Errorf("what is there was harmed: %v %v", l, err)
	}
	if l, err := s.Annotations(ctx, "a@x", "", "a@x"); err != nil || len(l) != 1 {
		t.Errorf("what is there was harmed: %v %v", l, err)
	}
}
