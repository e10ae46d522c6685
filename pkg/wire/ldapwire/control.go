package ldapwire

// Object identifiers of further controls and extended operations.
const (
	OIDManageDSAIT   = "2.16.840.1.113730.3.4.2"   // RFC 3296 §3
	OIDSubtreeDelete = "1.2.840.113556.1.4.805"    // draft-armijo-ldap-treedelete
	OIDAssertion     = "1.3.6.1.1.12"              // RFC 4528
	OIDPreRead       = "1.3.6.1.1.13.1"            // RFC 4527 §3.1
	OIDPostRead      = "1.3.6.1.1.13.2"            // RFC 4527 §3.2
	OIDProxiedAuthz  = "2.16.840.1.113730.3.4.18"  // RFC 4370
	OIDSort          = "1.2.840.113556.1.4.473"    // RFC 2891 §1.1
	OIDSortResult    = "1.2.840.113556.1.4.474"    // RFC 2891 §1.2
	OIDCancel        = "1.3.6.1.1.8"               // RFC 3909
	OIDPolicy        = "1.3.6.1.4.1.42.2.27.8.5.1" // draft-behera-ldap-password-policy §6
	maxSortKeys      = 8
)

// SortKey is a key of the server-side sorting control (RFC 2891 §1.1). An empty
// Rule is the attribute's own.
type SortKey struct {
	Attribute, Rule string
	Reverse         bool
}

const (
	tagOrderingRule  Tag = 0x80
	tagReverseOrder  Tag = 0x81
	tagSortAttribute Tag = 0x80
)

// DecodeSort reads the value of a sort control; ErrSyntax.
func DecodeSort(value string) ([]SortKey, error) {
	d := decoder{}
	outer := reader{&d, value}
	list := outer.group(tagSequence)
	if n := list.count(); n == 0 || n > maxSortKeys {
		d.fail("%d sort keys", n)
	}
	var keys []SortKey
	for d.err == nil && list.more() {
		in := list.group(tagSequence)
		k := SortKey{Attribute: in.octets(tagOctetString)}
		k.Rule, _ = in.optional(tagOrderingRule)
		if in.peek() == tagReverseOrder {
			k.Reverse = in.boolean(tagReverseOrder)
		}
		keys = append(keys, k)
	}
	return keys, d.err
}

// SortControl asks for a sorted result.
func SortControl(keys []SortKey, critical bool) Control {
	dst, mark := begin(nil, tagSequence)
	for _, k := range keys {
		var key int
		dst, key = begin(dst, tagSequence)
		dst = appendOctets(dst, tagOctetString, k.Attribute)
		dst = appendOptional(dst, tagOrderingRule, k.Rule, k.Rule != "")
		if k.Reverse {
			dst = appendBoolean(dst, tagReverseOrder, true)
		}
		dst = end(dst, key)
	}
	return Control{OID: OIDSort, Critical: critical, Value: string(end(dst, mark)), HasValue: true}
}

// SortResult tells how sorting went, and which attribute could not be sorted by.
func SortResult(code int, attribute string) Control {
	dst, mark := begin(nil, tagSequence)
	dst = appendInteger(dst, tagEnumerated, code)
	dst = appendOptional(dst, tagSortAttribute, attribute, attribute != "")
	return Control{OID: OIDSortResult, Value: string(end(dst, mark)), HasValue: true}
}

// DecodeFilter reads a filter by itself, the value of an assertion control;
// ErrSyntax, ErrTooComplex.
func DecodeFilter(value string) (Filter, error) {
	d := decoder{}
	r := reader{&d, value}
	var f Filter
	r.filter(&f, 0)
	if r.more() {
		d.fail("bytes behind the filter")
	}
	return f, d.err
}

// AssertionControl makes an operation depend on f.
func AssertionControl(f Filter) Control {
	return Control{OID: OIDAssertion, Critical: true, Value: string(appendFilter(nil, &f)), HasValue: true}
}

// DecodeSelection reads the attributes that a pre-read or post-read control
// asks for; ErrSyntax.
func DecodeSelection(value string) ([]string, error) {
	d := decoder{}
	outer := reader{&d, value}
	in := outer.group(tagSequence)
	return in.strings(), d.err
}

// SelectionControl asks for attributes of the entry that an operation changes.
func SelectionControl(oid string, attributes []string) Control {
	dst, mark := begin(nil, tagSequence)
	return Control{OID: oid, Critical: true, Value: string(end(appendStrings(dst, attributes), mark)), HasValue: true}
}

// EntryControl is the answer to a pre-read or post-read control.
func EntryControl(oid string, e *SearchEntry) Control {
	dst, mark := begin(nil, tagSequence)
	dst = appendOctets(dst, tagOctetString, e.DN)
	return Control{OID: oid, Value: string(end(appendAttributes(dst, e.Attributes), mark)), HasValue: true}
}

// DecodeEntry reads the value of an EntryControl; ErrSyntax.
func DecodeEntry(value string) (SearchEntry, error) {
	d := decoder{}
	outer := reader{&d, value}
	in := outer.group(tagSequence)
	return SearchEntry{DN: in.octets(tagOctetString), Attributes: in.attributes()}, d.err
}

// CancelRequest is the request that cancels the operation with that message id.
func CancelRequest(id int) *ExtendedRequest {
	dst, mark := begin(nil, tagSequence)
	return &ExtendedRequest{OID: OIDCancel, Value: string(end(appendInteger(dst, tagInteger, id), mark)), HasValue: true}
}

// DecodeCancel reads the value of a cancel request; ErrSyntax.
func DecodeCancel(value string) (id int, err error) {
	d := decoder{}
	outer := reader{&d, value}
	in := outer.group(tagSequence)
	return in.integer(tagInteger, MaxMessageID), d.err
}

// Policy is what the password policy control tells (draft-behera §6.2). Error is
// one of the constants, or -1, none; ExpiresIn is in seconds, -1: nothing to warn of.
type Policy struct {
	ExpiresIn int
	Error     int
}

// The errors that we have.
const (
	PolicyPasswordExpired   = 0
	PolicyPasswordTooShort  = 6
	PolicyPasswordInHistory = 8
)

const (
	tagPolicyWarning Tag = 0xa0
	tagPolicyError   Tag = 0x81
	tagTimeLeft      Tag = 0x80
)

// Control returns p as a response control.
func (p Policy) Control() Control {
	dst, mark := begin(nil, tagSequence)
	if p.ExpiresIn >= 0 {
		var warning int
		dst, warning = begin(dst, tagPolicyWarning)
		dst = end(appendInteger(dst, tagTimeLeft, p.ExpiresIn), warning)
	}
	if p.Error >= 0 {
		dst = appendInteger(dst, tagPolicyError, p.Error)
	}
	return Control{OID: OIDPolicy, Value: string(end(dst, mark)), HasValue: true}
}
