package mta_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

// opinion is a Check that notes and suspects at AtMessage.
type opinion struct {
	findings []mta.Finding
	junk     string
}

func (o opinion) Check(_ context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage {
		return nil
	}
	for _, f := range o.findings {
		e.Note(f)
	}
	if o.junk != "" {
		e.Suspect(o.junk)
	}
	return nil
}

func TestFindingsBecomeFields(t *testing.T) {
	tests := []struct {
		name    string
		opinion opinion
		want    string
	}{
		{name: "nothing was found"},
		{name: "passes", opinion: opinion{findings: []mta.Finding{
			{Method: "spf", Result: "pass", Properties: []mta.Property{{Name: "smtp.mailfrom", Value: "far.test"}}},
			{Method: "dkim", Result: "fail", Reason: `body "hash"`, Properties: []mta.Property{{Name: "header.d", Value: "far.test"}, {Name: "header.s", Value: "a b"}}},
		}}, want: "Authentication-Results: mx.us.example;\r\n\tspf=pass\r\n\t smtp.mailfrom=far.test;\r\n" +
			"\tdkim=fail reason=\"body \\\"hash\\\"\"\r\n\t header.d=far.test\r\n\t header.s=\"a b\"\r\nMailsrv-Verdict: accepted; \"spf pass, dkim fail\"\r\n"},
		{name: "a stranger's line ends stay in the value", opinion: opinion{findings: []mta.Finding{
			{Method: "spf", Result: "none", Properties: []mta.Property{{Name: "smtp.helo", Value: "x\r\nBcc: v@us.example"}}},
		}}, want: "Authentication-Results: mx.us.example;\r\n\tspf=none\r\n\t smtp.helo=\"x??Bcc: v@us.example\"\r\nMailsrv-Verdict: accepted; \"spf none\"\r\n"},
		{name: "suspicion alone", opinion: opinion{junk: "listed"}, want: "Authentication-Results: mx.us.example; none\r\nMailsrv-Verdict: junk; \"listed\"\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, tt.opinion)
			if err := h.send(t, stranger(), "far@far.test", "From: far@far.test\n\nhello\n", "alice@us.example"); err != nil {
				t.Fatal(err)
			}
			got, _, _ := strings.Cut(h.stores["a.us.example"].bodies[0], "Received:")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSuspectedMailGoesToJunk(t *testing.T) {
	h := newHouse(t, opinion{junk: "listed"})
	if err := h.send(t, stranger(), "far@far.test", "From: far@far.test\n\nhello\n", "alice@us.example"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"far@far.test -> alice@us.example:Junk"}, h.stores["a.us.example"].got); diff != "" {
		t.Error(diff)
	}
}

func TestForgedFieldsGo(t *testing.T) {
	tests := []struct {
		field string
		stays bool
	}{
		{"Authentication-Results: mx.us.example; spf=pass", false},
		{"authentication-results : MX.us.example.; spf=pass", false},
		{"Authentication-Results: (a) mx.us.example (b) 1; dkim=pass", false},
		{"Authentication-Results:\r\n \"mx.us.example\"; dkim=pass", false},
		{"Mailsrv-Verdict: accepted", false},
		{"Authentication-Results: mx.far.test; spf=pass", true},
		{"X-Authentication-Results: mx.us.example; spf=pass", true},
	}
	for _, tt := range tests {
		h := newHouse(t)
		if err := h.send(t, stranger(), "far@far.test", strings.ReplaceAll(tt.field, "\r", "")+"\nFrom: far@far.test\n\nhello\n", "alice@us.example"); err != nil {
			t.Fatal(err)
		}
		got := h.stores["a.us.example"].bodies[0]
		if strings.Contains(got, tt.field) != tt.stays {
			t.Errorf("%q: stays is not %v in\n%s", tt.field, tt.stays, got)
		}
		if !strings.HasSuffix(got, "From: far@far.test\r\n\r\nhello\r\n") {
			t.Errorf("%q: the rest changed:\n%s", tt.field, got)
		}
	}
}

// seal is a Signer that notes what it was asked for.
type seal struct{ domains []string }

func (s *seal) Sign(_ context.Context, domain string, body mail.Body) ([]byte, error) {
	s.domains = append(s.domains, domain)
	return []byte("DKIM-Signature: d=" + domain + "\r\n"), nil
}

func TestSubmissionsAreSigned(t *testing.T) {
	h := newHouse(t)
	s := &seal{}
	h.options.Signer = s
	h.agent = mta.New(h.options)
	if err := h.send(t, h.login("alice"), "alice@us.example", "From: alice@us.example\n\nhello\n", "bob@us.example"); err != nil {
		t.Fatal(err)
	}
	if err := h.send(t, stranger(), "far@far.test", "From: far@far.test\n\nhello\n", "alice@us.example"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"us.example"}, s.domains); diff != "" {
		t.Error(diff)
	}
	signed := false
	for _, st := range h.stores {
		for _, b := range st.bodies {
			signed = signed || strings.HasPrefix(b, "DKIM-Signature: d=us.example\r\nReceived:")
		}
	}
	if !signed {
		t.Error("no signature stands before the message")
	}
}

// Seal implements mta.Sealer.
func (s *seal) Seal(_ context.Context, domain, results string, _ mail.Body) ([]byte, error) {
	s.domains = append(s.domains, domain)
	return []byte("ARC-Authentication-Results: i=1; " + results + "\r\n"), nil
}

func TestForwardsAreSealed(t *testing.T) {
	h := newHouse(t, opinion{findings: []mta.Finding{{Method: "spf", Result: "pass"}}})
	s := &seal{}
	h.options.Sealer = s
	h.agent = mta.New(h.options)
	letter := "From: far@far.test\n\nhello\n"
	if err := h.send(t, stranger(), "far@far.test", letter, "alice@us.example"); err != nil {
		t.Fatal(err)
	}
	if len(s.domains) != 0 {
		t.Errorf("sealed for %q though nothing left us", s.domains)
	}
	if err := h.send(t, stranger(), "far@far.test", letter, "away@us.example"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"us.example"}, s.domains); diff != "" {
		t.Error(diff)
	}
	if len(h.queue.bodies) != 1 || !strings.HasPrefix(h.queue.bodies[0], "ARC-Authentication-Results: i=1; mx.us.example;\r\n\tspf=pass\r\nAuthentication-Results: mx.us.example") {
		t.Errorf("queued:\n%q", h.queue.bodies)
	}
}

// TestListsAreSealed: what a list that the queue will expand sends on leaves us
// with our seal.
func TestListsAreSealed(t *testing.T) {
	h := newHouse(t)
	s := &seal{}
	for _, g := range h.people.groups {
		g.Defer = true
	}
	h.options.Sealer = s
	h.agent = mta.New(h.options)
	if err := h.send(t, stranger(), "far@far.test", "From: far@far.test\n\nhello\n", "team@us.example"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"us.example"}, s.domains); diff != "" {
		t.Error(diff)
	}
}

func TestSubmissionWithoutBodyGetsItsEmptyLine(t *testing.T) {
	h := newHouse(t)
	if err := h.send(t, h.login("alice"), "alice@us.example", "From: alice@us.example\nSubject: all\n", "bob@us.example"); err != nil {
		t.Fatal(err)
	}
	for _, st := range h.stores {
		for _, b := range st.bodies {
			if !strings.HasSuffix(b, "Subject: all\r\n\r\n") {
				t.Errorf("%q", b)
			}
		}
	}
}
