package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"mailsrv/pkg/password"
)

// AppPassword is a password of a user for one program: named, good for some
// services, revoked by itself. It is an entry below the user's.
type AppPassword struct {
	DN   DN
	Name string
	// Services it is good for; empty: all.
	Services []string
	// Made and LastUse are when; zero: not known, never. LastUse is kept to the hour.
	Made, LastUse time.Time
}

// ServiceVerifier is a Directory that knows passwords of programs, as View does.
type ServiceVerifier interface {
	// VerifyFor is Verify for a service: the password may be the user's own, or
	// one of a program that is good for the service.
	VerifyFor(ctx context.Context, login, password string, s Service) (User, error)
}

var _ ServiceVerifier = (*View)(nil)

const (
	appPasswordClass = "mailsrvAppPassword"
	// maxAppPasswords bounds how many of one user are tried.
	maxAppPasswords = 20
	lastUseStep     = time.Hour
	timeLayout      = "20060102150405Z"
)

// newAppPassword is sixteen letters in groups of four: 75 bits that can be typed.
func newAppPassword() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	var b strings.Builder
	for i, c := range raw {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte("abcdefghijkmnpqrstuvwxyz23456789"[c&31])
	}
	return b.String()
}

// looksMade reports whether a password has the form of those of programs: no
// other is looked for among them.
func looksMade(s string) bool {
	ok, err := regexp.MatchString(`^[a-z2-9]{4}(-[a-z2-9]{4}){3}$`, s)
	return ok && err == nil
}

// VerifyFor implements ServiceVerifier.
func (v *View) VerifyFor(ctx context.Context, login, password string, s Service) (User, error) {
	if looksMade(password) {
		u, err := v.verifyApp(ctx, login, password, s)
		if !errors.Is(err, ErrBadCredentials) {
			return u, err
		}
	}
	return v.Verify(ctx, login, password)
}

func (v *View) verifyApp(ctx context.Context, login, password string, s Service) (User, error) {
	u, err := v.User(ctx, login)
	if errors.Is(err, ErrNotFound) {
		return User{}, ErrBadCredentials
	} else if err != nil {
		return User{}, err
	}
	list, err := appPasswords(ctx, v.tree, u.DN)
	if err != nil {
		return User{}, outage(err)
	}
	for _, p := range list[:min(len(list), maxAppPasswords)] {
		if !p.goodFor(s) {
			continue
		}
		switch err := v.tree.Bind(ctx, p.DN, password); {
		case err == nil:
			v.used(ctx, p)
			return u, nil
		case !errors.Is(err, ErrBadCredentials):
			return User{}, outage(err)
		}
	}
	return User{}, ErrBadCredentials
}

// used notes that the password was used, if that is news. A directory that does
// not take the note does not keep anybody out.
func (v *View) used(ctx context.Context, p AppPassword) {
	editor, ok := v.tree.(Editor)
	now := time.Now().UTC()
	if !ok || now.Sub(p.LastUse) < lastUseStep {
		return
	}
	_ = editor.Modify(ctx, p.DN, []Change{{ReplaceValues, attr("mailsrvLastUse", now.Format(timeLayout))}})
}

// goodFor reports whether the password opens the service; "imap" means with TLS
// from the first byte, too.
func (p AppPassword) goodFor(s Service) bool {
	return len(p.Services) == 0 || slices.ContainsFunc(p.Services, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(strings.ToLower(name), "s"), strings.TrimSuffix(string(s), "s"))
	})
}

// appPasswords are those of a user, by name.
func appPasswords(ctx context.Context, tree Tree, user DN) ([]AppPassword, error) {
	var list []AppPassword
	q := Query{Base: user, Scope: ScopeOne, Filter: Equal("objectClass", appPasswordClass),
		Attributes: []string{"cn", "mailsrvService", "mailsrvLastUse", "createTimestamp"}}
	for e, err := range tree.Search(ctx, q) {
		if err != nil {
			return nil, fmt.Errorf("looking for passwords of programs: %w", err)
		}
		p := AppPassword{DN: e.DN, Name: e.Value("cn"), Services: e.Values("mailsrvService")}
		p.Made, _ = time.Parse(timeLayout, e.Value("createTimestamp"))
		p.LastUse, _ = time.Parse(timeLayout, e.Value("mailsrvLastUse"))
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b AppPassword) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// AddAppPassword makes a password for one program of a user, good for the
// services (imap, pop, smtp; none: all), and returns it: it cannot be read
// again.
func (p *Provisioner) AddAppPassword(ctx context.Context, login, name string, services []string) (string, error) {
	for _, s := range services {
		if !slices.Contains([]string{"imap", "pop", "smtp", "sieve"}, s) {
			return "", fmt.Errorf("%w: service %q; write imap, pop, smtp or sieve", ErrBadSetting, s)
		}
	}
	if strings.TrimSpace(name) == "" || len(name) > 64 {
		return "", fmt.Errorf("%w: the name of a program has 1 to 64 bytes", ErrBadSetting)
	}
	u, err := p.view.User(ctx, login)
	if err != nil {
		return "", err
	}
	list, err := appPasswords(ctx, p.tree, u.DN)
	if err != nil {
		return "", err
	}
	if len(list) >= maxAppPasswords {
		return "", fmt.Errorf("%w: %s has %d passwords of programs, which is the limit", ErrBadSetting, login, len(list))
	}
	clear := newAppPassword()
	return clear, wrap("adding a password of "+login, p.tree.Add(ctx, entry(u.DN.Child("cn", name),
		attr("objectClass", appPasswordClass), attr("cn", name), attr("userPassword", password.HashRandom(clear)), attr("mailsrvService", services...))))
}

// AppPasswords lists the passwords of a user's programs by name.
func (p *Provisioner) AppPasswords(ctx context.Context, login string) ([]AppPassword, error) {
	u, err := p.view.User(ctx, login)
	if err != nil {
		return nil, err
	}
	return appPasswords(ctx, p.tree, u.DN)
}

// DeleteAppPassword revokes one password of a program: it counts no more, at once.
func (p *Provisioner) DeleteAppPassword(ctx context.Context, login, name string) error {
	u, err := p.view.User(ctx, login)
	if err != nil {
		return err
	}
	return wrap("revoking the password "+name+" of "+login, p.tree.Delete(ctx, u.DN.Child("cn", name)))
}
