// Package dkim signs what our users send and verifies what strangers bring
// (RFC 6376, RFC 8301, RFC 8463), and does the same for the chain of those who
// hand a message on (ARC, RFC 8617), which has DKIM's signatures and keys.
//
// Check notes one finding for each signature, Chain one for the chain; neither
// refuses anything: DMARC and the admin decide what a signature is worth. Keys
// are the private keys of our domains on disk, the Signer and the Sealer that
// use them.
package dkim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
)

// Limits on what a stranger makes us compute: hardening row A2. The cost of a
// signature is its list of fields times the fields of the header.
const (
	maxSignatures = 5
	maxSignature  = 8 << 10 // bytes of one DKIM-Signature field
	maxFields     = 2000
)

// LookupTXT asks the DNS for TXT records, as net.Resolver does.
type LookupTXT func(ctx context.Context, name string) ([]string, error)

// Check verifies signatures. It may be used from many goroutines.
type Check struct{ lookup LookupTXT }

var _ mta.Check = (*Check)(nil)

// NewCheck returns a Check that finds public keys by lookup.
func NewCheck(lookup LookupTXT) *Check { return &Check{lookup} }

// Check implements mta.Check.
func (c *Check) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage || !e.Stranger {
		return nil
	}
	signatures, reason := survey(e.Header.Block)
	switch {
	case reason != "":
		e.Note(mta.Finding{Method: "dkim", Result: "permerror", Reason: reason})
		return nil
	case signatures == 0:
		e.Note(mta.Finding{Method: "dkim", Result: "none"})
		return nil
	}
	verified, err := c.verify(ctx, e)
	for _, v := range verified {
		e.Note(finding(v))
	}
	if errors.Is(err, dkim.ErrTooManySignatures) {
		return nil // those beyond the limit count for nothing
	}
	return err
}

// survey counts the signatures of a header, or says why none will be looked at.
func survey(block []byte) (signatures int, reason string) {
	fields := 0
	for f := range mime.Fields(block) {
		if fields++; fields > maxFields {
			return 0, "too many header fields"
		}
		if !f.Is("DKIM-Signature") {
			continue
		}
		signatures++
		if signatures <= maxSignatures && len(f.Raw) > maxSignature {
			return 0, "a signature is too long"
		}
	}
	return signatures, ""
}

func (c *Check) verify(ctx context.Context, e *mta.Evidence) ([]*dkim.Verification, error) {
	rc, err := e.Body.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	whole := &faulty{r: rc}
	var message io.Reader = whole
	if !strings.HasSuffix(string(e.Header.Block), "\r\n\r\n") && len(e.Header.Block) > 2 {
		message = io.MultiReader(whole, strings.NewReader("\r\n")) // a header without a body lacks its end
	}
	verified, err := dkim.VerifyWithOptions(message, &dkim.VerifyOptions{MaxVerifications: maxSignatures,
		LookupTXT: func(name string) ([]string, error) { return c.lookup(ctx, name) }})
	if whole.err != nil {
		return nil, fmt.Errorf("reading the message: %w", whole.err)
	}
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
		return nil, fmt.Errorf("verifying signatures: %w", err)
	}
	return verified, err
}

// faulty hides a read error as the end of the message: the verifier would
// leave goroutines behind.
type faulty struct {
	r   io.Reader
	err error
}

func (f *faulty) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF {
		f.err, err = err, io.EOF
	}
	return n, err
}

func finding(v *dkim.Verification) mta.Finding {
	f := mta.Finding{Method: "dkim", Result: "pass", Properties: []mta.Property{{Name: "header.d", Value: v.Domain}}}
	if d, err := mail.ParseDomain(v.Domain); err == nil {
		f.Domain = d
	}
	switch {
	case v.Err == nil && f.Domain == "":
		f.Result, f.Reason = "permerror", "the signature's domain is malformed"
	case v.Err == nil:
	case dkim.IsTempFail(v.Err):
		f.Result = "temperror"
	case dkim.IsPermFail(v.Err):
		f.Result = "permerror"
	default:
		f.Result = "fail"
	}
	if v.Err != nil {
		f.Reason = strings.TrimPrefix(v.Err.Error(), "dkim: ")
	}
	return f
}
