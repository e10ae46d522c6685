package directory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"mailsrv/pkg/mail"
)

// ViewOptions says where a View looks.
type ViewOptions struct {
	// Base is the entry below which the domains are.
	Base DN
	// DefaultDomain completes a login without a domain; empty: the uid must be
	// unique over all domains.
	DefaultDomain string
	// FailoverHosts are the attributes, in that order, with the hosts that serve
	// a user whose mailHost cannot be reached; nil: none.
	FailoverHosts []string
	// MailHost is the mail host that a Provisioner gives to domains for which
	// none is named.
	MailHost string
	// Mapping is for a directory that has not our schema; nil: it has.
	Mapping *Mapping
	// Compare checks passwords here, against userPassword, which the one who asks
	// may read; else it is a bind that proves them.
	Compare bool
}

// View is the mail view over any Tree. It may be used from many goroutines. It keeps
// nothing, but of a Versioned tree what cannot have changed.
type View struct {
	tree Tree
	o    ViewOptions
	// hashes bounds the password hashes at work: each takes a core and much memory.
	hashes chan struct{}
	memo   memo
}

var _ Directory = (*View)(nil)

// NewView returns the mail view of tree.
func NewView(tree Tree, o ViewOptions) *View {
	if o.Mapping != nil && o.DefaultDomain == "" && len(o.Mapping.Domains) > 0 {
		o.DefaultDomain = o.Mapping.Domains[0].Name
	}
	v := &View{tree: tree, o: o, hashes: make(chan struct{}, runtime.GOMAXPROCS(0))}
	v.memo.tree, _ = tree.(Versioned)
	return v
}

// one returns the one entry of a search; ErrNotFound, ErrAmbiguous.
func (v *View) one(ctx context.Context, q Query) (Entry, error) {
	var found Entry
	n := 0
	q.SizeLimit = 2
	for e, err := range v.tree.Search(ctx, q) {
		if err != nil {
			if r, ok := errors.AsType[*ResultError](err); ok && r.Code == SizeLimitExceeded {
				break
			}
			return Entry{}, outage(err)
		}
		if n++; n == 1 {
			found = e
		}
	}
	switch n {
	case 0:
		return Entry{}, ErrNotFound
	case 1:
		return found, nil
	}
	return Entry{}, fmt.Errorf("%w: below %s", ErrAmbiguous, q.Base)
}

// outage makes every error that is no clear "no" an outage.
func outage(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// Domain implements Directory.
func (v *View) Domain(ctx context.Context, name string) (Domain, error) {
	return v.domain(ctx, name, true)
}

func (v *View) askDomain(ctx context.Context, name string, routing bool) (Domain, error) {
	if name == "" {
		return Domain{}, ErrNotFound
	}
	if v.o.Mapping != nil {
		return v.mappedDomain(name)
	}
	e, err := v.one(ctx, Query{Base: v.o.Base, Scope: ScopeSubtree, Routing: routing, Filter: AllOf(
		Equal("objectClass", "mailDomain"),
		AnyOf(Equal("sunPreferredDomain", name), Equal("associatedDomain", name), Equal("o", name)),
	)})
	if err != nil {
		return Domain{}, fmt.Errorf("looking up domain %s: %w", name, err)
	}
	return parseDomain(e), nil
}

func parseDomain(e Entry) Domain {
	d := Domain{
		DN: e.DN, Entry: e,
		Name:          strings.ToLower(firstOf(e.Value("sunPreferredDomain"), e.Value("o"))),
		Aliases:       lower(e.Values("associatedDomain")),
		Status:        effective(parseStatus(e.Value("inetDomainStatus")), parseStatus(e.Value("mailDomainStatus"))),
		SmartHost:     e.Value("mailRoutingSmartHost"),
		Quota:         parseQuota(e.Value("mailQuota")),
		MessageQuota:  parseQuota(e.Value("mailMsgQuota")),
		RoutingHosts:  e.Values("mailRoutingHosts"),
		MailHost:      strings.ToLower(e.Value("preferredMailHost")),
		ServiceAccess: e.Value("mailDomainAllowedServiceAccess"),
		Replay:        Replay{Password: strings.EqualFold(e.Value("mailAccessProxyPreAuth"), "no"), Login: e.Value("mailAccessProxyReplay")},
	}
	d.CatchAll, _ = mail.ParseAddress(e.Value("mailDomainCatchallAddress"))
	return d
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (v *View) askRecipient(ctx context.Context, a mail.Address) (Recipient, error) {
	r, d, err := v.holder(ctx, a)
	if errors.Is(err, ErrNotFound) && d.Name != "" {
		r, err = v.byAddress(ctx, d, "@"+d.Name, "@"+a.Domain)
	}
	if err != nil {
		return Recipient{}, fmt.Errorf("looking up %s: %w", a, err)
	}
	return r, nil
}

// holder returns the user or group that has the very address, not one that
// takes everything at its domain, and the domain. On ErrNotFound the domain is
// zero unless it is ours.
func (v *View) holder(ctx context.Context, a mail.Address) (Recipient, Domain, error) {
	d, err := v.domain(ctx, a.Domain, true)
	if err != nil {
		return Recipient{}, Domain{}, err
	}
	r, err := v.byAddress(ctx, d, mail.Address{Local: a.Local, Domain: d.Name}.String(), a.String())
	return r, d, err
}

// byAddress finds the user or group that has one of the addresses.
func (v *View) byAddress(ctx context.Context, d Domain, addresses ...string) (Recipient, error) {
	if v.o.Mapping != nil {
		return v.mappedRecipient(ctx, d, addresses)
	}
	var or []Filter
	for i, a := range addresses {
		if i > 0 && a == addresses[0] {
			continue
		}
		or = append(or, Equal("mail", a), Equal("mailAlternateAddress", a), Equal("mailEquivalentAddress", a))
	}
	e, err := v.one(ctx, Query{Base: d.DN, Scope: ScopeSubtree, Routing: true, Filter: AllOf(Equal("objectClass", "inetLocalMailRecipient"), AnyOf(or...))})
	if err != nil {
		return Recipient{}, err
	}
	return parseRecipient(e, d)
}

// Member implements Directory.
func (v *View) Member(ctx context.Context, dn DN) (Recipient, error) {
	if v.o.Mapping != nil {
		return v.mappedMember(ctx, dn)
	}
	e, err := v.one(ctx, Query{Base: dn, Scope: ScopeBase, Routing: true})
	if err != nil {
		return Recipient{}, fmt.Errorf("looking up %s: %w", dn, err)
	}
	d, err := v.domainAbove(ctx, dn)
	if err != nil {
		return Recipient{}, err
	}
	return parseRecipient(e, d)
}

// domainAbove returns the domain whose node dn lies under.
func (v *View) domainAbove(ctx context.Context, dn DN) (Domain, error) {
	for p := dn.Parent(); !p.IsRoot() && p.Under(v.o.Base); p = p.Parent() {
		e, err := v.one(ctx, Query{Base: p, Scope: ScopeBase, Routing: true})
		if err != nil {
			return Domain{}, fmt.Errorf("looking up the domain of %s: %w", dn, err)
		}
		if e.HasClass("mailDomain") {
			return parseDomain(e), nil
		}
	}
	return Domain{}, fmt.Errorf("%w: %s lies under no domain", ErrNotFound, dn)
}

func (v *View) askUser(ctx context.Context, login string) (User, error) {
	if strings.ContainsFunc(login, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(login) > mail.MaxPath {
		return User{}, ErrNotFound
	}
	local, domain := login, v.o.DefaultDomain
	if i := strings.LastIndexByte(login, '@'); i >= 0 {
		var err error
		if local = login[:i]; local == "" {
			return User{}, ErrNotFound
		}
		if domain, err = mail.ParseDomain(login[i+1:]); err != nil {
			return User{}, ErrNotFound
		}
	}
	if local == "" || domain == "" {
		return User{}, ErrNotFound
	}
	d, err := v.domain(ctx, domain, false)
	if err != nil {
		return User{}, err
	}
	canonical, given := local+"@"+d.Name, local+"@"+domain
	if v.o.Mapping != nil {
		return v.mappedUser(ctx, d, local, canonical, given)
	}
	e, err := v.one(ctx, Query{Base: d.DN, Scope: ScopeSubtree, Filter: AllOf(Equal("objectClass", "inetMailUser"), AnyOf(
		Equal("uid", local),
		Equal("mail", canonical), Equal("mailAlternateAddress", canonical), Equal("mailEquivalentAddress", canonical),
		Equal("mail", given), Equal("mailAlternateAddress", given)))})
	if err != nil {
		return User{}, fmt.Errorf("looking up login %q: %w", login, err)
	}
	return v.user(e, d), nil
}

func (v *View) user(e Entry, d Domain) User {
	u := parseUser(e, d)
	for _, attribute := range v.o.FailoverHosts {
		u.FailoverHosts = append(u.FailoverHosts, lower(e.Values(attribute))...)
	}
	return u
}

// Verify implements Directory.
func (v *View) Verify(ctx context.Context, login, password string) (User, error) {
	if password == "" {
		return User{}, ErrBadCredentials
	}
	u, err := v.User(ctx, login)
	dn := u.DN
	if errors.Is(err, ErrNotFound) {
		// A bind that cannot succeed costs what a wrong password does.
		dn = v.o.Base.Child("uid", "nobody")
	} else if err != nil {
		return User{}, err
	}
	if bindErr := v.prove(ctx, dn, password); bindErr != nil {
		if errors.Is(bindErr, ErrBadCredentials) {
			return User{}, ErrBadCredentials
		}
		return User{}, outage(bindErr)
	}
	if err != nil {
		return User{}, ErrBadCredentials
	}
	return u, nil
}

func parseRecipient(e Entry, d Domain) (Recipient, error) {
	switch {
	case !e.HasClass("inetLocalMailRecipient"):
	case e.HasClass("inetMailGroup"):
		g := parseGroup(e, d)
		return Recipient{Group: &g}, nil
	case e.HasClass("inetMailUser"):
		u := parseUser(e, d)
		return Recipient{User: &u}, nil
	}
	return Recipient{}, fmt.Errorf("%w: %s is neither user nor group", ErrNotFound, e.DN)
}

func parseUser(e Entry, d Domain) User {
	u := User{
		DN: e.DN, UID: strings.ToLower(e.Value("uid")), Domain: d.Name, Name: e.Value("cn"),
		Entry: e.without("userPassword"), DomainFact: d.About(AboutStatus),
		Programs: e.Values("mailProgramDeliveryInfo"), AutoReply: parseAutoReply(e),
		Defer:           strings.EqualFold(e.Value("mailDeferProcessing"), "yes"),
		Alternates:      addresses(e.Values("mailAlternateAddress")),
		Equivalents:     addresses(e.Values("mailEquivalentAddress")),
		Status:          effective(d.Status, parseStatus(e.Value("inetUserStatus")), parseStatus(e.Value("mailUserStatus"))),
		MailHost:        strings.ToLower(e.Value("mailHost")),
		MessageStore:    e.Value("mailMessageStore"),
		DeliveryOptions: lower(e.Values("mailDeliveryOption")),
		ForwardTo:       addresses(e.Values("mailForwardingAddress")),
		ACLGroups:       lower(e.Values("aclGroupAddr")),
		Quota:           quotaOr(e.Value("mailQuota"), d.Quota),
		MessageQuota:    quotaOr(e.Value("mailMsgQuota"), d.MessageQuota),
		ServiceAccess:   [2]string{e.Value("mailAllowedServiceAccess"), d.ServiceAccess},
		Replay:          d.Replay,
	}
	u.Mail, _ = mail.ParseAddress(e.Value("mail"))
	u.RoutingAddress, u.RoutingHost = parseRouting(e.Value("mailRoutingAddress"))
	if blocks, err := strconv.ParseInt(e.Value("mailMsgMaxBlocks"), 10, 40); err == nil {
		u.MaxMessage = blocks << 10 // MTA blocks of 1 KiB
	}
	if len(u.DeliveryOptions) == 0 {
		u.DeliveryOptions = []string{"mailbox"}
	}
	return u
}

func parseGroup(e Entry, d Domain) Group {
	g := Group{
		DN: e.DN, Name: e.Value("cn"), Domain: d.Name,
		Entry: e.without("userPassword", "mgrpAuthPassword"), DomainFact: d.About(AboutStatus),
		Status:          effective(d.Status, parseStatus(e.Value("inetMailGroupStatus"))),
		Alternates:      addresses(e.Values("mailAlternateAddress")),
		Equivalents:     addresses(e.Values("mailEquivalentAddress")),
		Searches:        searches(append(slices.Clone(e.Values("memberURL")), e.Values("mgrpDeliverTo")...)),
		Except:          dns(e.Values("mgrpDeliverException")),
		DeliveryOptions: lower(e.Values("mailDeliveryOption")),
		ForwardTo:       addresses(e.Values("mailForwardingAddress")),
		Posting:         parsePosting(e),
		Defer:           !strings.EqualFold(e.Value("mailDeferProcessing"), "no"),
		Edit: Edit{Add: e.Values("mgrpAddHeader"), Remove: e.Values("mgrpRemoveHeader"),
			Prefix: unfoldText(e.Value("mgrpMsgPrefixText")), Suffix: unfoldText(e.Value("mgrpMsgSuffixText"))},
		Members:  dns(e.Values("uniqueMember")),
		External: addresses(e.Values("mgrpRFC822MailMember")),
		MailHost: strings.ToLower(e.Value("mailHost")),
		Owners:   dns(e.Values("owner")),
	}
	g.Mail, _ = mail.ParseAddress(e.Value("mail"))
	g.ErrorsTo, _ = mail.ParseAddress(strings.TrimPrefix(e.Value("mgrpErrorsTo"), "mailto:"))
	g.MaxMessage, _ = strconv.ParseInt(e.Value("mgrpMsgMaxSize"), 10, 64)
	if len(g.DeliveryOptions) == 0 {
		g.DeliveryOptions = []string{"members"}
	}
	return g
}

// searches reads the URLs of a dynamic group; one that is malformed finds nobody.
func searches(values []string) (out []MemberURL) {
	for _, v := range values {
		if u, err := ParseMemberURL(v); err == nil {
			out = append(out, u)
		}
	}
	return out
}

// parseRouting reads an address, or "@host:address".
func parseRouting(v string) (mail.Address, string) {
	var host string
	if rest, ok := strings.CutPrefix(v, "@"); ok {
		host, v, _ = strings.Cut(rest, ":")
	}
	a, err := mail.ParseAddress(v)
	if err != nil {
		return mail.Address{}, ""
	}
	return a, strings.ToLower(host)
}

// parseQuota reads bytes or messages with K, M or G; absent is the system's default.
func parseQuota(v string) int64 {
	v = strings.ToUpper(strings.TrimSpace(v))
	unit := int64(1)
	if n := len(v) - 1; n >= 0 {
		if i := strings.IndexByte("KMG", v[n]); i >= 0 {
			v, unit = v[:n], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	switch {
	case err != nil || n <= QuotaDefault:
		return QuotaDefault
	case n == QuotaUnlimited:
		return QuotaUnlimited
	case n > math.MaxInt64/unit:
		return math.MaxInt64
	}
	return n * unit
}

// quotaOr is parseQuota, with the domain's for users who have none: what is
// absent or -2.
func quotaOr(v string, domain int64) int64 {
	if q := parseQuota(v); q != QuotaDefault {
		return q
	}
	return domain
}

func addresses(values []string) (out []mail.Address) {
	for _, v := range values {
		if d, ok := strings.CutPrefix(v, "@"); ok {
			out = append(out, mail.Address{Domain: d}) // everything at that domain
		} else if a, err := mail.ParseAddress(v); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func dns(values []string) (out []DN) {
	for _, v := range values {
		if dn, err := ParseDN(v); err == nil {
			out = append(out, dn)
		}
	}
	return out
}

func lower(values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, strings.ToLower(v))
	}
	return out
}
