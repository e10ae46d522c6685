package directory

import (
	"context"
	"fmt"
	"strings"

	"mailsrv/pkg/mail"
)

// Set changes settings "name=value" of the user, group or domain that target
// names: name, status, quota, messages, mailhost, forward, delivery. An empty
// value removes the attribute.
func (p *Provisioner) Set(ctx context.Context, target string, settings []string) error {
	dn, kind, err := p.find(ctx, target)
	if err != nil {
		return err
	}
	var changes []Change
	for _, s := range settings {
		name, value, ok := strings.Cut(s, "=")
		attribute := settingAttribute(kind, name)
		if !ok || attribute == "" {
			return fmt.Errorf("%w: %q of a %s; write name=value with one of: %s", ErrBadSetting, s, kind, settingNames(kind))
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

// find returns the entry of a domain, or of a user or group by address.
func (p *Provisioner) find(ctx context.Context, target string) (DN, string, error) {
	if !strings.Contains(target, "@") {
		d, err := p.view.Domain(ctx, strings.ToLower(target))
		return d.DN, "domain", err
	}
	a, err := mail.ParseAddress(target)
	if err != nil {
		return DN{}, "", err
	}
	r, _, err := p.view.holder(ctx, a)
	if err != nil {
		return DN{}, "", fmt.Errorf("looking up %s: %w", target, err)
	}
	if r.User != nil {
		return r.User.DN, "user", nil
	}
	return r.Group.DN, "group", nil
}

func settingTable() []setting {
	return []setting{
		{"user", "name", "cn"}, {"user", "status", "mailUserStatus"}, {"user", "quota", "mailQuota"}, {"user", "messages", "mailMsgQuota"},
		{"user", "mailhost", "mailHost"}, {"user", "forward", "mailForwardingAddress"}, {"user", "delivery", "mailDeliveryOption"},
		{"user", "access", "mailAllowedServiceAccess"},
		{"group", "status", "inetMailGroupStatus"}, {"group", "mailhost", "mailHost"}, {"group", "errorsto", "mgrpErrorsTo"},
		{"domain", "status", "mailDomainStatus"}, {"domain", "mailhost", "preferredMailHost"}, {"domain", "catchall", "mailDomainCatchallAddress"},
		{"domain", "smarthost", "mailRoutingSmartHost"}, {"domain", "preauth", "mailAccessProxyPreAuth"}, {"domain", "replay", "mailAccessProxyReplay"},
		{"domain", "access", "mailDomainAllowedServiceAccess"},
	}
}

// setting is what a friendly name means for a kind of entry.
type setting struct{ kind, name, attribute string }

func settingAttribute(kind, name string) string {
	for _, s := range settingTable() {
		if s.kind == kind && s.name == name {
			return s.attribute
		}
	}
	return ""
}

func settingNames(kind string) string {
	var names []string
	for _, s := range settingTable() {
		if s.kind == kind {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ", ")
}

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
	}
	return nil
}
