package ldapserver_test

import (
	"slices"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/wire/ldapwire"
)

// answer sends a request and returns its result, the names of the entries that
// came, and the controls of the answer.
func (c *raw) answer(id int, op ldapwire.Op, controls ...ldapwire.Control) (code directory.ResultCode, names []string, answers []ldapwire.Control) {
	c.t.Helper()
	c.say(ldapwire.Message{ID: id, Op: op, Controls: controls})
	for {
		m := c.hear()
		switch op := m.Op.(type) {
		case *ldapwire.SearchEntry:
			names = append(names, op.DN)
		case *ldapwire.Done:
			return directory.ResultCode(op.Code), names, m.Controls
		case *ldapwire.ExtendedResponse:
			return directory.ResultCode(op.Code), []string{op.Value}, m.Controls
		default:
			c.t.Fatalf("%T", op)
		}
	}
}

func users(attributes ...string) *ldapwire.SearchRequest {
	req := find(ldapwire.Filter{Kind: ldapwire.Present, Attribute: "mailQuota"})
	req.Attributes = attributes
	return req
}

func bound(t *testing.T, n int) *raw {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, n)))
	c := dialRaw(t, l)
	if code := c.bind(admin(), secret); code != directory.Success {
		t.Fatal(code)
	}
	return c
}

func TestPagedResults(t *testing.T) {
	c := bound(t, 7)
	cookie, pages, seen := "", 0, map[string]bool{}
	for id := 10; ; id++ {
		code, names, answers := c.answer(id, users(), ldapwire.Paged{Size: 3, Cookie: cookie}.Control(true))
		if code != directory.Success || len(answers) != 1 || len(names) > 3 {
			t.Fatalf("page %d: %d, %v, %v", pages, code, names, answers)
		}
		for _, name := range names {
			if seen[name] {
				t.Errorf("%s came twice", name)
			}
			seen[name] = true
		}
		p, err := ldapwire.DecodePaged(answers[0].Value)
		must(t, err)
		pages++
		if p.Cookie == "" {
			break
		}
		if used := cookie; used != "" {
			if code, _, _ := c.answer(100+id, users(), ldapwire.Paged{Size: 3, Cookie: used}.Control(true)); code != directory.UnwillingToPerform {
				t.Errorf("a used cookie: %d", code)
			}
		}
		if code, _, _ := c.answer(200+id, users("cn"), ldapwire.Paged{Size: 3, Cookie: p.Cookie}.Control(true)); code != directory.UnwillingToPerform {
			t.Errorf("a cookie of another question: %d", code)
		}
		cookie = p.Cookie
	}
	if pages != 3 || len(seen) != 7 {
		t.Errorf("%d entries on %d pages", len(seen), pages)
	}
	_, _, answers := c.answer(300, users(), ldapwire.Paged{Size: 3}.Control(true))
	p, err := ldapwire.DecodePaged(answers[0].Value)
	must(t, err)
	if code, names, _ := c.answer(301, users(), ldapwire.Paged{Cookie: p.Cookie}.Control(true)); code != directory.Success || names != nil {
		t.Errorf("given up: %d %v", code, names)
	}
	for id := 310; id < 330; id++ { // more open searches than are kept
		if code, _, _ := c.answer(id, users(), ldapwire.Paged{Size: 1}.Control(true)); code != directory.Success {
			t.Fatal(code)
		}
	}
}

func TestSort(t *testing.T) {
	c := bound(t, 4)
	must := func(id int, keys ...ldapwire.SortKey) []string {
		t.Helper()
		code, names, answers := c.answer(id, users("cn"), ldapwire.SortControl(keys, true))
		if code != directory.Success || len(answers) != 1 || answers[0].OID != ldapwire.OIDSortResult {
			t.Fatalf("%d %v", code, answers)
		}
		return names
	}
	up := []string{"uid=u0,o=mail", "uid=u1,o=mail", "uid=u2,o=mail", "uid=u3,o=mail"}
	if got := must(10, ldapwire.SortKey{Attribute: "mail"}); !slices.Equal(got, up) {
		t.Errorf("up: %v", got)
	}
	down := slices.Clone(up)
	slices.Reverse(down)
	if got := must(11, ldapwire.SortKey{Attribute: "sn"}, ldapwire.SortKey{Attribute: "commonName", Rule: "caseIgnoreOrderingMatch", Reverse: true}); !slices.Equal(got, down) {
		t.Errorf("down: %v", got)
	}
	for id, key := range []ldapwire.SortKey{{Attribute: "nonsense"}, {Attribute: "cn", Rule: "1.2.3"}, {Attribute: "userPassword"}} {
		if code, names, _ := c.answer(20+id, users(), ldapwire.SortControl([]ldapwire.SortKey{key}, true)); code != directory.UnavailableCritExtension || names != nil {
			t.Errorf("%v: %d %v", key, code, names)
		}
	}
	page := ldapwire.Paged{Size: 3}.Control(true)
	if _, names, answers := c.answer(30, users(), page, ldapwire.SortControl([]ldapwire.SortKey{{Attribute: "uid", Reverse: true}}, true)); !slices.Equal(names, down[:3]) || len(answers) != 2 {
		t.Errorf("sorted page: %v %v", names, answers)
	}
}

func TestEditControls(t *testing.T) {
	c := bound(t, 3)
	title := func(value string) *ldapwire.ModifyRequest {
		return &ldapwire.ModifyRequest{DN: "uid=u1,o=mail", Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: "title", Values: []string{value}}}}}
	}
	pre, post := ldapwire.SelectionControl(ldapwire.OIDPreRead, []string{"title", "userPassword"}), ldapwire.SelectionControl(ldapwire.OIDPostRead, []string{"title", "modifiersName"})
	if code, _, _ := c.answer(10, title("one")); code != directory.Success {
		t.Fatal(code)
	}
	code, _, answers := c.answer(11, title("two"), pre, post, ldapwire.AssertionControl(equal("title", "ONE")))
	if code != directory.Success || len(answers) != 2 {
		t.Fatalf("%d %v", code, answers)
	}
	for i, want := range [][]ldapwire.Attribute{{{Name: "title", Values: []string{"one"}}}, {{Name: "title", Values: []string{"two"}}, {Name: "modifiersName", Values: []string{"cn=admin,o=mail"}}}} {
		e, err := ldapwire.DecodeEntry(answers[i].Value)
		must(t, err)
		if e.DN != "uid=u1,o=mail" || !slices.EqualFunc(e.Attributes, want, func(a, b ldapwire.Attribute) bool { return a.Name == b.Name && slices.Equal(a.Values, b.Values) }) {
			t.Errorf("%s: %+v, want %v", answers[i].OID, e, want)
		}
	}
	no := ldapwire.AssertionControl(equal("title", "one"))
	critical := func(oid string) ldapwire.Control { return ldapwire.Control{OID: oid, Critical: true} }
	for i, test := range []struct {
		name     string
		op       ldapwire.Op
		controls []ldapwire.Control
		want     directory.ResultCode
	}{
		{"assertion, modify", title("three"), []ldapwire.Control{no}, directory.AssertionFailed},
		{"assertion, delete", &ldapwire.DelRequest{DN: "uid=u1,o=mail"}, []ldapwire.Control{no}, directory.AssertionFailed},
		{"assertion, compare", &ldapwire.CompareRequest{DN: "uid=u1,o=mail", Attribute: "sn", Value: "User"}, []ldapwire.Control{no}, directory.AssertionFailed},
		{"assertion, search", everything(), []ldapwire.Control{no}, directory.AssertionFailed},
		{"assertion, malformed", title("three"), []ldapwire.Control{{OID: ldapwire.OIDAssertion, Critical: true, Value: "?", HasValue: true}}, directory.ProtocolError},
		{"manage DSA IT", title("three"), []ldapwire.Control{critical(ldapwire.OIDManageDSAIT)}, directory.Success},
		{"paged modify", title("four"), []ldapwire.Control{ldapwire.Paged{Size: 1}.Control(true)}, directory.UnavailableCritExtension},
		{"non-leaf", &ldapwire.DelRequest{DN: "o=mail"}, nil, directory.NotAllowedOnNonLeaf},
		{"proxied, not critical", title("four"), []ldapwire.Control{{OID: ldapwire.OIDProxiedAuthz, Value: "dn:uid=u1,o=mail", HasValue: true}}, directory.ProtocolError},
		{"proxied, as a user", title("four"), []ldapwire.Control{{OID: ldapwire.OIDProxiedAuthz, Critical: true, Value: "dn:uid=u1,o=mail", HasValue: true}}, directory.InsufficientAccessRights},
		{"proxied, as nobody", everything(), []ldapwire.Control{{OID: ldapwire.OIDProxiedAuthz, Critical: true, HasValue: true}}, directory.InsufficientAccessRights},
		{"proxied, by name", everything(), []ldapwire.Control{{OID: ldapwire.OIDProxiedAuthz, Critical: true, Value: "u:u1", HasValue: true}}, directory.AuthorizationDenied},
		{"subtree", &ldapwire.DelRequest{DN: "o=mail"}, []ldapwire.Control{critical(ldapwire.OIDSubtreeDelete)}, directory.Success},
	} {
		if code, _, _ := c.answer(20+i, test.op, test.controls...); code != test.want {
			t.Errorf("%s: %d, want %d", test.name, code, test.want)
		}
	}
}

// TestProxiedByUsers: only services and admins stand for others.
func TestProxiedByUsers(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(filled(t, 2)))
	c := dialRaw(t, l)
	if code := c.bind(user(1), "p1"); code != directory.Success {
		t.Fatal(code)
	}
	proxied := ldapwire.Control{OID: ldapwire.OIDProxiedAuthz, Critical: true, Value: "dn:uid=u0,o=mail", HasValue: true}
	if code, _, _ := c.answer(2, everything(), proxied); code != directory.AuthorizationDenied {
		t.Errorf("a user stands for another: %d", code)
	}
}

// TestDomainAdmins manage their domain and no other.
func TestDomainAdmins(t *testing.T) {
	tree := filled(t, 0)
	p := directory.NewProvisioner(tree, directory.ViewOptions{Base: base()})
	ctx := t.Context()
	for _, domain := range []string{"example.com", "example.org"} {
		must(t, p.AddDomain(ctx, domain, ""))
		must(t, p.AddUser(ctx, "ann@"+domain, "", saltedSHA512("x"), ""))
		must(t, p.AddUser(ctx, "ben@"+domain, "", saltedSHA512("x"), ""))
	}
	ann := directory.MustParseDN("uid=ann,ou=People,o=example.com,o=mail")
	must(t, tree.Add(ctx, directory.Entry{DN: directory.MustParseDN("cn=Domain Administrators,ou=Groups,o=example.com,o=mail"), Attributes: []directory.Attribute{
		{Name: "objectClass", Values: []string{"groupOfUniqueNames"}}, {Name: "uniqueMember", Values: []string{ann.String()}}}}))
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, l, options(tree))
	c := dialRaw(t, l)
	if code := c.bind(ann, "x"); code != directory.Success {
		t.Fatal(code)
	}
	quota := func(dn string) ldapwire.Op {
		return &ldapwire.ModifyRequest{DN: dn, Changes: []ldapwire.Change{{Kind: 2, Attribute: ldapwire.Attribute{Name: "mailQuota", Values: []string{"1G"}}}}}
	}
	for i, test := range []struct {
		op   ldapwire.Op
		want directory.ResultCode
	}{
		{quota("uid=ben,ou=People,o=example.com,o=mail"), directory.Success},
		{quota("uid=ben,ou=People,o=example.org,o=mail"), directory.InsufficientAccessRights},
		{quota("o=example.com,o=mail"), directory.InsufficientAccessRights},
		{&ldapwire.DelRequest{DN: "uid=ben,ou=People,o=example.org,o=mail"}, directory.InsufficientAccessRights},
		{&ldapwire.DelRequest{DN: "uid=ben,ou=People,o=example.com,o=mail"}, directory.Success},
		{&ldapwire.ModifyDNRequest{DN: "uid=ann,ou=People,o=example.com,o=mail", NewRDN: "uid=ann2", NewSuperior: "ou=People,o=example.org,o=mail", HasNewSuperior: true}, directory.InsufficientAccessRights},
	} {
		if code, _, _ := c.answer(10+i, test.op); code != test.want {
			t.Errorf("%+v: %d, want %d", test.op, code, test.want)
		}
	}
}

// TestCancel: both operations are answered (RFC 3909).
func TestCancel(t *testing.T) {
	g, c, _ := startGate(t)
	c.say(ldapwire.Message{ID: 2, Op: everything()})
	<-g.entered
	c.say(ldapwire.Message{ID: 3, Op: ldapwire.CancelRequest(2)}, ldapwire.Message{ID: 4, Op: ldapwire.CancelRequest(77)})
	got := map[int]int{}
	for range 3 {
		m := c.hear()
		switch op := m.Op.(type) {
		case *ldapwire.Done:
			got[m.ID] = op.Code
		case *ldapwire.ExtendedResponse:
			got[m.ID] = op.Code
		}
	}
	if got[2] != int(directory.Canceled) || got[3] != 0 || got[4] != int(directory.NoSuchOperation) {
		t.Errorf("%v", got)
	}
}
