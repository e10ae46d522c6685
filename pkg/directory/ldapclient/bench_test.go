package ldapclient_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/directory/directorytest"
	"mailsrv/pkg/directory/ldapclient"
	"mailsrv/pkg/peertest"
)

const benchEntries = 10_000

// BenchmarkDirectory is searches and binds a second over loopback, at 10,000
// entries, with so many connections each used by one goroutine. (Passwords are
// {SSHA512}: with argon2id the hash alone would be measured.)
func BenchmarkDirectory(b *testing.B) {
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, options(filled(b, benchEntries)))
	bench(b, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: service, Password: password})
}

// BenchmarkSlapd is the same client before OpenLDAP's server.
func BenchmarkSlapd(b *testing.B) {
	o := ldapclient.Options{URLs: []string{startSlapd(b)}, BindDN: admin, Password: password}
	c := dial(b, o)
	must(b, c.Add(b.Context(), directory.Entry{DN: directorytest.Base(), Attributes: []directory.Attribute{{Name: "objectClass", Values: []string{"organization"}}}}))
	for i := range benchEntries {
		must(b, c.Add(b.Context(), directory.Entry{DN: person(i), Attributes: []directory.Attribute{
			{Name: "objectClass", Values: []string{"inetOrgPerson"}}, {Name: "cn", Values: []string{"User " + itoa(i)}}, {Name: "sn", Values: []string{"User"}},
			{Name: "mail", Values: []string{"u" + itoa(i) + "@example.com"}}, {Name: "userPassword", Values: []string{"p" + itoa(i)}}}}))
	}
	bench(b, o)
}

func bench(b *testing.B, o ldapclient.Options) {
	for _, conns := range []int{1, 16} {
		o.Connections, o.Binders = conns, conns
		c := dial(b, o)
		for _, work := range []struct {
			name string
			run  func(i int) error
		}{
			{"search", func(i int) error { return one(b, c, "u"+itoa(i)+"@example.com") }},
			{"bind", func(i int) error { return c.Bind(b.Context(), person(i), "p"+itoa(i)) }},
		} {
			b.Run(fmt.Sprintf("%s/conns=%d", work.name, conns), func(b *testing.B) {
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range conns {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := work.run(rand.IntN(benchEntries)); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), work.name+"/s")
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

// BenchmarkAgainstSlapd is our door and OpenLDAP's server in turn, a tenth of a
// second each, over the same entries and indexes, both durable: the metric "ratio"
// is how many times as many operations ours did. MAILSRV_ENTRIES says how many
// entries (10,000).
func BenchmarkAgainstSlapd(b *testing.B) {
	n := benchEntries
	if s := os.Getenv("MAILSRV_ENTRIES"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(b, err)
	}
	l := listen(b, "tcp", "127.0.0.1:0")
	serve(b, l, options(filled(b, n)))
	var text strings.Builder
	text.WriteString("dn: o=mail\nobjectClass: organization\no: mail\n")
	for i := range n {
		fmt.Fprintf(&text, "\ndn: %s\nobjectClass: inetOrgPerson\nuid: u%d\ncn: User %d\nsn: User\nmail: u%d@example.com\nuserPassword: p%d\n", person(i), i, i, i, i)
	}
	slapd := peertest.StartSlapd(b, peertest.SlapdOptions{Suffix: "o=mail", Password: password, LDIF: text.String(), Index: "index cn,sn,mail eq,sub"}).URL
	var next atomic.Int64
	for _, conns := range []int{1, 16} {
		sides := [2]*ldapclient.Client{
			dial(b, ldapclient.Options{URLs: []string{"ldap://" + l.Addr().String()}, BindDN: admin, Password: password, Connections: conns, Binders: conns}),
			dial(b, ldapclient.Options{URLs: []string{slapd}, BindDN: admin, Password: password, Connections: conns, Binders: conns}),
		}
		for _, work := range []struct {
			name string
			run  func(c *ldapclient.Client) error
		}{
			{"search", func(c *ldapclient.Client) error { return one(b, c, "u"+itoa(rand.IntN(n))+"@example.com") }},
			{"substring", func(c *ldapclient.Client) error { return parts(b, c, itoa(rand.IntN(n))) }},
			{"add", func(c *ldapclient.Client) error {
				i := itoa(n + int(next.Add(1)))
				return c.Add(b.Context(), directory.Entry{DN: directorytest.Base().Child("uid", "u"+i), Attributes: []directory.Attribute{
					{Name: "objectClass", Values: []string{"inetOrgPerson"}}, {Name: "uid", Values: []string{"u" + i}}, {Name: "cn", Values: []string{"User " + i}}, {Name: "sn", Values: []string{"User"}},
					{Name: "mail", Values: []string{"u" + i + "@example.com"}}}})
			}},
			{"modify", func(c *ldapclient.Client) error {
				return c.Modify(b.Context(), person(rand.IntN(n)), []directory.Change{{Kind: directory.ReplaceValues, Attribute: directory.Attribute{Name: "description", Values: []string{itoa(int(next.Add(1)))}}}})
			}},
		} {
			b.Run(fmt.Sprintf("%s/conns=%d", work.name, conns), func(b *testing.B) {
				var done [2]int
				rounds := 0
				for b.Loop() {
					for k := range 2 { // who goes first changes
						side := (rounds + k) % 2
						done[side] += during(b, conns, 100*time.Millisecond, func() error { return work.run(sides[side]) })
					}
					rounds++
				}
				b.ReportMetric(float64(done[0])/float64(done[1]), "ratio")
				b.ReportMetric(float64(done[0])/(0.1*float64(rounds)), "ours/s")
				b.ReportMetric(float64(done[1])/(0.1*float64(rounds)), "slapd/s")
			})
		}
	}
}

// during counts how often work was done by so many at once.
func during(b *testing.B, conns int, span time.Duration, work func() error) int {
	var done atomic.Int64
	end := time.Now().Add(span)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := work(); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load())
}

// parts finds a user by a part of the name.
func parts(b *testing.B, tree directory.Tree, number string) error {
	found := 0
	for _, err := range tree.Search(b.Context(), directory.Query{Base: directorytest.Base(), Scope: directory.ScopeSubtree, SizeLimit: 20, Attributes: []string{"cn", "mail"},
		Filter: directory.Filter{Kind: directory.Substrings, Attribute: "mail", Any: []string{"u" + number + "@ex"}}}) {
		if err != nil {
			return err
		}
		found++
	}
	if found != 1 {
		return fmt.Errorf("%d entries with %s", found, number)
	}
	return nil
}
