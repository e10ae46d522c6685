package sqldir

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

// Bind implements directory.Tree.
func (d *Dir) Bind(ctx context.Context, dn directory.DN, given string) error {
	bad := &directory.ResultError{Code: directory.InvalidCredentials, Text: "invalid credentials"}
	if given == "" {
		return bad
	}
	var values []string
	s, err := d.load(ctx, dn)
	if err != nil {
		return err
	}
	if s != nil {
		values = s.entry.Values("userPassword")
	}
	mac := hmac.New(sha256.New, d.key[:])
	text := make([]byte, 0, 512)
	for _, v := range append(values[:len(values):len(values)], given) { // each with its length: no two lists are one text
		text = append(binary.AppendUvarint(text, uint64(len(v))), v...)
	}
	_, _ = mac.Write(text) // never fails
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	path := d.path(dn)
	d.mu.Lock()
	known, ok := d.proved[path]
	d.mu.Unlock()
	// The stored values are part of the MAC: a changed password counts at once.
	if ok && hmac.Equal(known[:], sum[:]) && len(values) > 0 {
		return d.current(s)
	}
	check := values
	if len(check) == 0 {
		check = []string{dummyHash} // an unknown user costs what a wrong password does
	}
	if err := d.turn(ctx, func() { ok = password.Check(check, given) }); err != nil {
		return err
	}
	if !ok || len(values) == 0 {
		return bad
	}
	d.mu.Lock()
	if len(d.proved) >= maxProved {
		clear(d.proved)
	}
	d.proved[path] = sum
	d.mu.Unlock()
	d.rehash(dn, s.entry, given)
	return d.current(s)
}

// current refuses a password that is right, and too old.
func (d *Dir) current(s *stored) error {
	if at, ok := d.expires(s.entry); !ok || !d.now().After(at) {
		return nil
	}
	return &directory.ResultError{Code: directory.InvalidCredentials, Text: "invalid credentials", Err: directory.ErrPasswordExpired}
}

// turn runs work, which hashes a password, when a core is free for it.
func (d *Dir) turn(ctx context.Context, work func()) error {
	select {
	case d.hashes <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", directory.ErrUnavailable, ctx.Err())
	}
	defer func() { <-d.hashes }()
	work()
	return nil
}

// dummyHash is of a password that nobody knows.
const dummyHash = "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE"
