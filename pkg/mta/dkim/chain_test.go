package dkim_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailsrv/pkg/auth"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dkim"
)

// sealedBy is message with one more set on top.
func sealedBy(t *testing.T, keys *dkim.Keys, domain, message string) string {
	t.Helper()
	head, err := keys.Seal(t.Context(), domain, "mx."+domain+"; spf=pass", mail.Bytes(message))
	if err != nil {
		t.Fatal(err)
	}
	return string(head) + message
}

// sealers have keys for two domains in use, and publish them.
func sealers(t *testing.T) (*dkim.Keys, zone) {
	t.Helper()
	keys, z := signer(t)
	made, err := keys.Make("far.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range made {
		name, value, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		z[name] = value
	}
	if err := keys.Activate("far.test"); err != nil {
		t.Fatal(err)
	}
	return keys, z
}

// chain runs the check: "result domain: reason", or nothing.
func chain(t *testing.T, z zone, message string) string {
	t.Helper()
	block := message[:strings.Index(message, "\r\n\r\n")+4]
	e := &mta.Evidence{Stranger: true, Header: &mta.Header{Block: []byte(block)}, Body: mail.Bytes(message),
		Session: &mta.Session{Client: auth.Client{Addr: netip.MustParseAddrPort("192.0.2.1:25")}}}
	if err := dkim.NewChain(z.lookup).Check(t.Context(), mta.AtMessage, e); err != nil {
		t.Fatal(err)
	}
	if len(e.Findings) == 0 {
		return ""
	}
	f := e.Findings[0]
	return strings.TrimSuffix(f.Result+" "+f.Domain+": "+f.Reason, ": ")
}

func TestChain(t *testing.T) {
	keys, z := sealers(t)
	one := sealedBy(t, keys, "us.example", message)
	two := sealedBy(t, keys, "far.test", "Received: from us.example\r\n"+one)
	field := func(text, name string) string { // the first of that name
		i := strings.Index(text, name+":")
		return text[i : i+strings.Index(text[i:], "\r\n")+2]
	}
	tests := []struct{ name, message, want string }{
		{"none", message, ""},
		{"one set", one, "pass us.example"},
		{"two sets", two, "pass far.test"},
		{"a trace field on top", "Received: x\r\n" + two, "pass far.test"},
		{"the body changed", strings.Replace(two, "hello", "hullo", 1), "fail : message signature 2: the body was changed"},
		{"the subject changed", strings.Replace(two, "Subject: hi", "Subject: ho", 1), "fail : message signature 2: the signature does not match"},
		{"what the first found was changed", strings.Replace(two, "mx.us.example; spf=pass", "mx.us.example; spf=fail", 1), "fail : seal 2: the signature does not match"},
		{"a seal changed", strings.Replace(two, "cv=pass", "cv=none", 1), `fail : seal 2 says that the chain was "none"`},
		{"a field is missing", strings.Replace(one, field(one, "ARC-Authentication-Results"), "", 1), "fail : set 1 of the chain is not whole"},
		{"a field twice", field(one, "ARC-Authentication-Results") + one, "fail : two fields of the chain have the number 1"},
		{"a bad number", "ARC-Authentication-Results: i=99; x\r\n" + one, "fail : a field of the chain has a bad number"},
		{"no number", "ARC-Authentication-Results: x; spf=pass\r\n" + one, "fail : a field of the chain has no number"},
		{"a long field", "ARC-Seal: i=2; b=" + strings.Repeat("A", 10_000) + "\r\n" + one, "fail : a field of the chain is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := chain(t, z, tt.message); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestChainKeys(t *testing.T) {
	keys, z := sealers(t)
	text := sealedBy(t, keys, "us.example", message)
	tests := []struct{ name, record, want string }{
		{"no answer", "no answer", "temperror"},
		{"revoked", "v=DKIM1; p=", "fail"},
		{"malformed", "v=DKIM1; p=!!", "fail"},
		{"other algorithm", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "fail"},
		{"not for mail", "v=DKIM1; s=other; p=AA==", "fail"},
		{"too short", "v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANvQpVbmLKlJ1YBoQ3Z4cC6zYkdwn2f2sTB0Wnf2rZyCmRzvEHAYRfPm3gq5eHKxYbVQC1Q0ns5Gkr1VqX5T0XECAwEAAQ==", "fail"},
	}
	for _, tt := range tests {
		changed := zone{}
		for name := range z {
			changed[name] = tt.record
		}
		if got := chain(t, changed, text); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, want %s", tt.name, got, tt.want)
		}
	}
	if got := chain(t, zone{}, text); !strings.HasPrefix(got, "fail") {
		t.Errorf("no key: %q", got)
	}
}

func TestLongChainsAreNotSealed(t *testing.T) {
	keys, z := sealers(t)
	text := message
	for range 20 {
		text = sealedBy(t, keys, "us.example", text)
	}
	if got := chain(t, z, text); got != "pass us.example" {
		t.Errorf("20 sets: %q", got)
	}
	for name, m := range map[string]string{"full": text, "malformed": "ARC-Seal: i=7\r\n" + message, "domain without keys": message} {
		domain := "us.example"
		if strings.HasPrefix(name, "domain") {
			domain = "other.test"
		}
		if head, err := keys.Seal(t.Context(), domain, "x", mail.Bytes(m)); err != nil || head != nil {
			t.Errorf("%s: %q, %v", name, head, err)
		}
	}
}

func TestUnreadableChain(t *testing.T) {
	keys, z := sealers(t)
	text := sealedBy(t, keys, "us.example", message)
	e := &mta.Evidence{Stranger: true, Header: &mta.Header{Block: []byte(text[:strings.Index(text, "\r\n\r\n")+4])}, Body: broken{mail.Bytes(text)}, Session: &mta.Session{}}
	if err := dkim.NewChain(z.lookup).Check(t.Context(), mta.AtMessage, e); err == nil || mail.IsPermanent(err) {
		t.Errorf("verifying: %v", err)
	}
	if _, err := keys.Seal(t.Context(), "us.example", "x", broken{mail.Bytes(message)}); err == nil || errors.Is(err, dkim.ErrNoKeys) {
		t.Errorf("sealing: %v", err)
	}
}
