package mta_test

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// entries is a Tree in memory, as far as the mail view asks one.
type entries []directory.Entry

func (entries) Bind(context.Context, directory.DN, string) error { return directory.ErrBadCredentials }

func (list entries) Search(_ context.Context, q directory.Query) iter.Seq2[directory.Entry, error] {
	return func(yield func(directory.Entry, error) bool) {
		for _, e := range list {
			in := e.DN.Equal(q.Base) || q.Scope == directory.ScopeSubtree && e.DN.Under(q.Base) ||
				q.Scope == directory.ScopeOne && e.DN.Parent().Equal(q.Base)
			if in && fits(e, q.Filter) && !yield(e, nil) {
				return
			}
		}
	}
}

func fits(e directory.Entry, f directory.Filter) bool {
	one := func(c directory.Filter) bool { return fits(e, c) }
	switch f.Kind {
	case directory.And:
		return !slices.ContainsFunc(f.Children, func(c directory.Filter) bool { return !one(c) })
	case directory.Or:
		return slices.ContainsFunc(f.Children, one)
	case directory.Not:
		return !one(f.Children[0])
	case directory.Equality:
		return slices.ContainsFunc(e.Values(f.Attribute), func(v string) bool { return strings.EqualFold(v, f.Value) })
	}
	return f.Attribute == "" || len(e.Values(f.Attribute)) > 0
}

// ldif reads entries: a DN, then lines "name: value", then an empty line. A
// later entry of the same DN changes the one before: a name with values in
// place of those it had, "name:" takes them away.
func ldif(t *testing.T, texts ...string) (list entries) {
	t.Helper()
	for block := range strings.SplitSeq(strings.Join(texts, "\n\n"), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		if lines[0] == "" {
			continue
		}
		dn, err := directory.ParseDN(strings.TrimSpace(lines[0]))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(e directory.Entry) bool { return e.DN.Equal(dn) })
		if i < 0 {
			i, list = len(list), append(list, directory.Entry{DN: dn})
		}
		e, fresh := &list[i], map[string]bool{}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if value = strings.TrimSpace(value); !fresh[name] {
				fresh[name] = true
				e.Attributes = slices.DeleteFunc(e.Attributes, func(a directory.Attribute) bool { return strings.EqualFold(a.Name, name) })
			}
			if value == "" {
				continue
			}
			if at := slices.IndexFunc(e.Attributes, func(a directory.Attribute) bool { return a.Name == name }); at >= 0 {
				e.Attributes[at].Values = append(e.Attributes[at].Values, value)
			} else {
				e.Attributes = append(e.Attributes, directory.Attribute{Name: name, Values: []string{value}})
			}
		}
	}
	return list
}

// baseTree is the tree of schema.md section 1; each row changes something in it.
const baseTree = `
o=isp

o=us.example,o=isp
objectClass: organization
objectClass: sunManagedOrganization
objectClass: inetDomain
objectClass: mailDomain
o: us.example
sunPreferredDomain: us.example
associatedDomain: us.test

ou=People,o=us.example,o=isp

ou=Groups,o=us.example,o=isp

uid=alice,ou=People,o=us.example,o=isp
objectClass: inetUser
objectClass: inetMailUser
objectClass: inetLocalMailRecipient
uid: alice
cn: Alice
mail: alice@us.example
mailHost: a.us.example

uid=bob,ou=People,o=us.example,o=isp
objectClass: inetUser
objectClass: inetMailUser
objectClass: inetLocalMailRecipient
uid: bob
mail: bob@us.example
mailHost: b.us.example
departmentNumber: 7

cn=team,ou=Groups,o=us.example,o=isp
objectClass: groupOfUniqueNames
objectClass: inetMailGroup
objectClass: inetLocalMailRecipient
cn: team
mail: team@us.example
mailDeferProcessing: no
uniqueMember: uid=alice,ou=People,o=us.example,o=isp
mgrpRFC822MailMember: x@far.test

cn=inner,ou=Groups,o=us.example,o=isp
objectClass: groupOfUniqueNames
objectClass: inetMailGroup
objectClass: inetLocalMailRecipient
cn: inner
mail: inner@us.example
mailDeferProcessing: no
uniqueMember: uid=bob,ou=People,o=us.example,o=isp
`

const (
	domainDN = "o=us.example,o=isp\n"
	aliceDN  = "uid=alice,ou=People,o=us.example,o=isp\n"
	bobDN    = "uid=bob,ou=People,o=us.example,o=isp\n"
	teamDN   = "cn=team,ou=Groups,o=us.example,o=isp\n"
	innerDN  = "cn=inner,ou=Groups,o=us.example,o=isp\n"

	inA  = "alice@us.example in a.us.example:INBOX"
	inB  = "bob@us.example in b.us.example:INBOX"
	none = "550 5.1.1 no such user here"
)

// row is one line of schema.md: what it changes in the tree, and what becomes
// of a message. An empty to is alice, or the group where the row changes it.
type row struct {
	name   string
	change string
	to     string
	poster mta.Poster
	at     string // RFC 3339; empty: 2026-06-15
	queued bool   // as the queue resolves, after a deferral
	want   string // targets, parted by "; "
	err    string
}

func schemaResolver(t *testing.T, tree entries, at string) *mta.Resolver {
	view := directory.NewView(tree, directory.ViewOptions{Base: directory.MustParseDN("o=isp"), DefaultDomain: "us.example"})
	if at == "" {
		at = "2026-06-15T12:00:00Z"
	}
	now, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	return &mta.Resolver{Directory: view, Lists: view, Hosts: []string{"mx.us.example"}, Programs: []string{"archive"},
		HasStore: func(h string) bool { return h == "a.us.example" || h == "b.us.example" },
		Now:      func() time.Time { return now }}
}

func runRows(t *testing.T, rows []row) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			resolver := schemaResolver(t, ldif(t, baseTree, r.change), r.at)
			to := r.to
			if to == "" {
				to = "alice@us.example"
				if strings.HasPrefix(r.change, teamDN) {
					to = "team@us.example"
				}
			}
			rs := resolver.Begin(r.poster, slog.New(slog.DiscardHandler))
			if r.queued {
				rs = resolver.Again(r.poster)
			}
			plan, err := rs.Resolve(t.Context(), mail.Recipient{Address: addr(t, to)})
			var got []string
			for _, target := range plan.Targets {
				got = append(got, show(target))
			}
			if reply(err) != r.err {
				t.Fatalf("error %q, want %q; steps %v", reply(err), r.err, plan.Steps)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(r.want, strings.Join(got, "; ")); diff != "" {
				t.Errorf("targets (-want +got):\n%s\nsteps %v", diff, plan.Steps)
			}
		})
	}
}

// TestSchemaUsers goes through the user attributes of schema.md section 3 that
// the MTA reads.
func TestSchemaUsers(t *testing.T) {
	runRows(t, []row{
		{name: "mail", want: inA},
		{name: "mail, case does not count", to: "ALICE@US.example", want: inA},
		{name: "mailAlternateAddress", change: aliceDN + "mailAlternateAddress: al@us.example", to: "al@us.example", want: inA},
		{name: "mailAlternateAddress @domain (vanity)", change: domainDN + "associatedDomain: babs.test\n\n" + aliceDN + "mailAlternateAddress: @babs.test", to: "any@babs.test", want: inA},
		{name: "mailEquivalentAddress", change: aliceDN + "mailEquivalentAddress: eq@us.example", to: "eq@us.example", want: inA},
		{name: "subaddress", to: "alice+lists@us.example", want: inA},
		{name: "subaddress of nobody", to: "nobody+x@us.example", err: none},
		{name: "two entries with one address", change: bobDN + "mailAlternateAddress: alice@us.example", err: "451 4.3.5 the directory has two answers, try again later"},
		{name: "class: neither user nor group is ignored", change: aliceDN + "objectClass: inetLocalMailRecipient", err: none},
		{name: "class: inetLocalMailRecipient is needed", change: aliceDN + "objectClass: inetMailUser", err: none},
		{name: "mailHost is one of our stores", want: inA},
		{name: "mailHost is another host", change: aliceDN + "mailHost: far.us.example", want: "alice@us.example via far.us.example"},
		{name: "mailHost missing, smart host", change: aliceDN + "mailHost:\n\n" + domainDN + "mailRoutingSmartHost: old.us.example", want: "alice@us.example via old.us.example"},
		{name: "mailHost missing, error", change: aliceDN + "mailHost:", err: "451 4.3.5 the mailbox has no host yet, try again later"},
		{name: "mailRoutingAddress ends processing", change: aliceDN + "mailRoutingAddress: r@far.test\nmailDeliveryOption: mailbox\nmailDeliveryOption: forward\nmailForwardingAddress: f@far.test", want: "r@far.test"},
		{name: "mailRoutingAddress wins over mailHost of another host", change: aliceDN + "mailRoutingAddress: r@far.test\nmailHost: far.us.example", want: "r@far.test"},
		{name: "mailRoutingAddress @mailhost:user@domain", change: aliceDN + "mailRoutingAddress: @h.us.example:alice@us.example", want: "alice@us.example via h.us.example"},
		{name: "mailDeliveryOption missing is mailbox", change: aliceDN + "mailDeliveryOption:", want: inA},
		{name: "mailDeliveryOption mailbox", change: aliceDN + "mailDeliveryOption: mailbox", want: inA},
		{name: "mailDeliveryOption native", change: aliceDN + "mailDeliveryOption: native", want: inA},
		{name: "mailDeliveryOption unix", change: aliceDN + "mailDeliveryOption: unix", want: inA},
		{name: "mailDeliveryOption autoreply", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: autoreply", want: "alice@us.example does autoreply; " + inA},
		{name: "mailDeliveryOption autoreply alone", change: aliceDN + "mailDeliveryOption: autoreply", want: "alice@us.example does autoreply"},
		{name: "mailDeliveryOption program", change: aliceDN + "mailDeliveryOption: program\nmailProgramDeliveryInfo: archive", want: "alice@us.example does program:archive"},
		{name: "mailProgramDeliveryInfo that is not registered", change: aliceDN + "mailDeliveryOption: program\nmailProgramDeliveryInfo: /bin/rm -rf /", want: inA},
		{name: "mailDeliveryOption forward", change: aliceDN + "mailDeliveryOption: forward\nmailForwardingAddress: f@far.test", want: "f@far.test"},
		{name: "mailDeliveryOption forward without mailForwardingAddress", change: aliceDN + "mailDeliveryOption: forward", want: inA},
		{name: "mailForwardingAddress without forward", change: aliceDN + "mailForwardingAddress: f@far.test", want: inA},
		{name: "mailForwardingAddress of our own", change: aliceDN + "mailDeliveryOption: forward\nmailForwardingAddress: bob@us.test", want: inB},
		{name: "mailForwardingAddress to oneself", change: aliceDN + "mailDeliveryOption: forward\nmailForwardingAddress: alice+x@us.example\nmailForwardingAddress: f@far.test", want: inA + "; f@far.test"},
		{name: "mailDeliveryOption hold overrides all", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: hold", want: "alice@us.example waits"},
		{name: "mailDeliveryOption nomail", change: aliceDN + "mailDeliveryOption: nomail"},
		{name: "mailDeliveryOption several at once", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: forward\nmailDeliveryOption: program\nmailForwardingAddress: f@far.test\nmailProgramDeliveryInfo: archive",
			want: "alice@us.example does program:archive; " + inA + "; f@far.test"},
		{name: "mailDeliveryOption unknown", change: aliceDN + "mailDeliveryOption: teleport", want: inA},
		{name: "vacationStartDate, vacationEndDate: within", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: autoreply\nvacationStartDate: 20260601000000Z\nvacationEndDate: 20260701000000Z", want: "alice@us.example does autoreply; " + inA},
		{name: "vacationStartDate: before", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: autoreply\nvacationStartDate: 20260601000000Z\nvacationEndDate: 20260701000000Z", at: "2026-05-31T23:59:59Z", want: inA},
		{name: "vacationEndDate: after", change: aliceDN + "mailDeliveryOption: mailbox\nmailDeliveryOption: autoreply\nvacationStartDate: 20260601000000Z\nvacationEndDate: 20260701000000Z", at: "2026-07-01T00:00:01Z", want: inA},
		{name: "mailMsgMaxBlocks", change: aliceDN + "mailMsgMaxBlocks: 2", want: inA + " up to 2048"},
		{name: "mailDeferProcessing absent: users no", want: inA},
		{name: "mailDeferProcessing yes", change: aliceDN + "mailDeferProcessing: yes", want: "alice@us.example waits"},
		{name: "mailDeferProcessing yes, reprocessed", change: aliceDN + "mailDeferProcessing: yes", queued: true, want: inA},
	})
}

// TestSchemaDomains goes through the domain attributes of section 4, and the
// end of section 7.
func TestSchemaDomains(t *testing.T) {
	runRows(t, []row{
		{name: "sunPreferredDomain", want: inA},
		{name: "associatedDomain", to: "alice@us.test", want: inA},
		{name: "no domain of ours", to: "x@far.test", want: "x@far.test"},
		{name: "inetDomainStatus inactive", change: domainDN + "inetDomainStatus: inactive", err: "450 4.2.1 mailbox is inactive, try again later"},
		{name: "inetDomainStatus deleted", change: domainDN + "inetDomainStatus: deleted", err: none},
		{name: "mailDomainStatus inactive", change: domainDN + "mailDomainStatus: inactive", err: "450 4.2.1 mailbox is inactive, try again later"},
		{name: "mailDomainStatus disabled", change: domainDN + "mailDomainStatus: disabled", err: "550 5.2.1 user disabled; cannot receive new mail"},
		{name: "mailDomainStatus deleted", change: domainDN + "mailDomainStatus: deleted", err: none},
		{name: "mailDomainStatus hold", change: domainDN + "mailDomainStatus: hold", want: "alice@us.example waits"},
		{name: "mailDomainStatus overquota", change: domainDN + "mailDomainStatus: overquota", err: "452 4.2.2 mailbox is full, try again later"},
		{name: "mailRoutingHosts without us", change: domainDN + "mailRoutingHosts: mx.far.test", want: "alice@us.example via mx.far.test"},
		{name: "mailRoutingHosts with us", change: domainDN + "mailRoutingHosts: mx.far.test\nmailRoutingHosts: MX.us.example", want: inA},
		{name: "no entry: @domain", change: aliceDN + "mailAlternateAddress: @us.example", to: "nobody@us.example", want: inA},
		{name: "no entry: mailDomainCatchallAddress", change: domainDN + "mailDomainCatchallAddress: alice@us.example", to: "nobody@us.example", want: inA},
		{name: "no entry: @domain before the catch-all", change: domainDN + "mailDomainCatchallAddress: bob@us.example\n\n" + aliceDN + "mailAlternateAddress: @us.example", to: "nobody@us.example", want: inA},
		{name: "no entry: mailRoutingSmartHost", change: domainDN + "mailRoutingSmartHost: old.us.example", to: "nobody@us.example", want: "nobody@us.example via old.us.example"},
		{name: "no entry: the catch-all before the smart host", change: domainDN + "mailRoutingSmartHost: old.us.example\nmailDomainCatchallAddress: alice@us.example", to: "nobody@us.example", want: inA},
		{name: "no entry: 550 5.1.1", to: "nobody@us.example", err: none},
	})
}

// TestSchemaFixtures resolves the entries of section 8, as Sun printed them.
func TestSchemaFixtures(t *testing.T) {
	const sesta = `
o=sesta.example,o=isp
objectClass: organization
objectClass: sunManagedOrganization
objectClass: inetDomain
objectClass: mailDomain
o: sesta.example
sunPreferredDomain: sesta.example

ou=people,o=sesta.example,o=isp

ou=groups,o=sesta.example,o=isp

uid=fanning,ou=people,o=sesta.example,o=ISP
objectClass: person
objectClass: organizationalPerson
objectClass: inetOrgPerson
objectClass: inetUser
objectClass: ipUser
objectClass: inetMailUser
objectClass: inetLocalMailRecipient
cn: Otis Fanning
sn: fanning
uid: fanning
mail: Otis.Fanning@sesta.example
mailAlternateAddress: ofanning@sesta.example
mailDeliveryOption: mailbox
mailHost: a.us.example
inetUserStatus: active
mailUserStatus: active
mailQuota: -1
mailMsgQuota: 100

cn=Dreamteam,ou=groups,o=sesta.example,o=isp
objectClass: groupOfUniqueNames
objectClass: inetMailGroup
objectClass: inetLocalMailRecipient
cn: Dreamteam
mail: dreamteam@sesta.example
mailAlternateAddress: thegreatest@sesta.example
mailHost: a.us.example
inetMailGroupStatus: active
uniqueMember: uid=fanning,ou=people,o=sesta.example,o=isp
uniqueMember: uid=baylor,ou=people,o=sesta.example,o=isp
mgrpRFC822MailMember: west@florizel.test
mgrpRFC822MailMember: robertson@florizel.test
`
	const fanning = "Otis.Fanning@sesta.example in a.us.example:INBOX"
	runRows(t, []row{
		{name: "mail", change: sesta, to: "otis.fanning@sesta.example", want: fanning},
		{name: "mailAlternateAddress", change: sesta, to: "ofanning@sesta.example", want: fanning},
		{name: "the group waits to be expanded", change: sesta, to: "dreamteam@sesta.example", want: "dreamteam@sesta.example waits"},
		{name: "the group by its other name, expanded", change: sesta, to: "TheGreatest@sesta.example", queued: true,
			want: fanning + "; west@florizel.test; robertson@florizel.test"},
		{name: "a member who is not there", change: sesta, to: "baylor@sesta.example", err: none},
	})
}

// TestSchemaStatus is the table of section 5: all four levels, the first that
// is not active wins.
func TestSchemaStatus(t *testing.T) {
	inbound := map[string]struct{ want, err string }{
		"active": {want: inA}, "": {want: inA},
		"inactive": {err: "450 4.2.1 mailbox is inactive, try again later"}, "nonsense": {err: "450 4.2.1 mailbox is inactive, try again later"},
		"disabled": {err: "550 5.2.1 user disabled; cannot receive new mail"}, "deleted": {err: none}, "removed": {err: none},
		"hold": {want: "alice@us.example waits"}, "overquota": {err: "452 4.2.2 mailbox is full, try again later"},
	}
	levels := []string{domainDN + "inetDomainStatus: ", domainDN + "mailDomainStatus: ", aliceDN + "inetUserStatus: ", aliceDN + "mailUserStatus: "}
	var rows []row
	for i, level := range levels {
		for status, w := range inbound {
			name := level[strings.Index(level, "\n")+1:] + status
			rows = append(rows, row{name: name, change: level + status, want: w.want, err: w.err})
			for _, below := range levels[i+1:] { // what stands below does not count, unless this one is active
				if status != "active" && status != "" {
					lower := below[strings.Index(below, "\n")+1:]
					rows = append(rows, row{name: name + " before " + lower + "deleted", change: level + status + "\n\n" + below + "deleted", want: w.want, err: w.err})
				}
			}
		}
	}
	runRows(t, rows)
}

// TestSchemaConfiguredStatus: what section 5 leaves to the configuration.
func TestSchemaConfiguredStatus(t *testing.T) {
	r := schemaResolver(t, ldif(t, baseTree, aliceDN+"mailUserStatus: overquota", bobDN+"mailUserStatus: disabled"), "")
	r.QueueOverQuota, r.DisabledText = true, "gone fishing"
	resolve := func(to string) (mta.Plan, error) {
		return r.Begin(mta.Poster{}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, to)})
	}
	if plan, err := resolve("alice@us.example"); err != nil || len(plan.Targets) != 1 || plan.Targets[0].Via != mta.ViaQueue {
		t.Errorf("over quota, to be queued: %+v, %v", plan.Targets, err)
	}
	if _, err := resolve("bob@us.example"); reply(err) != "550 5.2.1 gone fishing" {
		t.Error(err)
	}
}
