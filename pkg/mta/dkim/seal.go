package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

var _ mta.Sealer = (*Keys)(nil)

// Seal implements mta.Sealer: one ARC set by the domain's RSA key in use
// (RFC 8617 §5.1). A message whose chain is malformed, or full, gets none.
func (k *Keys) Seal(_ context.Context, domain, results string, body mail.Body) ([]byte, error) {
	keys, err := k.inUse(domain)
	if err != nil {
		return nil, err
	}
	// Few verifiers of chains know Ed25519.
	i := slices.IndexFunc(keys, func(key Key) bool { return key.Algorithm == "rsa" })
	if i < 0 {
		return nil, nil
	}
	rc, err := body.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	block, rest, err := splitHeader(rc)
	if err != nil {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	sets, err := collect(block)
	if err != nil || len(sets) == maxSets {
		return nil, nil
	}
	hash, err := hashBody(rest, 0, true)
	if err != nil {
		return nil, fmt.Errorf("reading the message: %w", err)
	}
	s := sealer{key: keys[i], number: len(sets) + 1, at: time.Now()}
	newest := set{results: fmt.Appendf(nil, "%s: i=%d; %s\r\n", resultsField, s.number, results)}
	if newest.message, err = s.message(block, hash); err != nil {
		return nil, err
	}
	if newest.seal, err = s.seal(append(slices.Clip(sets), newest)); err != nil {
		return nil, err
	}
	return slices.Concat(newest.seal, newest.message, newest.results), nil
}

// sealer makes the two signatures of one set.
type sealer struct {
	key    Key
	number int
	at     time.Time
}

// message is the ARC-Message-Signature field.
func (s sealer) message(block, bodyHash []byte) ([]byte, error) {
	names := signed()
	field := fmt.Appendf(nil, "%s: i=%d; a=rsa-sha256; c=relaxed/relaxed;\r\n\td=%s; s=%s; t=%d;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb=",
		messageField, s.number, s.key.Domain, s.key.Selector, s.at.Unix(), folded(names), base64.StdEncoding.EncodeToString(bodyHash))
	lower := make([]string, len(names))
	for i, n := range names {
		lower[i] = strings.ToLower(n)
	}
	return s.sign(field, headerSum(block, lower, append(bytes.Clone(field), "\r\n"...), true))
}

// seal is the ARC-Seal field; the last of sets lacks it.
func (s sealer) seal(sets []set) ([]byte, error) {
	cv := "pass"
	if len(sets) == 1 {
		cv = "none"
	}
	field := fmt.Appendf(nil, "%s: i=%d; a=rsa-sha256; cv=%s; d=%s;\r\n\ts=%s; t=%s;\r\n\tb=",
		sealField, s.number, cv, s.key.Domain, s.key.Selector, strconv.FormatInt(s.at.Unix(), 10))
	sets[len(sets)-1].seal = append(bytes.Clone(field), "\r\n"...)
	sum := sha256.Sum256(sealed(sets))
	return s.sign(field, sum[:])
}

// sign completes a field that ends with "b=".
func (s sealer) sign(field, sum []byte) ([]byte, error) {
	b, err := s.key.private.Sign(rand.Reader, sum, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sealing with key %s: %w", s.key.Selector, err)
	}
	for text := base64.StdEncoding.EncodeToString(b); text != ""; {
		n := min(len(text), 72)
		field = append(append(field, "\r\n\t "...), text[:n]...)
		text = text[n:]
	}
	return append(field, "\r\n"...), nil
}

// folded joins names with colons, a few on each line.
func folded(names []string) string {
	var lines []string
	for part := range slices.Chunk(names, 6) {
		lines = append(lines, strings.Join(part, ":"))
	}
	return strings.Join(lines, ":\r\n\t ")
}

// splitHeader reads the header with the empty line that ends it, and returns
// what follows as a reader.
func splitHeader(r io.Reader) (block []byte, rest io.Reader, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		from := max(len(block)-3, 0)
		block = append(block, buf[:n]...)
		if i := bytes.Index(block[from:], []byte("\r\n\r\n")); i >= 0 {
			end := from + i + 4
			return block[:end:end], io.MultiReader(bytes.NewReader(block[end:]), r), nil
		}
		if err == io.EOF {
			return block, bytes.NewReader(nil), nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}
