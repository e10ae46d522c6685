package schema

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPublished: what the subschema tells, a reader of such definitions makes
// the same of.
func TestPublished(t *testing.T) {
	s := load(t)
	var text strings.Builder
	for _, d := range s.AttributeTypes() {
		text.WriteString("attributetype " + d + "\n")
	}
	for _, d := range s.ObjectClasses() {
		text.WriteString("objectclass " + d + "\n")
	}
	again := &Schema{attributes: map[string]*AttributeType{}, classes: map[string]*ObjectClass{}, syntaxes: s.syntaxes, rules: s.rules}
	if err := again.read(File{"published", text.String()}, nil); err != nil {
		t.Fatal(err)
	}
	if err := again.resolve(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.AttributeTypes(), s.AttributeTypes()) || !slices.Equal(again.ObjectClasses(), s.ObjectClasses()) {
		t.Error("definitions came back different")
	}
	for _, d := range append(s.MatchingRules(), s.Syntaxes()...) {
		if _, err := parseDefinition(d); err != nil {
			t.Errorf("%s: %v", d, err)
		}
	}
}

// TestKnown: the attributes and classes of schema.md sections 2 to 4.
func TestKnown(t *testing.T) {
	s := load(t)
	for _, name := range strings.Fields(`uid mail mailAlternateAddress mailEquivalentAddress mailHost mailMessageStore mailRoutingAddress
		mailDeliveryOption mailForwardingAddress mailProgramDeliveryInfo mailSieveRuleSource inetUserStatus mailUserStatus mailQuota
		mailMsgQuota mailAllowedServiceAccess mailAutoReplyMode mailAutoReplySubject mailAutoReplyText mailAutoReplyTextInternal
		mailAutoReplyTimeOut vacationStartDate vacationEndDate mailMsgMaxBlocks mailDeferProcessing mailConversionTag mailAntiUBEService
		aclGroupAddr userPassword preferredLanguage inetDomainStatus mailDomainStatus mailDomainAllowedServiceAccess preferredMailHost
		preferredMailMessageStore mailRoutingHosts mailRoutingSmartHost mailDomainCatchallAddress mailDomainDiskQuota mailDomainMsgQuota
		mailAccessProxyPreAuth mailAccessProxyReplay domainUidSeparator inetMailGroupStatus uniqueMember mgrpRFC822MailMember memberURL
		mgrpDeliverTo mgrpAllowedBroadcaster mgrpDisallowedBroadcaster mgrpAllowedDomain mgrpDisallowedDomain mgrpBroadcasterPolicy
		mgrpAuthPassword mgrpModerator mgrpMsgRejectAction mgrpMsgRejectText mailRejectText mgrpErrorsTo mgrpMsgMaxSize mgrpAddHeader
		mgrpRemoveHeader mgrpMsgPrefixText mgrpMsgSuffixText mgrpNoDuplicateChecks mgrpDeliverException owner inetDomainBaseDN
		mailDomainReportAddress mailDomainSieveRuleSource mailDomainWelcomeMessage sunPreferredDomain associatedDomain
		sunNameSpaceUniqueAttrs inetCoS memberOfPAB maxPabEntries pabURI dataSource memberOf aliasedObjectName nsNumUsers nsMaxUsers
		uidNumber gidNumber memberUid homeDirectory telephoneNumber jpegPhoto`) {
		if s.Attribute(name) == nil {
			t.Errorf("attribute %s is not known", name)
		}
	}
	for _, name := range strings.Fields(`inetUser inetMailUser inetLocalMailRecipient ipUser inetMailGroup inetMailGroupManagement nsManagedMailList
		inetDomain mailDomain inetDomainAlias sunManagedOrganization sunNameSpace groupOfUniqueNames inetOrgPerson organization domain
		posixAccount posixGroup account alias referral extensibleObject`) {
		if s.Class(name) == nil {
			t.Errorf("object class %s is not known", name)
		}
	}
	if s.Attribute("commonName;lang-de") != s.Attribute("2.5.4.3") || s.Attribute("CN").Key() != "cn" {
		t.Error("names of one attribute lead to several")
	}
	if below := s.Attribute("name").Subtypes(); !slices.Contains(below, s.Attribute("cn")) || !slices.Contains(below, s.Attribute("name")) {
		t.Error("cn is not below name")
	}
}

func TestFiles(t *testing.T) {
	const office = `# what the NAS wants
objectidentifier office 1.3.6.1.4.1.99999
objectIdentifier	officeAttr office:1
attributetype ( officeAttr:1 NAME ( 'shelf' 'officeShelf' )
	DESC 'where it''s not' EQUALITY caseIgnoreMatch
	SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{64} SINGLE-VALUE X-ORIGIN 'us' )
objectclass ( office:2.1 NAME 'officeThing' SUP top AUXILIARY MAY ( shelf $ cn ) )
`
	const config = `dn: cn=nas,cn=schema,cn=config
objectClass: olcSchemaConfig
cn: nas
olcObjectIdentifier: {0}nas 1.3.6.1.4.1.99998
olcAttributeTypes: {0}( nas:1 NAME 'share' SUP na
 me )
olcObjectClasses: {0}( nas:2 NAME 'nasUser' SUP top AUXILIARY MUST share )
`
	dir := t.TempDir()
	for name, text := range map[string]string{"10-office.schema": strings.Replace(office, "it''s", `it\27s`, 1), "20-nas.ldif": config, "core.schema": "attributetype ( 2.5.4.3 NAME 'cn' SUP name )", "README": "?"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := ReadFolder(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	s, err := Load(files...)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.Attribute("officeshelf"); a == nil || !a.Single || a.MaxLength != 64 || a.Desc != "where it's not" || a.OID != "1.3.6.1.4.1.99999.1.1" {
		t.Errorf("%+v", a)
	}
	if c := s.Class("nasUser"); c == nil || len(c.must) != 2 || s.Attribute("share").syntax.OID != syntaxArc+"15" {
		t.Errorf("%+v", c)
	}
}

func TestFaults(t *testing.T) {
	for text, at := range map[string]string{
		"nonsense ( 1.2.3 )": ":1:",
		"# x\n\nattributetype ( 1.2.3 NAME 'x'\n\tSYNTAX )":                                  ":3:",
		"attributetype ( 1.2.3 NAME 'x' ":                                                    ":1:",
		"attributetype ( 1.2.3 NAME 'x' COLOUR 'red' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )": ":1:",
		"attributetype ( nope:3 NAME 'x' )":                                                  ":1:",
		"attributetype ( 1.2.3 NAME 'cn' )":                                                  ":1:",
		"attributetype ( 1.2.3 NAME 'x y' )":                                                 ":1:",
		"attributetype ( 1.2.3 NAME 'x' NAME 'y' )":                                          ":1:",
		"attributetype ( 1.2.3 NAME 'x' )":                                                   "no syntax",
		"attributetype ( 1.2.3 NAME 'x' SUP y )":                                             "not defined",
		"attributetype ( 1.2.3 NAME 'x' SUP x )":                                             "above itself",
		"objectclass ( 1.2.3 NAME 'x' SUP y )":                                               "not defined",
		"objectclass ( 1.2.3 NAME 'x' SUP x )":                                               "above itself",
		"objectclass ( 1.2.3 NAME 'x' MAY y )":                                               "not defined",
		"objectclass ( 1.2.3 NAME 'x' ABSTRACT AUXILIARY )":                                  ":1:",
		"objectidentifier x":                                                                 ":1:",
	} {
		_, err := Load(File{"x.schema", text})
		if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), at) {
			t.Errorf("%q: %v, want %s", text, err, at)
		}
	}
}

func TestSyntaxes(t *testing.T) {
	s := load(t)
	for oid, c := range map[string]struct{ good, bad []string }{
		"7":  {[]string{"TRUE", "FALSE"}, []string{"true", "1", ""}},
		"12": {[]string{"uid=a,o=b", "cn=a+sn=b"}, []string{"a", "=b"}},
		"24": {[]string{"20260102030405Z", "2026010203Z", "202601020304.5+0130", "20260102030405,25-08"}, []string{"20261302030405Z", "20260102030405", "x", "20260102030405.Z"}},
		"26": {[]string{"a", "a@b"}, []string{"ä"}},
		"27": {[]string{"0", "-1", "123456789012345678901234567890"}, []string{"", "01", "-", "1.5", "1e3"}},
		"34": {[]string{"uid=a,o=b", "uid=a,o=b#'0101'B"}, []string{"x#'0'B"}},
		"36": {[]string{"0 1 2"}, []string{"a"}},
		"38": {[]string{"1.2.3", "cn"}, []string{"1..2", "a b"}},
		"50": {[]string{"+49 30 1234-5"}, []string{"ä", "a*b"}},
		"6":  {[]string{"'0101'B", "''B"}, []string{"0101", "'2'B"}},
	} {
		x := s.syntaxes[syntaxArc+oid]
		for _, v := range c.good {
			if !x.valid(v) {
				t.Errorf("%s: %q is refused", x.Desc, v)
			}
		}
		for _, v := range c.bad {
			if x.valid(v) {
				t.Errorf("%s: %q is taken", x.Desc, v)
			}
		}
	}
}

func TestRules(t *testing.T) {
	s := load(t)
	for _, c := range []struct {
		rule, a, b string
		want       bool
	}{
		{"caseIgnoreMatch", " John   Doe ", "john doe", true},
		{"caseIgnoreMatch", "ﬁne STRASSE", "fine strasse", true},
		{"caseIgnoreMatch", "Jörg", "JÖRG", true},
		{"caseExactMatch", "John  Doe", "John Doe", true},
		{"caseExactMatch", "john", "John", false},
		{"telephoneNumberMatch", "+49 30 12-34", "+4930 1234", true},
		{"numericStringMatch", "12 34", "1234", true},
		{"integerMatch", "7", "8", false},
		{"distinguishedNameMatch", "commonName=A, O=b", "cn=a,o=B", true},
		{"distinguishedNameMatch", "cn=a+sn=b,o=c", "SN=B+CN=A,o=c", true},
		{"uniqueMemberMatch", "cn=A,o=b", "CN=a,O=b", true},
		{"uniqueMemberMatch", "cn=A,o=b#'1'B", "CN=a,O=b", false},
		{"objectIdentifierMatch", "2.5.6.6", "PERSON", true},
		{"generalizedTimeMatch", "20260102030405Z", "20260102040405+0100", true},
		{"UUIDMatch", "597AE2F6-16A6-1027-98F4-D28B5365DC14", "597ae2f6-16a6-1027-98f4-d28b5365dc14", true},
		{"octetStringMatch", "a", "A", false},
	} {
		r := s.Rule(c.rule)
		if got := r.Normal(s, c.a) == r.Normal(s, c.b); got != c.want {
			t.Errorf("%s: %q and %q match: %v", c.rule, c.a, c.b, got)
		}
	}
	for rule, sorted := range map[string][]string{
		"integerOrderingMatch":         {"-1000", "-999", "-20", "-3", "0", "5", "10", "999", "1000", "123456789012345678901234567890"},
		"generalizedTimeOrderingMatch": {"20251231235959Z", "20260101010000+0100", "20260101000000.5Z", "202601010001Z"},
		"caseIgnoreOrderingMatch":      {"Ab", "aC", "b"},
	} {
		r := s.Rule(rule)
		normal := make([]string, len(sorted))
		for i, v := range sorted {
			normal[i] = r.Normal(s, v)
		}
		if !slices.IsSorted(normal) {
			t.Errorf("%s: %q sort as %q", rule, sorted, normal)
		}
	}
}

// FuzzFile: no schema file does harm, and what is read can be told again.
func FuzzFile(f *testing.F) {
	f.Add("attributetype ( 1.2.3.4 NAME ( 'x' 'y' ) SUP name SINGLE-VALUE )\nobjectclass ( 1.2.3.5 NAME 'z' SUP top AUXILIARY MAY ( x $ y ) )")
	f.Add("objectidentifier a 1.2.3\nattributetype ( a:1 NAME 'q' DESC 'it\\27s' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15{12} )")
	f.Add("dn: cn=x\nolcAttributeTypes: {0}( 1.2.3.4 NAME 'x' SU\n P name )")
	f.Add("attributetype ( 1.2 NAME 'a' SUP b )\nattributetype ( 1.3 NAME 'b' SUP a )")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Load(File{"fuzz", text})
		if err != nil {
			return
		}
		for _, d := range append(s.AttributeTypes(), s.ObjectClasses()...) {
			if _, err := parseDefinition(d); err != nil {
				t.Errorf("%q is told as %q, which cannot be read: %v", text, d, err)
			}
		}
	})
}
