package ldapserver_test

import (
	"context"
	"iter"
	"strconv"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// instant is a tree that has the answer ready.
type instant struct{ directory.Tree }

func (instant) Search(context.Context, directory.Query) iter.Seq2[directory.Entry, error] {
	e := directory.Entry{DN: user(1), Attributes: []directory.Attribute{
		{Name: "objectClass", Values: []string{"inetOrgPerson", "inetMailUser"}}, {Name: "mail", Values: []string{"u1@example.com"}}, {Name: "cn", Values: []string{"User 1"}}}}
	return func(yield func(directory.Entry, error) bool) { yield(e, nil) }
}

// BenchmarkDoor is what the door alone costs: an equality search over an engine
// that takes no time, one at a time and 16 in flight on one connection.
func BenchmarkDoor(b *testing.B) {
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, options(instant{}))
	request := ldapwire.Message{ID: 2, Op: find(equal("mail", "u1@example.com"))}
	for name, depth := range map[string]int{"one": 1, "pipelined": 16} {
		b.Run(name, func(b *testing.B) {
			c := dialRaw(b, l)
			if code := c.bind(admin(), secret); code != directory.Success {
				b.Fatal(code)
			}
			var batch []byte
			for id := range depth {
				request.ID = id + 2
				batch = ldapwire.AppendMessage(batch, request)
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += depth {
				if _, err := c.conn.Write(batch); err != nil {
					b.Fatal(err)
				}
				for range 2 * depth {
					if _, err := ldapwire.ReadPDU(c.r, 1<<16); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "search/s")
		})
	}
}

// BenchmarkBind is a bind of users in turn, whose passwords were proved before,
// with what the whole server has beside it.
func BenchmarkBind(b *testing.B) {
	const n = 100
	tree := filled(b, n)
	o := options(tree)
	o.Access.Rules = directory.DefaultRules()
	o.Logins = auth.New(auth.Options{Directory: directory.NewView(tree, directory.ViewOptions{Base: base()})})
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, o)
	c := dialRaw(b, l)
	must(b, c.conn.SetDeadline(time.Time{}))
	var requests [n][]byte
	for i := range n {
		requests[i] = ldapwire.AppendMessage(nil, ldapwire.Message{ID: 1, Op: simple(user(i).String(), "p"+strconv.Itoa(i))})
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.conn.Write(requests[i%n]); err != nil {
			b.Fatal(err)
		}
		if _, err := ldapwire.ReadPDU(c.r, 1<<16); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
