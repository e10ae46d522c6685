package sqldir

import (
	"context"
	"slices"
	"strings"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/password"
)

var _ directory.PasswordChanger = (*Dir)(nil)

// secret reports whether the attribute is never compared, indexed or folded.
func secret(name string) bool {
	return strings.EqualFold(name, "userPassword") || strings.EqualFold(name, directory.SCRAMAttribute) || strings.EqualFold(name, pwdHistory)
}

// kept is what is stored of passwords: hashes, and a SCRAM secret if there is
// one password and it came in clear.
type kept struct{ hashes, scram []string }

// keepable makes of values of userPassword what may be stored. It takes its
// turn among the binds: each hash takes a core and 19 MiB.
func (d *Dir) keepable(ctx context.Context, values []string) (kept, error) {
	k := kept{hashes: slices.Clone(values)}
	for i, v := range values {
		if password.IsHashed(v) {
			continue
		}
		more, err := d.hashed(ctx, v)
		if err != nil {
			return kept{}, err
		}
		k.hashes[i] = more.hashes[0]
		if len(values) == 1 {
			k.scram = more.scram
		}
	}
	return k, nil
}

// hashed is what is stored of one password in clear.
func (d *Dir) hashed(ctx context.Context, clear string) (k kept, err error) {
	if clear == "" {
		return k, result(directory.ConstraintViolation, "an empty password")
	}
	err = d.turn(ctx, func() {
		k = kept{hashes: []string{password.Hash(clear)}, scram: []string{password.NewSCRAM(clear).String()}}
	})
	return k, err
}

// withoutPasswords is changes with hashes for passwords in clear, which must
// be what the policy wants. Whatever touches the password puts the SCRAM secret,
// the time and the history right behind it.
func (d *Dir) withoutPasswords(ctx context.Context, dn directory.DN, changes []directory.Change) ([]directory.Change, error) {
	out := make([]directory.Change, 0, len(changes)+3)
	for _, c := range changes {
		if !strings.EqualFold(c.Name, "userPassword") {
			out = append(out, c)
			continue
		}
		var k kept
		if c.Kind != directory.DeleteValues {
			for _, v := range c.Values {
				if err := d.acceptable(ctx, dn, v); err != nil {
					return nil, err
				}
			}
			var err error
			if k, err = d.keepable(ctx, c.Values); err != nil {
				return nil, err
			}
			c.Values = k.hashes
		}
		if c.Kind != directory.ReplaceValues {
			k.scram = nil // one of several passwords
		}
		more, err := d.history(ctx, dn)
		if err != nil {
			return nil, err
		}
		out = append(append(out, c, replace(directory.SCRAMAttribute, k.scram...), replace(pwdChangedTime, d.stamp())), more...)
	}
	return out, nil
}

func replace(name string, values ...string) directory.Change {
	return directory.Change{Kind: directory.ReplaceValues, Attribute: directory.Attribute{Name: name, Values: values}}
}

// ChangePassword implements directory.PasswordChanger.
func (d *Dir) ChangePassword(ctx context.Context, dn directory.DN, clear string) error {
	if err := d.judge(ctx, dn, clear); err != nil {
		return err
	}
	k, err := d.hashed(ctx, clear)
	if err != nil {
		return err
	}
	more, err := d.history(ctx, dn)
	if err != nil {
		return err
	}
	_, err = d.run(ctx, directory.Operation{Kind: directory.ModifyEntry, DN: dn, Changes: append([]directory.Change{
		replace("userPassword", k.hashes...), replace(directory.SCRAMAttribute, k.scram...), replace(pwdChangedTime, d.stamp())}, more...)})
	return err
}
