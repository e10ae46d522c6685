package sqlstore

import (
	"context"
	"testing"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/storetest"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Dir: dir, Mailboxes: DefaultMailboxes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openStore(t, t.TempDir()) })
}

func TestCarrier(t *testing.T) {
	storetest.RunCarrier(t, func(t *testing.T) storetest.Carried {
		s := openStore(t, t.TempDir())
		return storetest.Carried{Store: s, Carrier: s}
	})
}
