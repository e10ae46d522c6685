package mta_test

import (
	"strings"
	"testing"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mta"
)

func TestExplain(t *testing.T) {
	const deferred = teamDN + "mailDeferProcessing:\nmgrpErrorsTo: mailto:bob@us.example"
	tests := []struct{ name, change, login, from, to, want, because string }{
		{"mailbox", "", "", "s@far.test", "alice@us.example", "alice@us.example: delivered to mailbox INBOX in the store a.us.example", "mailHost"},
		{"relay", "", "", "s@far.test", "x@far.test", "refused: 550 5.7.1 relay denied", ""},
		{"submission", "", "bob", "bob@us.example", "x@far.test", "x@far.test: sent to the MX of far.test", ""},
		{"somebody else's name", "", "bob", "alice@us.example", "x@far.test", "refused: 550 5.7.1 sender address is not yours", ""},
		{"hold", aliceDN + "mailUserStatus: hold", "", "s@far.test", "alice@us.example", "alice@us.example: kept in the queue: mailbox is on hold", "mailUserStatus"},
		{"no mail", aliceDN + "mailDeliveryOption: nomail", "", "s@far.test", "alice@us.example", "taken, and delivered nowhere", "mailDeliveryOption"},
		{"disabled", domainDN + "mailDomainStatus: disabled", "", "s@far.test", "alice@us.example", "refused: 550 5.2.1 user disabled; cannot receive new mail", "mailDomainStatus"},
		{"answered", aliceDN + "mailDeliveryOption: autoreply\nmailAutoReplyMode: echo", "", "s@far.test", "alice@us.example", "alice@us.example: answered automatically", "mailAutoReplyMode"},
		{"program", aliceDN + "mailDeliveryOption: program\nmailProgramDeliveryInfo: archive", "", "s@far.test", "alice@us.example", "alice@us.example: given to the program:archive", "mailProgramDeliveryInfo"},
		{"moderated", teamDN + "mgrpModerator: mailto:bob@us.example", "", "s@far.test", "team@us.example",
			"team@us.example: kept in the queue until a moderator releases it; team@us.example: shown to the moderators", "mgrpModerator"},
		{"list", deferred, "", "s@far.test", "team@us.example",
			"alice@us.example: delivered to mailbox INBOX in the store a.us.example, in the name of bob@us.example, by the queue; " +
				"x@far.test: sent to the MX of far.test, in the name of bob@us.example, by the queue", "mgrpErrorsTo"},
		{"relayed domain", domainDN + "mailRoutingHosts: mx.far.test", "", "s@far.test", "alice@us.example", "alice@us.example: relayed to mx.far.test", "mailRoutingHosts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := schemaResolver(t, ldif(t, baseTree, tt.change), "")
			q := mta.Inquiry{From: addr(t, tt.from), To: addr(t, tt.to)}
			if tt.login != "" {
				u, err := r.Directory.User(t.Context(), tt.login)
				if err != nil {
					t.Fatal(err)
				}
				q.Login = &u
			}
			a := r.Explain(t.Context(), q)
			if got := strings.Join(a.Effects, "; "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			because := ""
			for _, s := range a.Plan.Steps {
				because += s.Fact.Attribute + " "
			}
			if !strings.Contains(because, tt.because) {
				t.Errorf("because of %q, not %q", because, tt.because)
			}
		})
	}
}

// TestWhatIf: a dry run sees what was changed for it, and every question is told.
func TestWhatIf(t *testing.T) {
	tree := ldif(t, baseTree)
	var asked []directory.Question
	changed := directory.WhatIf{Tree: tree, DN: directory.MustParseDN(strings.TrimSpace(aliceDN)),
		Attributes: []directory.Attribute{{Name: "MAILHOST", Values: []string{"b.us.example"}}, {Name: "uid"}}}
	view := directory.NewView(directory.NewRecorder(changed, func(q directory.Question) { asked = append(asked, q) }), directory.ViewOptions{Base: directory.MustParseDN("o=isp")})
	r, err := view.Recipient(t.Context(), addr(t, "alice@us.example"))
	if err != nil || r.User.MailHost != "b.us.example" || r.User.UID != "" {
		t.Errorf("%+v, %v", r.User, err)
	}
	if len(asked) != 2 || len(asked[1].Found) != 1 || !strings.Contains(asked[1].Query.Filter.String(), "(mail=alice@us.example)") {
		t.Errorf("%+v", asked)
	}
}
