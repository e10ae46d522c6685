package schema

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Syntaxes that the code names itself.
const (
	syntaxArc   = "1.3.6.1.4.1.1466.115.121.1."
	dnSyntax    = syntaxArc + "12"
	nameAndUID  = syntaxArc + "34"
	octetString = syntaxArc + "40"
)

// Syntax is the form of an attribute's values (RFC 4517 §3).
type Syntax struct {
	OID, Desc string
	valid     func(string) bool
	// text: parts of values can be looked for.
	text bool
}

// String writes the description as RFC 4512 §4.1.5 has it.
func (x *Syntax) String() string {
	w := define(x.OID)
	w.text("DESC", x.Desc)
	return w.end()
}

// syntaxes are those of RFC 4517 §3.3, RFC 2307, RFC 4523 and RFC 4530. The
// forms of those that only other directories look into are not checked.
func syntaxes() []Syntax {
	list := []Syntax{
		{"3", "Attribute Type Description", isDefinition, false},
		{"4", "Audio", anything, false},
		{"5", "Binary", anything, false},
		{"6", "Bit String", isBitString, false},
		{"7", "Boolean", func(v string) bool { return v == "TRUE" || v == "FALSE" }, false},
		{"8", "Certificate", anything, false},
		{"9", "Certificate List", anything, false},
		{"10", "Certificate Pair", anything, false},
		{"11", "Country String", func(v string) bool { return len(v) == 2 && isPrintable(v) }, true},
		{"12", "DN", isDN, false},
		{"14", "Delivery Method", isPrintableDollar, false},
		{"15", "Directory String", utf8.ValidString, true},
		{"16", "DIT Content Rule Description", isDefinition, false},
		{"17", "DIT Structure Rule Description", isDefinition, false},
		{"21", "Enhanced Guide", anything, false},
		{"22", "Facsimile Telephone Number", isPrintableDollar, true},
		{"23", "Fax", anything, false},
		{"24", "Generalized Time", func(v string) bool { _, ok := parseTime(v); return ok }, false},
		{"25", "Guide", anything, false},
		{"26", "IA5 String", isASCII, true},
		{"27", "INTEGER", isInteger, false},
		{"28", "JPEG", anything, false},
		{"30", "Matching Rule Description", isDefinition, false},
		{"31", "Matching Rule Use Description", isDefinition, false},
		{"34", "Name And Optional UID", isNameAndUID, false},
		{"35", "Name Form Description", isDefinition, false},
		{"36", "Numeric String", func(v string) bool { return strings.Trim(v, "0123456789 ") == "" }, true},
		{"37", "Object Class Description", isDefinition, false},
		{"38", "OID", func(v string) bool { return isOID(v) || isDescriptor(v) }, false},
		{"39", "Other Mailbox", isASCII, true},
		{"40", "Octet String", anything, false},
		{"41", "Postal Address", utf8.ValidString, true},
		{"43", "Presentation Address", utf8.ValidString, false},
		{"44", "Printable String", isPrintable, true},
		{"45", "Subtree Specification", utf8.ValidString, false},
		{"49", "Supported Algorithm", anything, false},
		{"50", "Telephone Number", isPrintable, true},
		{"51", "Teletex Terminal Identifier", isASCII, false},
		{"52", "Telex Number", isPrintableDollar, false},
		{"53", "UTC Time", isPrintable, false},
		{"54", "LDAP Syntax Description", isDefinition, false},
		{"58", "Substring Assertion", utf8.ValidString, false},
	}
	for i := range list {
		list[i].OID = syntaxArc + list[i].OID
	}
	return append(list,
		Syntax{"1.3.6.1.1.1.0.0", "RFC2307 NIS Netgroup Triple", isASCII, false},
		Syntax{"1.3.6.1.1.1.0.1", "RFC2307 Boot Parameter", isASCII, false},
		Syntax{"1.3.6.1.1.16.1", "UUID", isUUID, false},
	)
}

func anything(string) bool { return true }

func isDefinition(v string) bool {
	_, err := parseDefinition(v)
	return err == nil
}

func isASCII(v string) bool {
	for i := range len(v) {
		if v[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isPrintable is RFC 4517 §3.2's PrintableCharacter, more than once.
func isPrintable(v string) bool {
	for _, c := range []byte(v) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("'()+,-./:? =", c) >= 0) {
			return false
		}
	}
	return true
}

func isPrintableDollar(v string) bool { return isPrintable(strings.ReplaceAll(v, "$", "")) }

func isBitString(v string) bool {
	bits, ok := strings.CutPrefix(v, "'")
	bits, ok2 := strings.CutSuffix(bits, "'B")
	return ok && ok2 && strings.Trim(bits, "01") == ""
}

func isDN(v string) bool {
	_, err := ParseDN(v)
	return err == nil
}

func isNameAndUID(v string) bool {
	dn, _ := cutUID(v)
	return isDN(dn)
}

// cutUID parts "DN#'bits'B"; the second is empty if there is none.
func cutUID(v string) (dn, uid string) {
	if i := strings.LastIndexByte(v, '#'); i >= 0 && isBitString(v[i+1:]) {
		return v[:i], v[i+1:]
	}
	return v, ""
}

func isInteger(v string) bool {
	digits := strings.TrimPrefix(v, "-")
	return digits != "" && strings.Trim(digits, "0123456789") == "" && (digits[0] != '0' || v == "0") && len(digits) <= 1000
}

// isUUID is RFC 4530 §2.1.
func isUUID(v string) bool {
	if len(v) != 36 {
		return false
	}
	for i, c := range []byte(strings.ToLower(v)) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && strings.IndexByte("0123456789abcdef", c) < 0 {
			return false
		}
	}
	return true
}

// parseTime reads a GeneralizedTime (RFC 4517 §3.3.13): minutes, seconds and a
// fraction of the last of them may be left out, the zone not.
func parseTime(v string) (time.Time, bool) {
	digits := 0
	for digits < len(v) && v[digits] >= '0' && v[digits] <= '9' {
		digits++
	}
	layouts := map[int]string{10: "2006010215", 12: "200601021504", 14: "20060102150405"}
	units := map[int]time.Duration{10: time.Hour, 12: time.Minute, 14: time.Second}
	layout, ok := layouts[digits]
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, v[:digits])
	if err != nil {
		return time.Time{}, false
	}
	rest := v[digits:]
	if rest != "" && (rest[0] == '.' || rest[0] == ',') {
		n, scale := 0.0, 1.0
		i := 1
		for ; i < len(rest) && i <= 9 && rest[i] >= '0' && rest[i] <= '9'; i++ {
			scale /= 10
			n += float64(rest[i]-'0') * scale
		}
		if i == 1 {
			return time.Time{}, false
		}
		t, rest = t.Add(time.Duration(n*float64(units[digits]))), rest[i:]
	}
	if rest == "Z" {
		return t, true
	}
	if len(rest) == 3 {
		rest += "00"
	}
	zone, err := time.Parse("-0700", rest)
	if err != nil {
		return time.Time{}, false
	}
	_, offset := zone.Zone()
	return t.Add(-time.Duration(offset) * time.Second), true
}
