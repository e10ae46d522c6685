package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mime"
	"mailsrv/pkg/mta"
)

// The fields of an ARC set (RFC 8617 §4.1).
const (
	sealField    = "ARC-Seal"
	messageField = "ARC-Message-Signature"
	resultsField = "ARC-Authentication-Results"
)

// maxSets bounds a chain. RFC 8617 §5.2 draws the line at 50, but each set
// costs a signature and a question (hardening row A2).
const maxSets = 20

// Chain is the ARC check: it verifies the seals of those who handed a message
// on (RFC 8617). It may be used from many goroutines.
type Chain struct{ lookup LookupTXT }

var _ mta.Check = (*Chain)(nil)

// NewChain returns a Chain that finds public keys by lookup.
func NewChain(lookup LookupTXT) *Chain { return &Chain{lookup} }

// Check implements mta.Check. It notes the state of the chain, with the last
// sealer as its domain, and refuses nothing.
func (c *Chain) Check(ctx context.Context, at mta.Stage, e *mta.Evidence) error {
	if at != mta.AtMessage || !e.Stranger {
		return nil
	}
	sets, err := collect(e.Header.Block)
	if err == nil && len(sets) == 0 {
		return nil
	}
	f := mta.Finding{Method: "arc", Result: "pass",
		Properties: []mta.Property{{Name: "smtp.remote-ip", Value: e.Session.Client.Addr.Addr().Unmap().String()}}}
	if err == nil {
		v := &chainVerifier{lookup: c.lookup, keys: make(map[string]crypto.PublicKey)}
		f.Domain, err = v.verify(ctx, sets, e.Header.Block, e.Body)
	}
	switch {
	case errors.Is(err, errUnreadable):
		return err
	case errors.Is(err, errTemporary):
		f.Result, f.Reason = "temperror", err.Error()
	case err != nil:
		f.Result, f.Reason = "fail", err.Error()
	}
	e.Note(f)
	return nil
}

// set is what one host put on the message; each is the whole field.
type set struct{ results, message, seal []byte }

// collect finds the sets of a header, the oldest first. An error says why they
// are no chain (RFC 8617 §5.2 steps 2 and 3).
func collect(block []byte) ([]set, error) {
	var sets [maxSets + 1]set
	highest := 0
	for f := range mime.Fields(block) {
		var place func(*set) *[]byte
		switch {
		case f.Is(sealField):
			place = func(s *set) *[]byte { return &s.seal }
		case f.Is(messageField):
			place = func(s *set) *[]byte { return &s.message }
		case f.Is(resultsField):
			place = func(s *set) *[]byte { return &s.results }
		default:
			continue
		}
		first, _, _ := strings.Cut(f.Value(), ";")
		key, number, _ := strings.Cut(first, "=")
		i, err := strconv.Atoi(strings.TrimSpace(number))
		switch {
		case len(f.Raw) > maxSignature:
			return nil, errors.New("a field of the chain is too long")
		case !f.Is(resultsField):
			// The tag i may stand anywhere in a signature.
			t, _ := tags(f.Value())
			i, err = strconv.Atoi(t["i"])
		case strings.TrimSpace(key) != "i":
			return nil, errors.New("a field of the chain has no number")
		}
		if err != nil || i < 1 || i > maxSets {
			return nil, errors.New("a field of the chain has a bad number")
		}
		if at := place(&sets[i]); *at != nil {
			return nil, fmt.Errorf("two fields of the chain have the number %d", i)
		} else {
			*at = f.Raw
		}
		highest = max(highest, i)
	}
	for i, s := range sets[1 : highest+1] {
		if s.results == nil || s.message == nil || s.seal == nil {
			return nil, fmt.Errorf("set %d of the chain is not whole", i+1)
		}
	}
	return sets[1 : highest+1], nil
}

// errUnreadable: the message itself could not be read.
var errUnreadable = errors.New("reading the message")

// chainVerifier verifies one chain.
type chainVerifier struct {
	lookup LookupTXT
	keys   map[string]crypto.PublicKey // by selector and domain
}

// verify checks the newest message signature and all seals, and returns the
// domain of the newest.
func (v *chainVerifier) verify(ctx context.Context, sets []set, block []byte, body mail.Body) (string, error) {
	for i, s := range sets {
		t, ok := tags(fieldValue(s.seal))
		want := "pass"
		if i == 0 {
			want = "none"
		}
		if !ok || t["cv"] != want {
			return "", fmt.Errorf("seal %d says that the chain was %.20q", i+1, t["cv"])
		}
	}
	newest := sets[len(sets)-1]
	if err := v.message(ctx, newest.message, block, body); err != nil {
		return "", fmt.Errorf("message signature %d: %w", len(sets), err)
	}
	domain := ""
	for n := len(sets); n > 0; n-- {
		t, _ := tags(fieldValue(sets[n-1].seal))
		sum := sha256.Sum256(sealed(sets[:n]))
		if err := v.signature(ctx, t, sum[:]); err != nil {
			return "", fmt.Errorf("seal %d: %w", n, err)
		}
		if n == len(sets) {
			if d, err := mail.ParseDomain(t["d"]); err == nil {
				domain = d
			}
		}
	}
	return domain, nil
}

// message verifies an ARC-Message-Signature (RFC 8617 §4.1.2).
func (v *chainVerifier) message(ctx context.Context, field, block []byte, body mail.Body) error {
	t, ok := tags(fieldValue(field))
	if !ok {
		return errors.New("malformed tags")
	}
	header, content, _ := strings.Cut(t["c"], "/")
	names := list(t["h"])
	switch {
	case !slices.Contains(names, "from"):
		return errors.New("the From field is not signed")
	case slices.Contains(names, strings.ToLower(sealField)):
		return errors.New("a seal is signed")
	case t["l"] != "":
		return errors.New("only a part of the body is signed")
	}
	rc, err := body.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer rc.Close()
	hash, err := hashBody(rc, int64(len(block)), content == "relaxed")
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if want, err := base64.StdEncoding.DecodeString(bare(t["bh"])); err != nil || !bytes.Equal(want, hash) {
		return errors.New("the body was changed")
	}
	sum := headerSum(block, names, field, header == "relaxed")
	return v.signature(ctx, t, sum)
}

// signature verifies one signature of sum.
func (v *chainVerifier) signature(ctx context.Context, t map[string]string, sum []byte) error {
	name := t["s"] + " " + t["d"]
	key, ok := v.keys[name]
	if !ok {
		domain, err := mail.ParseDomain(t["d"])
		if err != nil || t["s"] == "" {
			return errors.New("no domain and selector")
		}
		if key, err = publicKey(ctx, v.lookup, domain, t["s"]); err != nil {
			return err
		}
		v.keys[name] = key
	}
	return verifySignature(key, t["a"], sum, t["b"])
}

// headerSum hashes the fields that names lists, each name standing for the
// lowest field that no name before it took, and then the signature's own field
// (RFC 6376 §5.4.2, §3.7).
func headerSum(block []byte, names []string, own []byte, relaxed bool) []byte {
	canonical := simpleField
	if relaxed {
		canonical = relaxedField
	}
	fields := make(map[string][][]byte)
	for f := range mime.Fields(block) {
		name := strings.ToLower(f.Name)
		fields[name] = append(fields[name], f.Raw)
	}
	sum := sha256.New()
	for _, name := range names {
		if left := fields[name]; len(left) > 0 {
			sum.Write(canonical(left[len(left)-1]))
			fields[name] = left[:len(left)-1]
		}
	}
	sum.Write(bytes.TrimSuffix(canonical(withoutSignature(own)), []byte("\r\n")))
	return sum.Sum(nil)
}

// sealed is what the last seal of sets covers (RFC 8617 §5.1.1).
func sealed(sets []set) []byte {
	var b []byte
	for i, s := range sets {
		b = append(append(b, relaxedField(s.results)...), relaxedField(s.message)...)
		if i < len(sets)-1 {
			b = append(b, relaxedField(s.seal)...)
		} else {
			b = append(b, bytes.TrimSuffix(relaxedField(withoutSignature(s.seal)), []byte("\r\n"))...)
		}
	}
	return b
}

// fieldValue is a field's unfolded value.
func fieldValue(raw []byte) string {
	_, value, _ := strings.Cut(string(raw), ":")
	return strings.ReplaceAll(value, "\r\n", "")
}
