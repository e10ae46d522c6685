package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/mail"
)

// Kind is what an entry is to an admin.
type Kind string

// The kinds of entries.
const (
	KindUser   Kind = "user"
	KindGroup  Kind = "group"
	KindDomain Kind = "domain"
)

// Set changes settings "name=value" of the user, group or domain that target
// names: name, status, quota, messages, mailhost, forward, delivery. An empty
// value removes the attribute. A target of another kind is ErrNotFound.
func (p *Provisioner) Set(ctx context.Context, kind Kind, target string, settings []string) error {
	dn, err := p.find(ctx, kind, target)
	if err != nil {
		return err
	}
	var changes []Change
	for _, s := range settings {
		name, value, ok := strings.Cut(s, "=")
		attribute := settingAttribute(kind, name)
		if !ok || attribute == "" {
			return fmt.Errorf("%w: %q of a %s; write name=value with one of: %s", ErrBadSetting, s, kind, Settings(kind))
		}
		if err := checkSetting(name, value); err != nil { // before anything is written
			return err
		}
		var values []string
		if value != "" {
			values = strings.Split(value, ",")
			if name == "name" || name == "access" {
				values = []string{value}
			}
		}
		changes = append(changes, Change{ReplaceValues, attr(attribute, values...)})
	}
	return wrap("setting "+target, p.tree.Modify(ctx, dn, changes))
}

// find returns the entry of a domain, of a user by login, or of a group by
// address.
func (p *Provisioner) find(ctx context.Context, kind Kind, target string) (DN, error) {
	switch kind {
	case KindDomain:
		d, err := p.Domain(ctx, target)
		return d.DN, err
	case KindUser:
		if !strings.Contains(target, "@") { // the default domain's
			u, err := p.view.User(ctx, target)
			return u.DN, err
		}
	case KindGroup:
	}
	a, err := mail.ParseAddress(target)
	if err != nil {
		return DN{}, err
	}
	r, _, err := p.view.holder(ctx, a)
	if err != nil {
		return DN{}, fmt.Errorf("looking up %s: %w", target, err)
	}
	return r.DN(), r.Must(kind)
}

// Kind says which of the two it is.
func (r Recipient) Kind() Kind {
	if r.User != nil {
		return KindUser
	}
	return KindGroup
}

// Must returns ErrNotFound, and what it is, unless the recipient is of the kind.
func (r Recipient) Must(kind Kind) error {
	if k := r.Kind(); k != kind {
		return fmt.Errorf("%w: %s is a %s", ErrNotFound, r.Address(), k)
	}
	return nil
}

func settingTable() []setting {
	return []setting{
		{KindUser, "name", "cn"}, {KindUser, "status", "mailUserStatus"}, {KindUser, "quota", "mailQuota"}, {KindUser, "messages", "mailMsgQuota"},
		{KindUser, "mailhost", "mailHost"}, {KindUser, "forward", "mailForwardingAddress"}, {KindUser, "delivery", "mailDeliveryOption"},
		{KindUser, "access", "mailAllowedServiceAccess"},
		{KindGroup, "status", "inetMailGroupStatus"}, {KindGroup, "mailhost", "mailHost"}, {KindGroup, "errorsto", "mgrpErrorsTo"},
		{KindDomain, "status", "mailDomainStatus"}, {KindDomain, "mailhost", "preferredMailHost"}, {KindDomain, "catchall", "mailDomainCatchallAddress"},
		{KindDomain, "smarthost", "mailRoutingSmartHost"}, {KindDomain, "routinghosts", "mailRoutingHosts"}, {KindDomain, "preauth", "mailAccessProxyPreAuth"}, {KindDomain, "replay", "mailAccessProxyReplay"},
		{KindDomain, "access", "mailDomainAllowedServiceAccess"}, {KindDomain, "quota", "mailQuota"}, {KindDomain, "messages", "mailMsgQuota"},
	}
}

// setting is what a friendly name means for a kind of entry.
type setting struct {
	kind            Kind
	name, attribute string
}

func settingAttribute(kind Kind, name string) string {
	for _, s := range settingTable() {
		if s.kind == kind && s.name == name {
			return s.attribute
		}
	}
	return ""
}

// Settings are the names that Set knows for a kind, separated by commas.
func Settings(kind Kind) string {
	var names []string
	for _, s := range settingTable() {
		if s.kind == kind {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ", ")
}

// checkSetting refuses a value that would be stored and then mean nothing, or
// something else: mail that goes nowhere, a user who cannot log in.
func checkSetting(name, value string) error {
	if value == "" {
		return nil
	}
	switch name {
	case "status":
		if s := parseStatus(value); string(s) != value {
			return fmt.Errorf("%w: %q is no status", ErrBadSetting, value)
		}
	case "quota", "messages":
		if parseQuota(value) == QuotaDefault && value != "-2" {
			return fmt.Errorf("%w: %q is no quota; write 2G, 500M, 0 or -1", ErrBadSetting, value)
		}
	case "preauth":
		if value != "yes" && value != "no" {
			return fmt.Errorf("%w: preauth is yes or no, and not %q", ErrBadSetting, value)
		}
	case "access":
		return checkAccess(value)
	default:
		for v := range strings.SplitSeq(value, ",") {
			if err := checkOne(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOne is checkSetting for one of several values.
func checkOne(name, value string) error {
	var err error
	switch name {
	case "forward", "catchall":
		_, err = mail.ParseAddress(value)
	case "mailhost":
		_, err = mail.ParseDomain(value)
	case "smarthost", "routinghosts": // with a port, if that is another
		if strings.ContainsAny(value, " \t") {
			err = errors.New("a host has no space in it")
		}
	case "delivery":
		if known := []string{"mailbox", "native", "unix", "autoreply", "program", "forward", "hold", "nomail"}; !slices.Contains(known, value) {
			err = fmt.Errorf("it is none of %s", strings.Join(known, ", "))
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s=%s: %w", ErrBadSetting, name, value, err)
	}
	return nil
}

// checkAccess refuses rules that allows cannot read, which would let nobody in.
func checkAccess(rules string) error {
	for rule := range strings.SplitSeq(rules, "$") {
		rule = strings.TrimSpace(rule)
		if rule != "" && (rule[0] != '+' && rule[0] != '-' || !strings.Contains(rule, ":")) {
			return fmt.Errorf("%w: access rule %q; write +imap,pop:* or -smtp:192.0.2.0/24, with $ between rules", ErrBadSetting, rule)
		}
	}
	return nil
}
