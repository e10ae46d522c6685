package schema

import (
	"fmt"
	"strings"
)

// Rule is a matching rule (RFC 4517 §4). Two values match if their normal forms
// are the same; what is less sorts before.
type Rule struct {
	OID, Name, Syntax string

	normal func(s *Schema, v string) string
	// fold is the normal form of a part of a value; nil: parts are octets.
	fold func(string) string
}

// Normal is the form under which the rule compares v.
func (r *Rule) Normal(s *Schema, v string) string { return r.normal(s, v) }

func (r *Rule) part(v string) string {
	if r.fold == nil {
		return v
	}
	return r.fold(v)
}

// String writes the description as RFC 4512 §4.1.3 has it.
func (r *Rule) String() string {
	w := define(r.OID)
	w.names([]string{r.Name})
	w.word("SYNTAX", r.Syntax)
	return w.end()
}

// rules are those of RFC 4517 §4.2 and RFC 4530, as far as attributes use them.
func rules() []Rule {
	plain := func(f func(string) string) func(*Schema, string) string {
		return func(_ *Schema, v string) string { return f(v) }
	}
	ignore, exact, octets := plain(Fold), plain(foldSpace), plain(func(v string) string { return v })
	number, phone := plain(foldNumeric), plain(foldPhone)
	list := []Rule{
		{"2.5.13.0", "objectIdentifierMatch", "38", normalOID, nil},
		{"2.5.13.1", "distinguishedNameMatch", "12", normalDN, nil},
		{"2.5.13.2", "caseIgnoreMatch", "15", ignore, foldPart},
		{"2.5.13.3", "caseIgnoreOrderingMatch", "15", ignore, foldPart},
		{"2.5.13.4", "caseIgnoreSubstringsMatch", "58", ignore, foldPart},
		{"2.5.13.5", "caseExactMatch", "15", exact, nil},
		{"2.5.13.6", "caseExactOrderingMatch", "15", exact, nil},
		{"2.5.13.7", "caseExactSubstringsMatch", "58", exact, nil},
		{"2.5.13.8", "numericStringMatch", "36", number, foldNumeric},
		{"2.5.13.9", "numericStringOrderingMatch", "36", number, foldNumeric},
		{"2.5.13.10", "numericStringSubstringsMatch", "58", number, foldNumeric},
		{"2.5.13.11", "caseIgnoreListMatch", "41", ignore, foldPart},
		{"2.5.13.12", "caseIgnoreListSubstringsMatch", "58", ignore, foldPart},
		{"2.5.13.13", "booleanMatch", "7", ignore, nil},
		{"2.5.13.14", "integerMatch", "27", plain(sortableInteger), nil},
		{"2.5.13.15", "integerOrderingMatch", "27", plain(sortableInteger), nil},
		{"2.5.13.16", "bitStringMatch", "6", octets, nil},
		{"2.5.13.17", "octetStringMatch", "40", octets, nil},
		{"2.5.13.18", "octetStringOrderingMatch", "40", octets, nil},
		{"2.5.13.19", "octetStringSubstringsMatch", "40", octets, nil},
		{"2.5.13.20", "telephoneNumberMatch", "50", phone, foldPhone},
		{"2.5.13.21", "telephoneNumberSubstringsMatch", "58", phone, foldPhone},
		{"2.5.13.23", "uniqueMemberMatch", "34", normalNameAndUID, nil},
		{"2.5.13.27", "generalizedTimeMatch", "24", plain(sortableTime), nil},
		{"2.5.13.28", "generalizedTimeOrderingMatch", "24", plain(sortableTime), nil},
		{"2.5.13.29", "integerFirstComponentMatch", "27", ignore, nil},
		{"2.5.13.30", "objectIdentifierFirstComponentMatch", "38", plain(firstComponent), nil},
		{"1.3.6.1.4.1.1466.109.114.1", "caseExactIA5Match", "26", exact, nil},
		{"1.3.6.1.4.1.1466.109.114.2", "caseIgnoreIA5Match", "26", ignore, foldPart},
		{"1.3.6.1.4.1.1466.109.114.3", "caseIgnoreIA5SubstringsMatch", "58", ignore, foldPart},
		{"1.3.6.1.4.1.4203.1.2.1", "caseExactIA5SubstringsMatch", "26", exact, nil},
		{"2.5.13.34", "certificateExactMatch", "8", octets, nil},
		{"2.5.13.38", "certificateListExactMatch", "9", octets, nil},
	}
	for i := range list {
		list[i].Syntax = syntaxArc + list[i].Syntax
	}
	return append(list,
		Rule{"1.3.6.1.1.16.2", "UUIDMatch", "1.3.6.1.1.16.1", ignore, nil},
		Rule{"1.3.6.1.1.16.3", "UUIDOrderingMatch", "1.3.6.1.1.16.1", ignore, nil},
	)
}

// normalOID is one form for all names of a class or a type.
func normalOID(s *Schema, v string) string {
	if c := s.Class(v); c != nil {
		return strings.ToLower(c.Name())
	}
	if a := s.Attribute(v); a != nil {
		return a.key
	}
	return Fold(v)
}

func normalDN(s *Schema, v string) string {
	dn, err := ParseDN(v)
	if err != nil {
		return Fold(v)
	}
	return s.NormalDN(dn)
}

func normalNameAndUID(s *Schema, v string) string {
	dn, uid := cutUID(v)
	if n := normalDN(s, dn); uid == "" {
		return n
	} else {
		return n + "#" + uid
	}
}

// NormalDN is dn's Normal with one name for each attribute type.
func (s *Schema) NormalDN(dn DN) string {
	var b strings.Builder
	for i, rdn := range dn.RDNs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s.NormalRDN(rdn))
	}
	return b.String()
}

// NormalRDN is rdn's Normal with one name for each attribute type.
func (s *Schema) NormalRDN(rdn RDN) string {
	for i, av := range rdn {
		if a := s.Attribute(av.Name); a != nil && a.Name() != av.Name {
			out := append(RDN(nil), rdn...)
			for j := i; j < len(out); j++ {
				if a := s.Attribute(out[j].Name); a != nil {
					out[j].Name = a.Name()
				}
			}
			return out.Normal()
		}
	}
	return rdn.Normal()
}

// sortableInteger is the sign, the number of digits and the digits; of a
// negative number all complemented, so that text sorts as numbers do.
func sortableInteger(v string) string {
	v = strings.TrimSpace(v)
	if !isInteger(v) {
		return Fold(v)
	}
	digits, negative := strings.CutPrefix(v, "-")
	out := fmt.Sprintf("1%04d%s", len(digits), digits)
	if negative {
		return strings.Map(func(r rune) rune { return '0' + '9' - r }, "9"+out[1:])
	}
	return out
}

func sortableTime(v string) string {
	t, ok := parseTime(v)
	if !ok {
		return Fold(v)
	}
	return t.Format("20060102150405.000000000Z")
}

func foldNumeric(v string) string { return strings.ReplaceAll(v, " ", "") }

func foldPhone(v string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(v))
}

// firstComponent is the OID of a definition.
func firstComponent(v string) string {
	if d, err := parseDefinition(v); err == nil {
		return d.oid
	}
	return Fold(v)
}
