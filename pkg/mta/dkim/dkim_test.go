package dkim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dkim"
)

const message = "From: alice@us.example\r\nTo: bob@far.test\r\nSubject: hi\r\nDate: Tue, 24 Nov 2026 03:00:00 +0000\r\n\r\nhello\r\n"

// zone publishes TXT records.
type zone map[string]string

func (z zone) lookup(_ context.Context, name string) ([]string, error) {
	switch v, ok := z[name]; {
	case v == "no answer":
		return nil, &net.DNSError{Err: "server misbehaving", Name: name, IsTemporary: true}
	case ok:
		return []string{v}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// signer has keys for us.example in use, and publishes them.
func signer(t *testing.T) (*dkim.Keys, zone) {
	t.Helper()
	keys, err := dkim.OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	made, err := keys.Make("us.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	z := zone{}
	for _, k := range made {
		name, value, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		z[name] = value
	}
	if err := keys.Activate("us.example"); err != nil {
		t.Fatal(err)
	}
	return keys, z
}

func sign(t *testing.T, keys *dkim.Keys, message string) string {
	t.Helper()
	head, err := keys.Sign(t.Context(), "us.example", mail.Bytes(message))
	if err != nil {
		t.Fatal(err)
	}
	return string(head) + message
}

// judge runs the check and returns its findings as "result d: reason".
func judge(t *testing.T, z zone, message string) []string {
	t.Helper()
	block := []byte(message)
	if i := strings.Index(message, "\r\n\r\n"); i >= 0 {
		block = block[:i+4]
	}
	e := &mta.Evidence{Stranger: true, Header: &mta.Header{Block: block}, Body: mail.Bytes(message)}
	if err := dkim.NewCheck(z.lookup).Check(t.Context(), mta.AtMessage, e); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range e.Findings {
		line := f.Result + " " + f.Domain
		if f.Reason != "" {
			line += ": " + f.Reason
		}
		got = append(got, line)
	}
	return got
}

func TestSignedIsVerified(t *testing.T) {
	keys, z := signer(t)
	text := sign(t, keys, message)
	if n := strings.Count(text, "DKIM-Signature:"); n != 2 {
		t.Fatalf("%d signatures", n)
	}
	for f := range mime.Fields([]byte(text)) {
		for line := range bytes.Lines(f.Raw) {
			if len(line) > 998 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	}
	ok := []string{"pass us.example", "pass us.example"}
	if diff := cmp.Diff(ok, judge(t, z, text)); diff != "" {
		t.Error(diff)
	}
	tests := []struct{ name, from, to, want string }{
		{"body changed", "hello", "hullo", "fail"},
		{"subject changed", "Subject: hi", "Subject: ho", "fail"},
		{"second From added", "From:", "From: eve@evil.test\r\nFrom:", "fail"},
		{"a field added that was not there", "\r\n\r\n", "\r\nReply-To: eve@evil.test\r\n\r\n", "fail"},
		{"a trace field added", "From: alice", "X-Seen: yes\r\nFrom: alice", "pass"},
		{"white space folded otherwise", "Subject: hi", "Subject:\r\n\t hi", "pass"},
	}
	for _, tt := range tests {
		at := strings.Index(text, "From: alice")
		changed := text[:at] + strings.Replace(text[at:], tt.from, tt.to, 1)
		if got := judge(t, z, changed); len(got) != 2 || !strings.HasPrefix(got[0], tt.want) || !strings.HasPrefix(got[1], tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func TestForeignVerifier(t *testing.T) {
	keys, z := signer(t)
	got, err := msgauth.VerifyWithOptions(strings.NewReader(sign(t, keys, message)), &msgauth.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) { return z.lookup(t.Context(), name) }})
	if err != nil || len(got) != 2 || got[0].Err != nil || got[1].Err != nil {
		t.Errorf("%v, %+v", err, got)
	}
}

// TestA2WeakSignatures is row A2 of hardening.md: what a signature leaves open
// to others counts for nothing.
func TestA2WeakSignatures(t *testing.T) {
	keys, z := signer(t)
	text := sign(t, keys, message)
	tests := []struct{ name, message, want string }{
		{"none", message, "none "},
		{"header without a body", "From: a@far.test\r\n", "none "},
		{"body length", strings.Replace(text, " a=", " l=5; a=", 1), "fail us.example"},
		{"expired", strings.Replace(text, " a=", " x=1000; a=", 1), "permerror us.example"},
		{"a signature without From", strings.Replace(text, "From:From:", "X-A:X-B:", 1), "permerror us.example"},
		{"long", "DKIM-Signature: v=1; h=" + strings.Repeat("a:", 5000) + "\r\n" + message, "permerror : a signature is too long"},
		{"many fields", strings.Repeat("X: y\r\n", 3000) + text, "permerror : too many header fields"},
		{"malformed", "DKIM-Signature: v=1; v=1\r\n" + message, "permerror "},
		{"domain of a literal", "DKIM-Signature: v=1; a=rsa-sha256; d=[192.0.2.1]; s=x; h=from; bh=; b=\r\n" + message, "permerror [192.0.2.1]"},
	}
	for _, tt := range tests {
		if got := judge(t, z, tt.message); len(got) == 0 || !strings.HasPrefix(got[0], tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for name, record := range z {
		if strings.Contains(record, "k=rsa") {
			const bits512 = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANQ3bKrbZk9ROTMOSTtSwr6qpBT6zG6EZfaZ3hLVA0xLguJPfq8MDejBpuSqeLY9dtacBchDVRl81GQCaXklmv8CAwEAAQ=="
			z[name] = "v=DKIM1; k=rsa; p=" + bits512
		}
	}
	if got := strings.Join(judge(t, z, text), "\n"); !strings.Contains(got, "key is too short") || strings.Count(got, "pass us.example") != 1 {
		t.Errorf("an RSA key of 512 bits: %q", got)
	}
}

// TestA2FiveSignatures is row A2: more than five are not worth the time.
func TestA2FiveSignatures(t *testing.T) {
	keys, z := signer(t)
	head, err := keys.Sign(t.Context(), "us.example", mail.Bytes(message))
	if err != nil {
		t.Fatal(err)
	}
	if got := judge(t, z, strings.Repeat(string(head), 10)+message); len(got) != 5 {
		t.Errorf("%d of 20 signatures were judged", len(got))
	}
}

func TestNoAnswerIsTemporary(t *testing.T) {
	keys, z := signer(t)
	for name := range z {
		z[name] = "no answer"
	}
	for _, got := range judge(t, z, sign(t, keys, message)) {
		if !strings.HasPrefix(got, "temperror us.example") {
			t.Error(got)
		}
	}
}

// broken fails in the middle.
type broken struct{ mail.Bytes }

func (b broken) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.Bytes[:len(b.Bytes)-3]), &failing{})), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk is gone") }

func TestUnreadableMessage(t *testing.T) {
	keys, z := signer(t)
	text := sign(t, keys, message)
	e := &mta.Evidence{Stranger: true, Header: &mta.Header{Block: []byte(text[:strings.Index(text, "\r\n\r\n")+4])}, Body: broken{mail.Bytes(text)}}
	if err := dkim.NewCheck(z.lookup).Check(t.Context(), mta.AtMessage, e); err == nil || mail.IsPermanent(err) {
		t.Errorf("verifying: %v", err)
	}
	if _, err := keys.Sign(t.Context(), "us.example", broken{mail.Bytes(message)}); err == nil || mail.IsPermanent(err) {
		t.Errorf("signing: %v", err)
	}
}

func TestKeysRotate(t *testing.T) {
	keys, _ := signer(t)
	now := time.Now().Add(time.Hour)
	if _, err := keys.Make("us.example", now); err != nil {
		t.Fatal(err)
	}
	before, err := keys.Sign(t.Context(), "us.example", mail.Bytes(message))
	if err != nil {
		t.Fatal(err)
	}
	stamp := "s=r" + now.UTC().Format("20060102t150405")
	if bytes.Contains(before, []byte(stamp)) {
		t.Error("a waiting key signs")
	}
	if err := keys.Activate("us.example"); err != nil {
		t.Fatal(err)
	}
	after, err := keys.Sign(t.Context(), "us.example", mail.Bytes(message))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(after, []byte(stamp)) || bytes.Count(after, []byte("DKIM-Signature")) != 2 {
		t.Errorf("the new keys do not sign:\n%s", after)
	}
	list, err := keys.List("us.example")
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, k := range list {
		states = append(states, fmt.Sprintf("%s %s", k.Algorithm, k.State))
	}
	if diff := cmp.Diff([]string{"ed25519 pem", "rsa pem", "ed25519 old", "rsa old"}, states); diff != "" {
		t.Error(diff)
	}
	if err := keys.Activate("us.example"); !errors.Is(err, dkim.ErrNoKeys) {
		t.Errorf("activating nothing: %v", err)
	}
	if err := keys.Remove("us.example", list[3].Selector); err != nil {
		t.Error(err)
	}
}

func TestNoKeysNoSignature(t *testing.T) {
	keys, _ := signer(t)
	for _, domain := range []string{"far.test", "[192.0.2.1]", "../us.example", ""} {
		if head, err := keys.Sign(t.Context(), domain, mail.Bytes(message)); err != nil || head != nil {
			t.Errorf("%q: %q, %v", domain, head, err)
		}
	}
	if _, err := keys.Make("../x", time.Now()); err == nil {
		t.Error("a path became a domain")
	}
}
