package mta_test

import (
	"log/slog"
	"strings"
	"testing"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// TestSchemaGroups goes through the group attributes of schema.md section 4, in
// the order that it calls essential. The team is alice and x@far.test.
func TestSchemaGroups(t *testing.T) {
	const all = inA + "; x@far.test"
	const refused = "550 5.7.2 you may not write to this list"
	from := func(a string, p mail.Proof) mta.Poster { return mta.Poster{From: addr(t, a), Proof: p} }
	alice, bob, stranger := from("alice@us.example", mail.LoggedIn), from("bob@us.example", mail.LoggedIn), from("s@far.test", mail.Unproven)
	const toModerator = "\nmgrpMsgRejectAction: toModerator\nmgrpModerator: mailto:bob@us.example"
	const waits = "team@us.example waits for a moderator; team@us.example does moderators"
	runRows(t, []row{
		{name: "inetMailGroupStatus active", change: teamDN + "inetMailGroupStatus: active", want: all},
		{name: "inetMailGroupStatus inactive", change: teamDN + "inetMailGroupStatus: inactive", err: "450 4.2.1 mailbox is inactive, try again later"},
		{name: "inetMailGroupStatus disabled", change: teamDN + "inetMailGroupStatus: disabled", err: "550 5.2.1 group disabled; cannot receive new mail"},
		{name: "inetMailGroupStatus deleted", change: teamDN + "inetMailGroupStatus: deleted", err: none},
		{name: "inetMailGroupStatus unknown is inactive", change: teamDN + "inetMailGroupStatus: odd", err: "450 4.2.1 mailbox is inactive, try again later"},

		{name: "mgrpMsgRejectAction absent is an SMTP error", change: teamDN + "mgrpAllowedDomain: no.test", poster: alice, err: refused},
		{name: "mgrpMsgRejectAction reply", change: teamDN + "mgrpMsgRejectAction: reply\nmgrpModerator: mailto:bob@us.example\nmgrpAllowedDomain: no.test", poster: alice, err: refused},
		{name: "mgrpMsgRejectAction toModerator", change: teamDN + "mgrpAllowedDomain: no.test" + toModerator, poster: alice, want: waits},
		{name: "mgrpMsgRejectText", change: teamDN + "mgrpAllowedDomain: no.test\nmgrpMsgRejectText: members only$second line", poster: alice, err: "550 5.7.2 members only"},
		{name: "mailRejectText", change: teamDN + "mgrpAllowedDomain: no.test\nmailRejectText: go away", poster: alice, err: "550 5.7.2 go away"},

		{name: "mgrpBroadcasterPolicy AUTH_REQ, logged in", change: teamDN + "mgrpBroadcasterPolicy: AUTH_REQ", poster: alice, want: all},
		{name: "mgrpBroadcasterPolicy AUTH_REQ, not logged in", change: teamDN + "mgrpBroadcasterPolicy: AUTH_REQ", poster: from("alice@us.example", mail.DomainProven), err: refused},
		{name: "mgrpBroadcasterPolicy SMTP_AUTH_REQUIRED", change: teamDN + "mgrpBroadcasterPolicy: SMTP_AUTH_REQUIRED", poster: stranger, err: refused},
		{name: "mgrpBroadcasterPolicy AUTH_USED asks for nothing", change: teamDN + "mgrpBroadcasterPolicy: SMTP_AUTH_USED", poster: stranger, want: all},
		{name: "mgrpBroadcasterPolicy PASSWORD_REQUIRED waits for the header", change: teamDN + "mgrpBroadcasterPolicy: PASSWORD_REQUIRED\nmgrpAuthPassword: x", poster: stranger, want: "team@us.example waits"},
		{name: "mgrpAuthPassword missing lets nobody through", change: teamDN + "mgrpBroadcasterPolicy: PASSWD_REQ", poster: stranger, err: refused},
		{name: "mgrpBroadcasterPolicy AND", change: teamDN + "mgrpBroadcasterPolicy: AND,AUTH_REQ\nmgrpAllowedDomain: far.test", poster: stranger, err: refused},
		{name: "mgrpBroadcasterPolicy OR", change: teamDN + "mgrpBroadcasterPolicy: OR,AUTH_REQ\nmgrpAllowedDomain: far.test", poster: stranger, want: all},

		{name: "mgrpAllowedDomain", change: teamDN + "mgrpAllowedDomain: far.test", poster: stranger, want: all},
		{name: "mgrpAllowedDomain is a glob", change: teamDN + "mgrpAllowedDomain: *.test", poster: stranger, want: all},
		{name: "mgrpAllowedDomain of others", change: teamDN + "mgrpAllowedDomain: us.example", poster: stranger, err: refused},
		{name: "mgrpDisallowedDomain", change: teamDN + "mgrpDisallowedDomain: far.*", poster: stranger, err: refused},
		{name: "mgrpDisallowedDomain of others", change: teamDN + "mgrpDisallowedDomain: bad.test", poster: stranger, want: all},
		{name: "mgrpDisallowedDomain before mgrpAllowedDomain", change: teamDN + "mgrpAllowedDomain: far.test\nmgrpDisallowedDomain: far.test", poster: stranger, err: refused},
		{name: "mgrpAllowedBroadcaster absent is no restriction", change: teamDN, poster: stranger, want: all},
		{name: "mgrpAllowedBroadcaster mailto", change: teamDN + "mgrpAllowedBroadcaster: mailto:s@far.test", poster: stranger, want: all},
		{name: "mgrpAllowedBroadcaster mailto of others", change: teamDN + "mgrpAllowedBroadcaster: mailto:other@far.test", poster: stranger, err: refused},
		{name: "mgrpAllowedBroadcaster against all address attributes", change: teamDN + "mgrpAllowedBroadcaster: mailto:robert@us.example\n\n" + bobDN + "mailAlternateAddress: robert@us.example", to: "team@us.example", poster: bob, want: all},
		{name: "mgrpAllowedBroadcaster DN", change: teamDN + "mgrpAllowedBroadcaster: " + bobDN, poster: bob, want: all},
		{name: "mgrpAllowedBroadcaster DN of others", change: teamDN + "mgrpAllowedBroadcaster: " + bobDN, poster: alice, err: refused},
		{name: "mgrpAllowedBroadcaster LDAP URL", change: teamDN + "mgrpAllowedBroadcaster: ldap:///o=us.example,o=isp??sub?(departmentNumber=7)", poster: bob, want: all},
		{name: "mgrpAllowedBroadcaster another list", change: teamDN + "mgrpAllowedBroadcaster: mailto:inner@us.example", poster: bob, want: all},
		{name: "mgrpAllowedBroadcaster the list itself: a member", change: teamDN + "mgrpAllowedBroadcaster: mailto:team@us.example", poster: alice, want: all},
		{name: "mgrpAllowedBroadcaster the list itself: an external member", change: teamDN + "mgrpAllowedBroadcaster: mailto:team@us.example", poster: from("x@far.test", mail.Unproven), want: all},
		{name: "mgrpAllowedBroadcaster the list itself: no member", change: teamDN + "mgrpAllowedBroadcaster: mailto:team@us.example", poster: bob, err: refused},
		{name: "mgrpDisallowedBroadcaster", change: teamDN + "mgrpDisallowedBroadcaster: mailto:s@far.test", poster: stranger, err: refused},
		{name: "mgrpDisallowedBroadcaster a list", change: teamDN + "mgrpDisallowedBroadcaster: mailto:inner@us.example", poster: bob, err: refused},

		{name: "mgrpMsgMaxSize", change: teamDN + "mgrpMsgMaxSize: 100", want: inA + " up to 100; x@far.test up to 100"},
		{name: "mgrpMsgMaxSize exceeded", change: teamDN + "mgrpMsgMaxSize: 100", poster: mta.Poster{Size: 101}, err: "552 5.2.3 message is larger than this list takes"},
		{name: "mgrpMsgMaxSize before moderation", change: teamDN + "mgrpMsgMaxSize: 100" + toModerator, poster: mta.Poster{Size: 101}, err: "552 5.2.3 message is larger than this list takes"},

		{name: "mgrpModerator of an open list gets everything", change: teamDN + "mgrpModerator: mailto:bob@us.example", poster: alice, want: waits},
		{name: "mgrpModerator of a list with allowed senders: others", change: teamDN + "mgrpAllowedDomain: us.example" + toModerator, poster: stranger, want: waits},
		{name: "mgrpModerator of a list with allowed senders: those", change: teamDN + "mgrpAllowedDomain: us.example" + toModerator, poster: alice, want: all},
		{name: "mgrpModerator writes himself", change: teamDN + "mgrpModerator: mailto:bob@us.example", poster: bob, want: all},
		{name: "mgrpModerator whom nothing vouches for", change: teamDN + "mgrpModerator: mailto:bob@us.example", poster: from("bob@us.example", mail.Unproven), want: waits},
		{name: "moderator's approval", change: teamDN + "mgrpModerator: mailto:bob@us.example", to: "team+approve-abcdefghij0123456789@us.example", want: "team+approve-abcdefghij0123456789@us.example does moderation"},

		{name: "mgrpErrorsTo absent is the original sender", want: all, to: "team@us.example"},
		{name: "mgrpErrorsTo", change: teamDN + "mgrpErrorsTo: mailto:bob@us.example", want: inA + " from bob@us.example; x@far.test from bob@us.example"},
		{name: "mgrpRemoveHeader", change: teamDN + "mgrpRemoveHeader: X-Spam", want: inA + " edited; x@far.test edited"},
		{name: "mgrpMsgPrefixText", change: teamDN + "mgrpMsgPrefixText: from the team", want: inA + " edited; x@far.test edited"},
		{name: "mgrpMsgSuffixText", change: teamDN + "mgrpMsgSuffixText: from the team", want: inA + " edited; x@far.test edited"},
		{name: "mgrpAddHeader", change: teamDN + "mgrpAddHeader: List-Id: <team.us.example>", want: inA + " edited; x@far.test edited"},

		{name: "uniqueMember", change: teamDN + "uniqueMember: " + bobDN + "uniqueMember: " + aliceDN + "mgrpRFC822MailMember:", want: inB + "; " + inA},
		{name: "uniqueMember that does not exist", change: teamDN + "uniqueMember: uid=gone,o=us.example,o=isp", want: "x@far.test"},
		{name: "uniqueMember nested", change: teamDN + "uniqueMember: " + innerDN, want: inB + "; x@far.test"},
		{name: "uniqueMember nested within itself", change: teamDN + "uniqueMember: " + teamDN, want: "x@far.test"},
		{name: "uniqueMember nested in a circle", change: teamDN + "uniqueMember: " + innerDN + "\n" + innerDN + "uniqueMember: " + teamDN, to: "team@us.example", want: "x@far.test"},
		{name: "uniqueMember: a member twice gets one copy", change: teamDN + "uniqueMember: " + innerDN + "uniqueMember: " + bobDN + "mgrpRFC822MailMember: bob@us.test", want: inB},
		{name: "uniqueMember: refused members do not stop the others", change: teamDN + "uniqueMember: " + aliceDN + "uniqueMember: " + bobDN + "\n" + bobDN + "mailUserStatus: disabled", to: "team@us.example", want: all},
		{name: "uniqueMember: inactive members wait", change: teamDN + "uniqueMember: " + aliceDN + "uniqueMember: " + bobDN + "\n" + bobDN + "mailUserStatus: inactive", to: "team@us.example", want: inA + "; bob@us.example waits; x@far.test"},
		{name: "mgrpRFC822MailMember", change: teamDN + "uniqueMember:\nmgrpRFC822MailMember: x@far.test\nmgrpRFC822MailMember: y@far.test", want: "x@far.test; y@far.test"},
		{name: "memberURL", change: teamDN + "uniqueMember:\nmgrpRFC822MailMember:\nmemberURL: ldap:///o=us.example,o=isp??sub?(mail=bob@us.example)", want: inB},
		{name: "mgrpDeliverTo", change: teamDN + "uniqueMember:\nmgrpRFC822MailMember:\nmgrpDeliverTo: ldap:///o=us.example,o=isp??sub?(departmentNumber=7)", want: inB},
		{name: "memberURL with a filter too long", change: teamDN + "uniqueMember:\nmgrpRFC822MailMember:\nmemberURL: ldap:///o=us.example,o=isp??sub?(cn=" + strings.Repeat("x", 1024) + ")", err: "550 5.2.4 nobody is behind this address"},
		{name: "mgrpDeliverException", change: teamDN + "mgrpDeliverException: " + aliceDN, want: "x@far.test"},
		{name: "mailDeliveryOption members_offline", change: teamDN + "mailDeliveryOption: members_offline", want: "team@us.example waits"},
		{name: "mailDeliveryOption forward", change: teamDN + "mailDeliveryOption: members\nmailDeliveryOption: forward\nmailForwardingAddress: bob@us.example", want: all + "; " + inB},
		{name: "mailDeliveryOption hold", change: teamDN + "mailDeliveryOption: hold", want: "team@us.example waits"},
		{name: "mailHost of a group elsewhere", change: teamDN + "mailHost: lists.far.test", want: "team@us.example via lists.far.test"},
		{name: "mailHost of a group here", change: teamDN + "mailHost: a.us.example", want: all},
		{name: "mailDeferProcessing absent: groups yes", change: teamDN + "mailDeferProcessing:", want: "team@us.example waits"},
		{name: "mailDeferProcessing absent, reprocessed", change: teamDN + "mailDeferProcessing:", queued: true, want: all},
		{name: "mailDeferProcessing: the rules are asked before", change: teamDN + "mailDeferProcessing:\nmgrpAllowedDomain: no.test", poster: alice, err: refused},
		{name: "mailAlternateAddress of a group", change: teamDN + "mailAlternateAddress: crew@us.example", to: "crew@us.example", want: all},
	})
}

// TestApprovedPassesTheRules: what a moderator released is not judged again.
func TestApprovedPassesTheRules(t *testing.T) {
	r := schemaResolver(t, ldif(t, baseTree, teamDN+"mgrpModerator: mailto:bob@us.example"), "")
	plan, err := r.Again(mta.Poster{From: addr(t, "s@far.test")}).Resolve(t.Context(), mail.Recipient{Address: addr(t, "team@us.example"), Moderation: mail.Approved})
	if err != nil || len(plan.Targets) != 2 {
		t.Errorf("%+v, %v", plan.Targets, err)
	}
}

// TestForwardsBearOurName: what leaves by a forward has a reverse-path of ours,
// and a bounce to it, and nothing else, finds back.
func TestForwardsBearOurName(t *testing.T) {
	r := schemaResolver(t, ldif(t, baseTree, aliceDN+"mailDeliveryOption: forward\nmailForwardingAddress: f@far.test"), "")
	r.SRS = mta.NewSRS([]byte("key"))
	resolve := func(from, to string) (mta.Plan, error) {
		p := mta.Poster{}
		if from != "" {
			p.From = addr(t, from)
		}
		return r.Begin(p, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, to)})
	}
	plan, err := resolve("s@other.test", "alice@us.example")
	if err != nil || len(plan.Targets) != 1 {
		t.Fatal(plan.Targets, err)
	}
	sender := plan.Targets[0].Sender
	if sender.Domain != "us.example" || !strings.HasPrefix(sender.Local, "SRS0=") || !strings.HasSuffix(sender.Local, "=other.test=s") {
		t.Errorf("sender %q", sender)
	}
	if plan, err = resolve("bob@us.example", "alice@us.example"); err != nil || !plan.Targets[0].Sender.IsNull() {
		t.Errorf("our own sender became %q, %v", plan.Targets[0].Sender, err)
	}
	if plan, err = resolve("s@other.test", "team@us.example"); err != nil || plan.Targets[1].Sender.Domain != "us.example" {
		t.Errorf("a list's external member: %+v, %v", plan.Targets, err)
	}
	if plan, err = resolve("", sender.String()); err != nil || len(plan.Targets) != 1 || show(plan.Targets[0]) != "s@other.test" {
		t.Errorf("a bounce: %+v, %v", plan.Targets, err)
	}
	if _, err = resolve("evil@far.test", sender.String()); reply(err) != none {
		t.Errorf("no bounce: %v", err)
	}
	forged := mail.Address{Local: strings.Replace(sender.Local, "=s", "=t", 1), Domain: sender.Domain}
	if _, err = resolve("", forged.String()); reply(err) != none {
		t.Errorf("forged: %v", err)
	}
}

func TestTransports(t *testing.T) {
	r := schemaResolver(t, ldif(t, baseTree), "")
	r.Transports = []mta.Transport{
		{Name: "partner", To: []string{"partner.test", ".partner.test"}},
		{Name: "newsletter", From: []string{"news@us.example"}},
		{Name: "moved", To: []string{"old@far.test"}, Address: addr(t, "alice@us.example")},
		{Name: "literal", To: []string{"[192.0.2.1]"}},
		{Name: "circle", To: []string{"*@circle.test"}, Address: addr(t, "a@circle.test")},
	}
	for _, tt := range []struct{ from, to, want string }{
		{"a@us.example", "x@partner.test", "x@partner.test by partner"},
		{"a@us.example", "x@deep.partner.test", "x@deep.partner.test by partner"},
		{"a@us.example", "x@nopartner.test", "x@nopartner.test"},
		{"news@us.example", "x@far.test", "x@far.test by newsletter"},
		{"news@us.example", "x@partner.test", "x@partner.test by partner"},
		{"a@us.example", "old@far.test", inA},
		{"a@us.example", "x@[192.0.2.1]", "x@[192.0.2.1] by literal"},
		{"a@us.example", "b@circle.test", "a@circle.test by circle"},
	} {
		plan, err := r.Begin(mta.Poster{From: addr(t, tt.from)}, slog.New(slog.DiscardHandler)).Resolve(t.Context(), mail.Recipient{Address: addr(t, tt.to)})
		if err != nil || len(plan.Targets) != 1 || show(plan.Targets[0]) != tt.want {
			t.Errorf("%s to %s: %+v, %v; want %s", tt.from, tt.to, plan.Targets, err, tt.want)
		}
	}
}
