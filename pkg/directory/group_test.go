package directory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseFilter(t *testing.T) {
	for in, want := range map[string]string{
		"(uid=alice)":                      "(uid=alice)",
		"uid=alice":                        "(uid=alice)",
		"(&(a=1)(|(b=2)(!(c=*))))":         "(&(a=1)(|(b=2)(!(c=*))))",
		"(&)":                              "(&)",
		`(cn=a\2ab)`:                       `(cn=a\2ab)`,
		"(cn=a*b*c)":                       "(cn=a*b*c)",
		"(cn=*b*)":                         "(cn=*b*)",
		"(cn=***)":                         "(cn=*)",
		"(n>=5)":                           "(n>=5)",
		"(n<=5)":                           "(n<=5)",
		"(n~=5)":                           "(n~=5)",
		"(cn:dn:2.5.13.2:=x)":              "(cn:dn:2.5.13.2:=x)",
		"(:caseExactMatch:=x)":             "(:caseExactMatch:=x)",
		"":                                 "error",
		"(":                                "error",
		"(uid=alice":                       "error",
		"(uid=a)(uid=b)":                   "error",
		"(!(a=1)(b=2))":                    "error",
		"(a b=1)":                          "error",
		`(a=\zz)`:                          "error",
		`(a=\2)`:                           "error",
		"(:=x)":                            "error",
		"(uid)":                            "error",
		strings.Repeat("(!", 40) + "(a=1)": "error",
		"(&" + strings.Repeat("(a=1)", 300) + ")": "error",
	} {
		got := "error"
		if f, err := ParseFilter(in); err == nil {
			got = f.String()
		} else if !errors.Is(err, ErrFilter) {
			t.Errorf("%.40q: %v is not ErrFilter", in, err)
		}
		if got != want {
			t.Errorf("%.40q: %s, want %s", in, got, want)
		}
	}
}

// FuzzParseFilter: what is accepted reads back as the same filter.
func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"(uid=a)", "(&(a=1)(!(b=*x*y)))", `(a=\2a)`, "(a:dn:b:=c)", "((((", "(a=*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := ParseFilter(s)
		if err != nil {
			return
		}
		two, err := ParseFilter(one.String())
		if err != nil || two.String() != one.String() {
			t.Errorf("%q reads back as %q, %v", one, two, err)
		}
	})
}

func TestParseMemberURL(t *testing.T) {
	for in, want := range map[string]string{
		"ldap:///o=us?mail?sub?(cn=a*)":                           "o=us 2 (cn=a*)",
		"ldap://host:389/ou=x,o=us??one?(a=b)":                    "ou=x,o=us 1 (a=b)",
		"LDAP:///uid=a,o=us":                                      "uid=a,o=us 0 (objectClass=*)",
		"ldap:///o=us??sub?(cn=%28x%29)":                          "error",
		"ldap:///o=us??sub?(cn=%5c28)":                            `o=us 2 (cn=\28)`,
		"ldap:///o=us??deep?(a=b)":                                "error",
		"ldap:///=":                                               "error",
		"mailto:a@b":                                              "error",
		"ldap:///o=us??sub?(a=" + strings.Repeat("x", 1024) + ")": "error",
	} {
		got := "error"
		if u, err := ParseMemberURL(in); err == nil {
			got = u.Base.String() + " " + string(rune('0'+u.Scope)) + " " + u.Filter.String()
		}
		if got != want {
			t.Errorf("%.60s: %s, want %s", in, got, want)
		}
	}
}

func TestParsePosting(t *testing.T) {
	e := Entry{DN: MustParseDN("cn=team,o=us"), Attributes: []Attribute{
		attr("objectClass", "inetLocalMailRecipient", "inetMailGroup"), attr("mail", "team@us.example"),
		attr("mgrpBroadcasterPolicy", "PASSWD_REQ, OR", "AUTH_REQ"), attr("mgrpAuthPassword", "geheim"),
		attr("mgrpAllowedDomain", "*.US.example"), attr("mgrpDisallowedDomain", "bad.example"),
		attr("mgrpAllowedBroadcaster", "mailto:a@x.example", "uid=b,o=us", "ldap:///uid=c,o=us", "ldap:///o=us??sub?(cn=d)", "?"),
		attr("mgrpModerator", "mailto:mod@us.example"), attr("mgrpMsgRejectAction", "ToModerator"),
		attr("mailRejectText", "members only\x07$more"), attr("mailDeferProcessing", "no"),
	}}
	r, err := parseRecipient(e, Domain{Name: "us.example", Status: Active})
	if err != nil {
		t.Fatal(err)
	}
	p := r.Group.Posting
	var allowed []string
	for _, a := range p.Allowed {
		allowed = append(allowed, a.String())
	}
	if diff := cmp.Diff([]string{"mailto:a@x.example", "uid=b,o=us", "uid=c,o=us", "ldap:///o=us??sub?(cn=d)"}, allowed); diff != "" {
		t.Errorf("allowed (-want +got):\n%s", diff)
	}
	if !p.Authenticated || !p.NeedsPassword || p.Password != "geheim" || !p.AnyOf || !p.ToModerator || p.RejectText != "members only" ||
		len(p.Moderators) != 1 || p.AllowedDomains[0] != "*.us.example" || !p.Restricted() || r.Group.Defer {
		t.Errorf("%+v", p)
	}
	if f := r.Group.About(AboutReject); f.String() != "mgrpMsgRejectAction: ToModerator (cn=team,o=us)" {
		t.Error(f)
	}
	if r.Group.Entry.Value("mgrpAuthPassword") != "" {
		t.Error("the password is part of what is explained")
	}
}

func TestParseAutoReply(t *testing.T) {
	u := parseUser(Entry{DN: MustParseDN("uid=a,o=us"), Attributes: []Attribute{
		attr("mailAutoReplyMode", "Echo"), attr("mailAutoReplyText", `Gone$fishing, $FROM: \24 5\5C $SUBJECT`),
		attr("mailAutoReplyTimeOut", "12"), attr("vacationStartDate", "20260601000000Z"), attr("vacationEndDate", "20260701120000+0200"),
	}}, Domain{Name: "us.example", Status: Hold, Entry: Entry{DN: MustParseDN("o=us"), Attributes: []Attribute{attr("mailDomainStatus", "hold")}}})
	a := u.AutoReply
	if a.Mode != ReplyEcho || a.Text != "Gone\nfishing, $FROM: $ 5\\ $SUBJECT" || a.Interval != 12*time.Hour {
		t.Errorf("%+v", a)
	}
	for at, want := range map[string]bool{"2026-05-31T23:59:59Z": false, "2026-06-01T00:00:00Z": true, "2026-07-01T10:00:00Z": true, "2026-07-01T10:00:01Z": false} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Active(when); got != want {
			t.Errorf("active at %s: %v", at, got)
		}
	}
	if u.Status != Hold || u.About(AboutStatus).String() != "mailDomainStatus: hold (o=us)" {
		t.Errorf("%s because of %q", u.Status, u.About(AboutStatus))
	}
	if parseUser(Entry{}, Domain{}).AutoReply.Interval != 168*time.Hour {
		t.Error("a week between replies is the default")
	}
}

func TestStatusFactFollowsTheTable(t *testing.T) {
	domain := func(inet, mail string) Domain {
		return parseDomain(Entry{DN: MustParseDN("o=us"), Attributes: []Attribute{attr("o", "us"), attr("inetDomainStatus", inet), attr("mailDomainStatus", mail)}})
	}
	user := func(d Domain, inet, mail string) string {
		u := parseUser(Entry{DN: MustParseDN("uid=a,o=us"), Attributes: []Attribute{attr("inetUserStatus", inet), attr("mailUserStatus", mail)}}, d)
		return string(u.Status) + " " + u.About(AboutStatus).Attribute
	}
	for _, tt := range []struct{ id, md, iu, mu, want string }{
		{"active", "active", "active", "active", "active "},
		{"", "", "", "", "active "},
		{"inactive", "deleted", "deleted", "deleted", "inactive inetDomainStatus"},
		{"active", "hold", "deleted", "deleted", "hold mailDomainStatus"},
		{"", "", "deleted", "hold", "deleted inetUserStatus"},
		{"", "", "active", "overquota", "overquota mailUserStatus"},
		{"", "", "nonsense", "deleted", "inactive inetUserStatus"},
	} {
		if got := user(domain(tt.id, tt.md), tt.iu, tt.mu); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
