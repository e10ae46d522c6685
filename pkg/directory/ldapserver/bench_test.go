package ldapserver_test

import (
	"context"
	"iter"
	"testing"

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
