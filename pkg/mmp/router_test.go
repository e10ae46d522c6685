package mmp

import (
	"context"
	"errors"
	"testing"

	"mailsrv/pkg/directory"
)

type namedBackend string

func (namedBackend) Attach(context.Context, *Handover) error { return nil }

func TestRouterGoesByMailHost(t *testing.T) {
	remote := func(host string) (Backend, bool) {
		if host == "store2.example" {
			return namedBackend("store2"), true
		}
		return nil, false
	}
	joined := RouterOptions{Local: namedBackend("here"), LocalHosts: []string{"Store1.Example", "localhost"}, Remote: remote}
	split := RouterOptions{Remote: remote, DefaultHost: "store2.example"}
	for _, c := range []struct {
		name     string
		o        RouterOptions
		mailHost string
		want     Backend
		store    string
	}{
		{"none set is local", joined, "", namedBackend("here"), "local"},
		{"our name", joined, "store1.example", namedBackend("here"), "local"},
		{"our name in capitals and absolute", joined, "STORE1.EXAMPLE.", namedBackend("here"), "local"},
		{"another host", joined, "store2.example", namedBackend("store2"), "store2.example"},
		{"another host in capitals", joined, "Store2.Example", namedBackend("store2"), "store2.example"},
		{"host not allowed", joined, "169.254.169.254", nil, ""},
		{"default host", split, "", namedBackend("store2"), "store2.example"},
		{"our name without a store here", split, "store1.example", nil, ""},
		{"nothing configured", RouterOptions{}, "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, store, err := NewRouter(c.o).Route(t.Context(), directory.User{MailHost: c.mailHost})
			if b != c.want || store != c.store {
				t.Fatalf("got %v %q, want %v %q", b, store, c.want, c.store)
			}
			if refused := (*RefusedError)(nil); c.want == nil && (!errors.As(err, &refused) || !refused.Unavailable) {
				t.Fatalf("error %v, want it refused as unavailable", err)
			}
		})
	}
}
