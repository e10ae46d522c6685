package directory

import (
	"net/netip"
	"testing"
)

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		rules   string
		service Service
		from    string
		want    bool
	}{
		{"", ServiceIMAP, "192.0.2.1", true},
		{"+imap:*", ServiceIMAP, "192.0.2.1", true},
		{"+imap:*", ServicePOP3, "192.0.2.1", false},
		{"-imap:*", ServicePOP3, "192.0.2.1", true},
		{"-imap:*", ServiceIMAP, "192.0.2.1", false},
		{"+imaps,pops:*$+imap,pop:192.0.2.7", ServiceIMAP, "192.0.2.7", true},
		{"+imaps,pops:*$+imap,pop:192.0.2.7", ServiceIMAP, "192.0.2.8", false},
		{"+imaps,pops:*$+imap,pop:192.0.2.7", ServiceIMAPS, "192.0.2.8", true},
		{"+ALL:192.0.2.0/24 EXCEPT 192.0.2.9", ServiceSMTP, "192.0.2.8", true},
		{"+ALL:192.0.2.0/24 EXCEPT 192.0.2.9", ServiceSMTP, "192.0.2.9", false},
		{"+ALL:192.0.2.", ServiceSMTP, "192.0.2.9", true},
		{"+ALL:LOCAL", ServiceIMAP, "::1", true},
		{"-ALL:10.0.0.0/8$+imap:10.1.1.1", ServiceIMAP, "10.1.1.1", true},
		{"nonsense", ServiceIMAP, "192.0.2.1", false},
		{"+ALL:ALL EXCEPT 192.0.2.0/24 EXCEPT 192.0.2.9", ServiceIMAP, "192.0.2.9", true},
		{"+ALL:ALL EXCEPT 192.0.2.0/24 except 192.0.2.9", ServiceIMAP, "192.0.2.8", false},
		{"+ALL EXCEPT pop,pops:*", ServicePOP3S, "192.0.2.1", false},
		{"+ALL EXCEPT pop,pops:*", ServiceIMAPS, "192.0.2.1", true},
		{"+imap:192.0.2.0/255.255.255.0", ServiceIMAP, "192.0.2.1", true},
		{"+imap:192.0.2.0/255.255.255.0", ServiceIMAP, "192.0.3.1", false},
		{"+imap:192.0.2.0/255.0.255.0", ServiceIMAP, "192.0.2.1", false},
		{"+imap:2001:db8::/32,192.0.2.1", ServiceIMAP, "2001:db8::7", true},
		{"+imap:[2001:db8::]/32", ServiceIMAP, "2001:db9::7", false},
		{"+imap:192.0.2.1", ServiceIMAP, "::ffff:192.0.2.1", true},
		{"+imap:KNOWN", ServiceIMAP, "192.0.2.1", false},
		{"-imap:UNKNOWN", ServiceIMAP, "192.0.2.1", false},
		{"-ALL:DNSSPOOFER", ServiceIMAP, "192.0.2.1", true},
		{"-ALL:.example.com", ServiceIMAP, "192.0.2.1", false},
		{"+ALL:.example.com", ServiceIMAP, "192.0.2.1", false},
		{"$+imap:*$", ServiceIMAP, "192.0.2.1", true},
	} {
		u := User{ServiceAccess: [2]string{c.rules, ""}}
		if got := u.Allows(c.service, netip.MustParseAddr(c.from)); got != c.want {
			t.Errorf("%q, %s from %s: %v, want %v", c.rules, c.service, c.from, got, c.want)
		}
	}
}

// TestAccess: who reads and writes what, by the default rules.
func TestAccess(t *testing.T) {
	admin, service := MustParseDN("cn=admin,o=mail"), MustParseDN("cn=mta,o=mail")
	domain := MustParseDN("o=x,o=mail")
	alice, bob := MustParseDN("uid=alice,ou=People,o=x,o=mail"), MustParseDN("uid=bob,ou=People,o=x,o=mail")
	phone, carol := MustParseDN("cn=phone,uid=alice,ou=People,o=x,o=mail"), MustParseDN("uid=carol,ou=People,o=y,o=mail")
	a := Access{Admins: []DN{admin}, Services: []DN{service}, Rules: DefaultRules("vacationStartDate")}
	chief := Subject{DN: alice, Domains: []DN{domain}}
	for _, c := range []struct {
		who         Subject
		dn          DN
		attr        string
		read, write bool
	}{
		{Subject{DN: admin}, bob, "mailQuota", true, true},
		{Subject{DN: admin}, bob, "userPassword", false, true},
		{Subject{DN: admin}, bob, "authPassword", true, false},
		{Subject{DN: service}, bob, "mailQuota", true, false},
		{Subject{DN: service}, bob, "userPassword", false, false},
		{Subject{DN: service}, bob, "authPassword", true, false},
		{Subject{DN: service}, phone, "mailsrvLastUse", true, true},
		{Subject{DN: service}, service, "userPassword", false, false},
		{Subject{DN: alice}, alice, "mailQuota", true, false},
		{Subject{DN: alice}, alice, "userPassword", false, true},
		{Subject{DN: alice}, alice, "authPassword", false, false},
		{Subject{DN: alice}, alice, "vacationStartDate", true, true},
		{Subject{DN: alice}, alice, "", true, false},
		{Subject{DN: alice}, phone, "mailsrvService", true, false},
		{Subject{DN: alice}, bob, "mail", true, false},
		{Subject{DN: alice}, bob, "mailQuota", false, false},
		{Subject{DN: alice}, bob, "userPassword", false, false},
		{Subject{DN: alice}, bob, "vacationStartDate", false, false},
		{Subject{DN: alice}, bob, "", true, false},
		{chief, bob, "mailQuota", true, true},
		{chief, bob, "", true, true},
		{chief, bob, "userPassword", false, true},
		{chief, bob, "authPassword", false, false},
		{chief, domain, "mailDomainStatus", false, false},
		{chief, domain, "", true, false},
		{chief, carol, "mailQuota", false, false},
		{chief, carol, "", true, false},
		{Subject{}, bob, "mail", false, false},
		{Subject{}, DN{}, "", false, false},
	} {
		if r, w := a.MayRead(c.who, c.dn, c.attr), a.MayWrite(c.who, c.dn, c.attr); r != c.read || w != c.write {
			t.Errorf("%s on %q of %s: read %v, write %v", c.who.DN, c.attr, c.dn, r, w)
		}
	}
	open := a
	open.Rules = append(open.Rules, AnonymousRule())
	if a.Anonymous() || !open.Anonymous() {
		t.Error("who may read without a bind is not known")
	}
	for attr, want := range map[string]bool{"": true, "mail": true, "cn": true, "mailQuota": false, "userPassword": false, "authPassword": false, "mailAlternateAddress": false} {
		if r := open.MayRead(Subject{}, bob, attr); r != want || open.MayWrite(Subject{}, bob, attr) {
			t.Errorf("nobody reads %q: %v, want %v", attr, r, want)
		}
	}
}

func TestEffectiveStatus(t *testing.T) {
	for _, c := range []struct {
		domain, inet, user string
		want               Status
	}{
		{"", "", "", Active}, {"active", "active", "hold", Hold}, {"disabled", "deleted", "hold", Disabled},
		{"", "inactive", "deleted", Inactive}, {"", "bogus", "", Inactive}, {"", "", "OverQuota", OverQuota},
	} {
		if got := effective(parseStatus(c.domain), parseStatus(c.inet), parseStatus(c.user)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestQuota(t *testing.T) {
	for in, want := range map[string]int64{"": QuotaDefault, "-2": QuotaDefault, "-1": QuotaUnlimited, "0": 0, "100": 100, "2M": 2 << 20, "1g": 1 << 30, "x": QuotaDefault, "-7": QuotaDefault} {
		if got := parseQuota(in); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}
