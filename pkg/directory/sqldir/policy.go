package sqldir

import (
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

// Policy is what passwords must be (after draft-behera-ldap-password-policy). The
// zero Policy wants nothing. It looks at passwords that come in clear: a hash
// tells nothing.
type Policy struct {
	// MinLength is in characters.
	MinLength int
	// History is how many former passwords may not come again; at most 24.
	History int
	// MaxAge is how long a password counts after it was set; 0: for ever.
	MaxAge time.Duration
}

// Attributes of the policy.
const (
	pwdChangedTime = "pwdChangedTime"
	pwdHistory     = "pwdHistory"
	maxHistory     = 24
)

func (d *Dir) longEnough(clear string) error {
	if utf8.RuneCountInString(clear) < d.policy.MinLength {
		return &directory.ResultError{Code: directory.ConstraintViolation, Text: "the password is too short", Err: directory.ErrPasswordTooShort}
	}
	return nil
}

// acceptable judges a new value of userPassword.
func (d *Dir) acceptable(ctx context.Context, dn directory.DN, value string) error {
	if password.IsHashed(value) {
		return nil
	}
	return d.judge(ctx, dn, value)
}

// judge judges a new password: its length, and that it is not one of the last.
func (d *Dir) judge(ctx context.Context, dn directory.DN, clear string) error {
	if err := d.longEnough(clear); err != nil || d.policy.History <= 0 {
		return err
	}
	s, err := d.load(ctx, dn)
	if err != nil || s == nil {
		return err // what is not there will be said by the change
	}
	former := append(slices.Clone(s.entry.Values("userPassword")), s.entry.Values(pwdHistory)...)
	for _, hash := range former[:min(len(former), d.policy.History)] {
		used := false
		if err := d.turn(ctx, func() { used = password.Check([]string{hash}, clear) }); err != nil {
			return err
		}
		if used {
			return &directory.ResultError{Code: directory.ConstraintViolation, Text: "the password was used before", Err: directory.ErrPasswordUsed}
		}
	}
	return nil
}

// history is the change that keeps the present password as a former one.
func (d *Dir) history(ctx context.Context, dn directory.DN) ([]directory.Change, error) {
	if d.policy.History <= 0 {
		return nil, nil
	}
	s, err := d.load(ctx, dn)
	if err != nil || s == nil {
		return nil, err
	}
	former := append(slices.Clone(s.entry.Values("userPassword")), s.entry.Values(pwdHistory)...)
	var distinct []string // the last first
	for _, hash := range former {
		if !slices.Contains(distinct, hash) && len(distinct) < min(d.policy.History, maxHistory) {
			distinct = append(distinct, hash)
		}
	}
	return []directory.Change{replace(pwdHistory, distinct...)}, nil
}

// expires is when the entry's password is too old to count; false: never.
func (d *Dir) expires(e directory.Entry) (time.Time, bool) {
	if d.policy.MaxAge <= 0 {
		return time.Time{}, false
	}
	set, err := time.Parse(timeLayout, e.Value(pwdChangedTime))
	return set.Add(d.policy.MaxAge), err == nil
}

var _ directory.PasswordAger = (*Dir)(nil)

// PasswordExpires implements directory.PasswordAger.
func (d *Dir) PasswordExpires(ctx context.Context, dn directory.DN) (time.Duration, bool, error) {
	s, err := d.load(ctx, dn)
	if err != nil || s == nil {
		return 0, false, err
	}
	at, ok := d.expires(s.entry)
	return at.Sub(d.now()), ok, nil
}

// rehash replaces a weak hash of a password that has just proved right, beside
// the logins and one at a time: who comes while one is at work keeps the old
// hash until next time.
func (d *Dir) rehash(dn directory.DN, e directory.Entry, clear string) {
	values := e.Values("userPassword")
	if d.keepHashes || len(values) != 1 || !password.IsStale(values[0]) || e.HasClass("mailsrvAppPassword") {
		return
	}
	select {
	case d.rehashing <- struct{}{}:
	default:
		return
	}
	d.background.Go(func() {
		defer func() { <-d.rehashing }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		k, err := d.hashed(ctx, clear)
		if err == nil {
			// Deleting the very hash that was checked: a password changed meanwhile stays.
			_, err = d.run(ctx, directory.Operation{Kind: directory.ModifyEntry, DN: dn, Changes: []directory.Change{
				{Kind: directory.DeleteValues, Attribute: directory.Attribute{Name: "userPassword", Values: values}},
				{Kind: directory.AddValues, Attribute: directory.Attribute{Name: "userPassword", Values: k.hashes}},
				replace(directory.SCRAMAttribute, k.scram...)}})
		}
		if err != nil {
			d.log.Warn("password not hashed anew", "dn", dn.String(), "err", err)
			return
		}
		d.log.Info("password hashed anew", "dn", dn.String())
	})
}
