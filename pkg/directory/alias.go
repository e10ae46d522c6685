package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailsrv/pkg/mail"
)

// AddAlias gives target another address. A target of ours gets it as an
// alternate address; a domain as alias gets an associated domain; for a target
// elsewhere, or in another of our domains, a group of one is made.
func (p *Provisioner) AddAlias(ctx context.Context, alias, target string) error {
	if !strings.Contains(alias, "@") {
		name, err := mail.ParseDomain(alias)
		if err != nil {
			return err
		}
		if d, err := p.view.Domain(ctx, name); !errors.Is(err, ErrNotFound) {
			return errors.Join(err, fmt.Errorf("adding domain alias %s: %w: it is %s", name, ErrExists, d.Name))
		}
		d, err := p.view.Domain(ctx, strings.ToLower(target))
		if err != nil {
			return err
		}
		return wrap("adding domain alias "+name, p.tree.Modify(ctx, d.DN, []Change{{AddValues, attr("associatedDomain", name)}}))
	}
	a, d, err := p.hosted(ctx, alias)
	if err != nil {
		return fmt.Errorf("adding alias: %w", err)
	}
	to, err := mail.ParseAddress(target)
	if err != nil {
		return fmt.Errorf("adding alias: %w", err)
	}
	r, home, err := p.view.holder(ctx, to)
	if errors.Is(err, ErrNotFound) || err == nil && home.Name != d.Name {
		return p.AddGroup(ctx, alias, []string{target})
	} else if err != nil {
		return err
	}
	a = mail.Address{Local: strings.ToLower(a.Local), Domain: d.Name}
	return wrap("adding alias "+alias, p.tree.Modify(ctx, r.DN(), []Change{{AddValues, attr("mailAlternateAddress", a.String())}}))
}

// DeleteAlias takes an alternate address, or a domain's alias, away.
func (p *Provisioner) DeleteAlias(ctx context.Context, alias string) error {
	if !strings.Contains(alias, "@") {
		d, err := p.view.Domain(ctx, strings.ToLower(alias))
		if err != nil {
			return err
		}
		return wrap("deleting domain alias "+alias, p.tree.Modify(ctx, d.DN, []Change{{DeleteValues, attr("associatedDomain", alias)}}))
	}
	a, err := mail.ParseAddress(alias)
	if err != nil {
		return err
	}
	r, d, err := p.view.holder(ctx, a)
	if err != nil {
		return wrap("deleting alias "+alias, err)
	}
	a.Domain = d.Name
	if g := r.Group; g != nil && strings.EqualFold(g.Mail.String(), a.String()) && len(g.Members)+len(g.External) == 1 {
		return wrap("deleting alias "+alias, p.remove(ctx, g.DN)) // what AddAlias makes for a target elsewhere
	}
	return wrap("deleting alias "+alias, p.tree.Modify(ctx, r.DN(), []Change{{DeleteValues, attr("mailAlternateAddress", a.String())}}))
}

// Alias is a further name, of a domain, a user or a group, and what it leads to.
type Alias struct{ Name, Target string }

// Alias says where an alias leads, an address or a domain.
func (p *Provisioner) Alias(ctx context.Context, name string) (Alias, error) {
	if !strings.Contains(name, "@") {
		d, err := p.Domain(ctx, name)
		if err == nil && strings.EqualFold(d.Name, name) {
			err = fmt.Errorf("%w: %s is a domain and no alias", ErrNotFound, d.Name)
		}
		return Alias{name, d.Name}, err
	}
	a, err := mail.ParseAddress(name)
	if err != nil {
		return Alias{}, err
	}
	r, d, err := p.view.holder(ctx, a)
	if err != nil {
		return Alias{}, fmt.Errorf("looking up alias %s: %w", name, err)
	}
	own := mail.Address{Local: a.Local, Domain: d.Name}
	if !strings.EqualFold(r.Address().String(), own.String()) {
		return Alias{name, r.Address().String()}, nil
	}
	if target, ok := p.soleMember(ctx, r); ok {
		return Alias{name, target}, nil
	}
	return Alias{}, fmt.Errorf("%w: %s is a %s and no alias", ErrNotFound, own, r.Kind())
}

// soleMember is whom a group of one leads to, which is what AddAlias makes for
// a target elsewhere.
func (p *Provisioner) soleMember(ctx context.Context, r Recipient) (string, bool) {
	g := r.Group
	switch {
	case g == nil || len(g.Members)+len(g.External) != 1:
		return "", false
	case len(g.External) == 1:
		return g.External[0].String(), true
	}
	if m, err := p.view.Member(ctx, g.Members[0]); err == nil {
		return m.Address().String(), true
	}
	return g.Members[0].String(), true
}

// SetAlias lets an alias that is there lead to another target. If that cannot
// be, it leads where it led.
func (p *Provisioner) SetAlias(ctx context.Context, alias, target string) error {
	old, err := p.Alias(ctx, alias)
	if err != nil {
		return err
	}
	if err := p.DeleteAlias(ctx, alias); err != nil {
		return err
	}
	if err := p.AddAlias(ctx, alias, target); err != nil {
		return errors.Join(err, wrap("putting alias "+alias+" back", p.AddAlias(context.WithoutCancel(ctx), alias, old.Target)))
	}
	return nil
}
