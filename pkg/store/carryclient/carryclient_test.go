package carryclient_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/store"
	"mailsrv/pkg/store/carryclient"
	"mailsrv/pkg/store/carryserver"
	"mailsrv/pkg/store/sqlstore"
	"mailsrv/pkg/store/storetest"
)

func serve(t *testing.T, o carryserver.Options) *carryclient.Client {
	t.Helper()
	mux := http.NewServeMux()
	carryserver.Register(mux, o)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return carryclient.New("there", func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
	})
}

// TestCarrier runs the suite of the contract across the wire.
func TestCarrier(t *testing.T) {
	storetest.RunCarrier(t, func(t *testing.T) storetest.Carried {
		s, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: t.TempDir(), Mailboxes: sqlstore.DefaultMailboxes()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return storetest.Carried{Store: s, Carrier: serve(t, carryserver.Options{Carrier: s})}
	})
}

// TestSealEndsSessions: those of an account that was sealed, and no others.
func TestSealEndsSessions(t *testing.T) {
	s, err := sqlstore.Open(t.Context(), sqlstore.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Account(t.Context(), "a b/c@x"); err != nil {
		t.Fatal(err)
	}
	var ended atomic.Pointer[string]
	c := serve(t, carryserver.Options{Carrier: s, EndSessions: func(account string) { ended.Store(&account) }})
	if err := c.Seal(t.Context(), "nobody@x", time.Time{}); err == nil || ended.Load() != nil {
		t.Errorf("%v %v", err, ended.Load())
	}
	if err := c.Seal(t.Context(), "a b/c@x", time.Time{}); err != nil || ended.Load() == nil || *ended.Load() != "a b/c@x" {
		t.Errorf("%v %v", err, ended.Load())
	}
	census, err := c.Census(t.Context(), "a b/c@x", false)
	if err != nil || census.Hold != store.HoldSealed {
		t.Errorf("%+v %v", census, err)
	}
}
