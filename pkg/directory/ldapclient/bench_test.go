package ldapclient_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/directory/ldapclient"
)

// BenchmarkDirectory is searches and binds a second over loopback, at 10,000
// entries, with so many connections each used by one goroutine. (Passwords are
// {SSHA512}: with argon2id the hash alone would be measured.)
func BenchmarkDirectory(b *testing.B) {
	const entries = 10_000
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, options(filled(b, entries)))
	for _, conns := range []int{1, 16} {
		c := dial(b, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password,
			Connections: conns, Binders: conns})
		for name, run := range map[string]func(i int) error{
			"search": func(i int) error { return one(b, c, "u"+itoa(i)+"@example.com") },
			"bind":   func(i int) error { return c.Bind(b.Context(), person(i), "p"+itoa(i)) },
		} {
			b.Run(fmt.Sprintf("%s/conns=%d", name, conns), func(b *testing.B) {
				b.ReportAllocs()
				work := make(chan struct{}, conns)
				var wg sync.WaitGroup
				for range conns {
					wg.Go(func() {
						for range work {
							if err := run(rand.IntN(entries)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), name+"/s")
			})
		}
	}
}

func one(b *testing.B, tree directory.Tree, mail string) error {
	n := 0
	for _, err := range tree.Search(b.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree,
		Filter: directory.Equal("mail", mail), SizeLimit: 2}) {
		if err != nil {
			return err
		}
		n++
	}
	if n != 1 {
		return fmt.Errorf("%d entries of %s", n, mail)
	}
	return nil
}
