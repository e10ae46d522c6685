package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailsrv/pkg/mail"
)

// Provisioner makes and changes domains, users, groups and aliases in the
// shape that View reads (schema.md section 1). It may be used from many
// goroutines.
type Provisioner struct {
	tree Editor
	view *View
	base DN
	host string
}

// NewProvisioner returns a Provisioner of the domains below o.Base.
func NewProvisioner(tree Editor, o ViewOptions) *Provisioner {
	return &Provisioner{tree: tree, view: NewView(tree, o), base: o.Base, host: o.MailHost}
}

// ErrBadSetting is in the chain of errors about a setting that cannot be read.
var ErrBadSetting = errors.New("bad setting")

func entry(dn DN, attributes ...Attribute) Entry {
	return Entry{DN: dn, Attributes: slices.DeleteFunc(attributes, func(a Attribute) bool { return len(a.Values) == 0 || a.Values[0] == "" })}
}

func attr(name string, values ...string) Attribute { return Attribute{Name: name, Values: values} }

// EnsureBase makes the suffix if the directory is empty.
func (p *Provisioner) EnsureBase(ctx context.Context) error {
	if p.base.IsRoot() {
		return nil
	}
	name, class := p.base.RDNs[0][0], "organization"
	switch strings.ToLower(name.Name) {
	case "dc":
		class = "domain"
	case "ou":
		class = "organizationalUnit"
	}
	err := p.tree.Add(ctx, entry(p.base, attr("objectClass", class), attr(name.Name, name.Value)))
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// AddDomain makes a domain and its folders for people and groups. An empty
// mailHost is ViewOptions.MailHost.
func (p *Provisioner) AddDomain(ctx context.Context, name, mailHost string) error {
	name, err := mail.ParseDomain(name)
	if err != nil {
		return err
	}
	dn := p.base.Child("o", name)
	entries := []Entry{
		entry(dn, attr("objectClass", "organization", "sunManagedOrganization", "sunNameSpace", "inetDomain", "mailDomain"),
			attr("o", name), attr("sunPreferredDomain", name), attr("inetDomainStatus", "active"), attr("mailDomainStatus", "active"),
			attr("preferredMailHost", cmp.Or(mailHost, p.host))),
		entry(dn.Child("ou", "People"), attr("objectClass", "organizationalUnit"), attr("ou", "People")),
		entry(dn.Child("ou", "Groups"), attr("objectClass", "organizationalUnit"), attr("ou", "Groups")),
	}
	for _, e := range entries {
		if err := p.tree.Add(ctx, e); err != nil {
			return fmt.Errorf("adding domain %s: %w", name, err)
		}
	}
	return nil
}

// AddUser makes a user uid@domain, whose mail address that is. An empty name is
// the uid; an empty mailHost the domain's.
func (p *Provisioner) AddUser(ctx context.Context, login, name, password, mailHost string) error {
	a, d, err := p.hosted(ctx, login)
	if err != nil {
		return fmt.Errorf("adding user: %w", err)
	}
	if !validUID(a.Local) {
		return fmt.Errorf("adding user: %w: %q is no uid", ErrBadSetting, a.Local)
	}
	uid := strings.ToLower(a.Local)
	name = cmp.Or(strings.TrimSpace(name), uid)
	words := strings.Fields(name)
	return wrap("adding user "+login, p.tree.Add(ctx, entry(d.DN.Child("ou", "People").Child("uid", uid),
		attr("objectClass", "person", "organizationalPerson", "inetOrgPerson", "inetUser", "ipUser", "inetMailUser", "inetLocalMailRecipient"),
		attr("uid", uid), attr("cn", name), attr("sn", words[len(words)-1]), attr("userPassword", password),
		attr("mail", uid+"@"+d.Name), attr("mailHost", cmp.Or(mailHost, d.MailHost)), attr("mailDeliveryOption", "mailbox"),
		attr("inetUserStatus", "active"), attr("mailUserStatus", "active"))))
}

// validUID excludes what schema.md section 3 does.
func validUID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("$~=#*+%!@,{}()/\\<>;:\"`[]&?", r)
	})
}

// hosted parses an address whose domain must be ours.
func (p *Provisioner) hosted(ctx context.Context, s string) (mail.Address, Domain, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return a, Domain{}, err
	}
	d, err := p.view.Domain(ctx, a.Domain)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: domain %s; add it with: mailsrv domain add %s", ErrNotFound, a.Domain, a.Domain)
	}
	return a, d, err
}

// AddGroup makes a group at address. Members that are users or groups of ours
// become DNs, others addresses.
func (p *Provisioner) AddGroup(ctx context.Context, address string, members []string) error {
	a, d, err := p.hosted(ctx, address)
	if err != nil {
		return fmt.Errorf("adding group: %w", err)
	}
	inside, outside, err := p.members(ctx, members)
	if err != nil {
		return fmt.Errorf("adding group %s: %w", address, err)
	}
	cn := strings.ToLower(a.Local)
	return wrap("adding group "+address, p.tree.Add(ctx, entry(d.DN.Child("ou", "Groups").Child("cn", cn),
		attr("objectClass", "groupOfUniqueNames", "inetMailGroup", "inetLocalMailRecipient"),
		attr("cn", cn), attr("mail", cn+"@"+d.Name), attr("inetMailGroupStatus", "active"),
		attr("uniqueMember", inside...), attr("mgrpRFC822MailMember", outside...))))
}

func (p *Provisioner) members(ctx context.Context, members []string) (inside, outside []string, err error) {
	for _, m := range members {
		a, err := mail.ParseAddress(m)
		if err != nil {
			return nil, nil, err
		}
		switch r, d, err := p.view.holder(ctx, a); {
		case err == nil:
			inside = append(inside, r.DN().String())
		case errors.Is(err, ErrNotFound) && (d.Name == "" || d.SmartHost != ""):
			outside = append(outside, a.String())
		default: // also a local part that one of our domains does not have: a slip of the pen
			return nil, nil, fmt.Errorf("member %s: %w", a, err)
		}
	}
	return inside, outside, nil
}

// DN is the recipient's entry.
func (r Recipient) DN() DN {
	if r.User != nil {
		return r.User.DN
	}
	return r.Group.DN
}

// SetPassword replaces a user's password.
func (p *Provisioner) SetPassword(ctx context.Context, login, password string) error {
	if password == "" {
		return fmt.Errorf("%w: an empty password", ErrBadSetting)
	}
	u, err := p.view.User(ctx, login)
	if err != nil {
		return err
	}
	return wrap("setting the password of "+login, p.tree.Modify(ctx, u.DN, []Change{{ReplaceValues, attr("userPassword", password)}}))
}

// DeleteUser, like DeleteGroup, removes the entry and its memberships in groups.
func (p *Provisioner) DeleteUser(ctx context.Context, login string) error {
	u, err := p.view.User(ctx, login)
	if err != nil {
		return err
	}
	return wrap("deleting user "+login, p.remove(ctx, u.DN))
}

// DeleteGroup removes a group.
func (p *Provisioner) DeleteGroup(ctx context.Context, address string) error {
	dn, err := p.find(ctx, KindGroup, address)
	if err != nil {
		return err
	}
	return wrap("deleting group "+address, p.remove(ctx, dn))
}

func (p *Provisioner) remove(ctx context.Context, dn DN) error {
	for e, err := range p.tree.Search(ctx, Query{Base: p.base, Scope: ScopeSubtree, Filter: Equal("uniqueMember", dn.String())}) {
		if err != nil {
			return err
		}
		if err := p.tree.Modify(ctx, e.DN, []Change{{DeleteValues, attr("uniqueMember", dn.String())}}); err != nil {
			return err
		}
	}
	programs, err := appPasswords(ctx, p.tree, dn)
	if err != nil {
		return err
	}
	for _, own := range programs {
		if err := p.tree.Delete(ctx, own.DN); err != nil {
			return err
		}
	}
	return p.tree.Delete(ctx, dn)
}

// DeleteDomain removes a domain that has no users and groups left.
func (p *Provisioner) DeleteDomain(ctx context.Context, name string) error {
	d, err := p.Domain(ctx, name)
	if err != nil {
		return err
	}
	if !strings.EqualFold(d.Name, name) { // an alias must not take the domain with it
		return fmt.Errorf("%w: %s is an alias of domain %s; delete it with: mailsrv alias delete %s", ErrNotFound, name, d.Name, name)
	}
	for e, err := range p.tree.Search(ctx, Query{Base: d.DN, Scope: ScopeSubtree, Filter: Equal("objectClass", "inetLocalMailRecipient"), SizeLimit: 1}) {
		if err == nil {
			err = &ResultError{Code: NotAllowedOnNonLeaf, Text: fmt.Sprintf("domain %s still has %s", name, e.Value("mail"))}
		}
		return err
	}
	for _, dn := range []DN{d.DN.Child("ou", "People"), d.DN.Child("ou", "Groups"), d.DN} {
		if err := p.tree.Delete(ctx, dn); err != nil && !errors.Is(err, ErrNotFound) {
			return wrap("deleting domain "+name, err)
		}
	}
	return nil
}

// Domain returns the domain of ours that has the name, or of which it is an
// alias.
func (p *Provisioner) Domain(ctx context.Context, name string) (Domain, error) {
	name, err := mail.ParseDomain(name)
	if err != nil {
		return Domain{}, err
	}
	return p.view.Domain(ctx, name)
}

// Domains lists the domains by name.
func (p *Provisioner) Domains(ctx context.Context) ([]Domain, error) {
	var out []Domain
	if m := p.view.o.Mapping; m != nil {
		for _, d := range m.Domains {
			out = append(out, parseDomain(d.entry(p.base)))
		}
		return out, nil
	}
	for e, err := range p.tree.Search(ctx, Query{Base: p.base, Scope: ScopeSubtree, Filter: Equal("objectClass", "mailDomain")}) {
		if err != nil {
			return nil, fmt.Errorf("listing domains: %w", err)
		}
		out = append(out, parseDomain(e))
	}
	slices.SortFunc(out, func(a, b Domain) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Recipients lists the users and groups of a domain by address, ErrNotFound if
// it is none of ours; of all domains if it is empty.
func (p *Provisioner) Recipients(ctx context.Context, domain string) ([]Recipient, error) {
	var domains []Domain
	var err error
	if domain == "" {
		domains, err = p.Domains(ctx)
	} else {
		var d Domain
		d, err = p.Domain(ctx, domain)
		domains = []Domain{d}
	}
	if err != nil {
		return nil, err
	}
	var out []Recipient
	if p.view.o.Mapping != nil {
		return p.view.mappedRecipients(ctx, domain)
	}
	for _, d := range domains {
		for e, err := range p.tree.Search(ctx, Query{Base: d.DN, Scope: ScopeSubtree, Filter: Equal("objectClass", "inetLocalMailRecipient")}) {
			if err != nil {
				return nil, fmt.Errorf("listing recipients: %w", err)
			}
			if r, err := parseRecipient(e, d); err == nil {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b Recipient) int { return cmp.Compare(a.Address().String(), b.Address().String()) })
	return out, nil
}

// Recipient returns the user or group that has the very address.
func (p *Provisioner) Recipient(ctx context.Context, a mail.Address) (Recipient, error) {
	r, _, err := p.view.holder(ctx, a)
	return r, wrap("looking up "+a.String(), err)
}

// Address is the recipient's canonical address.
func (r Recipient) Address() mail.Address {
	if r.User != nil {
		return r.User.Mail
	}
	return r.Group.Mail
}

func wrap(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
