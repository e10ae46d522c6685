package ldapserver_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// TestL4Limits is row L4: sizes of the asker and of the server.
func TestL4Limits(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(filled(t, 30))
	o.SizeLimit = 20
	serve(t, l, o)
	for _, test := range []struct {
		name      string
		who       directory.DN
		pw        string
		limit     int
		entries   int
		wantLimit bool
	}{
		{"user", user(1), "p1", 0, 20, true},
		{"user asking for more", user(1), "p1", 100, 20, true},
		{"user asking for less", user(1), "p1", 3, 3, true},
		{"admin", admin(), secret, 0, 31, false},
		{"admin asking for less", admin(), secret, 30, 30, true},
		{"admin asking for enough", admin(), secret, 31, 31, false},
	} {
		c := dialRaw(t, l)
		if code := c.bind(test.who, test.pw); code != directory.Success {
			t.Fatal(code)
		}
		req := everything()
		req.SizeLimit = test.limit
		res, entries := c.ask(2, req)
		if len(entries) != test.entries || res.Code == int(directory.SizeLimitExceeded) != test.wantLimit {
			t.Errorf("%s: %d entries, %+v", test.name, len(entries), res)
		}
	}
}

// gate is a tree whose searches wait until they are let through or given up.
type gate struct {
	directory.Tree
	entered chan struct{}
	gone    chan error
	let     chan struct{}
}

func newGate(tree directory.Tree) *gate {
	return &gate{Tree: tree, entered: make(chan struct{}, 100), gone: make(chan error, 100), let: make(chan struct{})}
}

func (g *gate) Search(ctx context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		g.entered <- struct{}{}
		select {
		case <-g.let:
			for e, err := range g.Tree.Search(ctx, q) {
				if !yield(e, err) {
					return
				}
			}
		case <-ctx.Done():
			g.gone <- ctx.Err()
			yield(directory.Entry{}, errors.Join(directory.ErrUnavailable, ctx.Err()))
		}
	}
}

func startGate(t *testing.T) (*gate, *raw, func()) {
	t.Helper()
	g := newGate(filled(t, 2))
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(g)
	o.TimeLimit = 10 * time.Second
	o.Pending = 4
	stop := serve(t, l, o)
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	return g, c, stop
}

// TestAbandon ends a search that runs, without an answer to it.
func TestAbandon(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	c.say(ldapwire.Message{ID: 8, Op: &ldapwire.AbandonRequest{ID: 7}}, ldapwire.Message{ID: 9, Op: &ldapwire.AbandonRequest{ID: 99}})
	if err := <-g.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if res, _ := c.ask(10, &ldapwire.ExtendedRequest{OID: ldapwire.OIDWhoAmI}); res.Code != 0 {
		t.Errorf("%+v", res)
	}
}

// TestL4TimeLimit of the request.
func TestL4TimeLimit(t *testing.T) {
	_, c, _ := startGate(t)
	req := everything()
	req.TimeLimit = 1
	if res, _ := c.ask(7, req); res.Code != int(directory.TimeLimitExceeded) {
		t.Errorf("%+v", res)
	}
}

// TestL4Pending: the fifth of four is told that we are busy; others go on.
func TestL4Pending(t *testing.T) {
	g, c, _ := startGate(t)
	for id := 11; id <= 14; id++ {
		c.say(ldapwire.Message{ID: id, Op: everything()})
		<-g.entered
	}
	if res, _ := c.ask(15, everything()); res.Code != int(directory.Busy) {
		t.Errorf("%+v", res)
	}
	close(g.let)
	done := map[int]bool{}
	for len(done) < 4 {
		if m := c.hear(); m.Op.Tag() == ldapwire.TagSearchDone {
			done[m.ID] = true
		}
	}
}

// TestL5BindWaits is row L5: no operation runs across a change of identity.
func TestL5BindWaits(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()}, ldapwire.Message{ID: 8, Op: simple("", "")}, ldapwire.Message{ID: 9, Op: everything()})
	<-g.entered
	close(g.let)
	var order []int
	codes := map[int]int{}
	for len(order) < 3 {
		m := c.hear()
		switch op := m.Op.(type) {
		case *ldapwire.Done:
			order, codes[m.ID] = append(order, m.ID), op.Code
		case *ldapwire.BindResponse:
			order, codes[m.ID] = append(order, m.ID), op.Code
		}
	}
	if !slices.Equal(order, []int{7, 8, 9}) || codes[7] != 0 || codes[9] != int(directory.InsufficientAccessRights) {
		t.Errorf("answers in the order %v, results %v", order, codes)
	}
}

// TestL6StartTLSNotAmidOperations is RFC 4511 §4.14.1.
func TestL6StartTLSNotAmidOperations(t *testing.T) {
	serverTLS, _, _ := certificate(t)
	g := newGate(filled(t, 1))
	l := listen(t, "tcp", "127.0.0.1:0")
	o := options(g)
	o.TLS = serverTLS
	serve(t, l, o)
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	if res, _ := c.ask(8, &ldapwire.ExtendedRequest{OID: ldapwire.OIDStartTLS}); res.Code != int(directory.OperationsError) {
		t.Errorf("%+v", res)
	}
	close(g.let)
}

// TestReusedID ends the connection: nobody could tell the answers apart.
func TestReusedID(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	if m := c.hear(); m.ID != 0 {
		t.Errorf("answered %+v", m)
	}
	if !c.ended() {
		t.Error("the connection goes on")
	}
}

// TestDrain: an operation under way is finished, then a notice, then the end.
func TestDrain(t *testing.T) {
	g, c, stop := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	var wg sync.WaitGroup
	wg.Go(stop)
	close(g.let)
	entries := 0
	for {
		m := c.hear()
		if m.Op.Tag() == ldapwire.TagSearchEntry {
			entries++
			continue
		}
		if done, ok := m.Op.(*ldapwire.Done); ok {
			if done.Code != 0 || entries != 3 {
				t.Errorf("%d entries, %+v", entries, done)
			}
			continue
		}
		if n, ok := m.Op.(*ldapwire.ExtendedResponse); !ok || m.ID != 0 || n.Code != int(directory.Unavailable) {
			t.Errorf("%+v", m)
		}
		break
	}
	if !c.ended() {
		t.Error("the connection goes on")
	}
	wg.Wait()
}

// TestClientGone: operations end with their connection.
func TestClientGone(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 7, Op: everything()})
	<-g.entered
	_ = c.conn.Close()
	if err := <-g.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
