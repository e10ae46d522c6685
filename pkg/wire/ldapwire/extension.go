package ldapwire

// Paged is the value of the paged results control in a request, where Size
// bounds the page, and in a response, where it estimates the whole (RFC 2696 §2).
// An empty Cookie begins, and in a response ends, the result.
type Paged struct {
	Size   int
	Cookie string
}

// Control returns p as a control.
func (p Paged) Control(critical bool) Control {
	dst, mark := begin(nil, tagSequence)
	dst = appendInteger(dst, tagInteger, p.Size)
	dst = end(appendOctets(dst, tagOctetString, p.Cookie), mark)
	return Control{OID: OIDPagedResults, Critical: critical, Value: string(dst), HasValue: true}
}

// DecodePaged reads the value of a paged results control; ErrSyntax.
func DecodePaged(value string) (Paged, error) {
	d := decoder{}
	outer := reader{&d, value}
	in := outer.group(tagSequence)
	p := Paged{Size: in.integer(tagInteger, MaxMessageID), Cookie: in.octets(tagOctetString)}
	return p, d.err
}

// PasswordModify is the value of a password modify request (RFC 3062 §2). An
// empty User means the one who is bound, an empty New asks the server to make one.
type PasswordModify struct {
	User, Old, New string
}

const (
	tagUserIdentity Tag = 0x80
	tagOldPassword  Tag = 0x81
	tagNewPassword  Tag = 0x82
	tagGenerated    Tag = 0x80
)

// Append appends p as a requestValue.
func (p PasswordModify) Append(dst []byte) []byte {
	dst, mark := begin(dst, tagSequence)
	dst = appendOptional(dst, tagUserIdentity, p.User, p.User != "")
	dst = appendOptional(dst, tagOldPassword, p.Old, p.Old != "")
	dst = appendOptional(dst, tagNewPassword, p.New, p.New != "")
	return end(dst, mark)
}

// DecodePasswordModify reads a requestValue; ErrSyntax.
func DecodePasswordModify(value string) (PasswordModify, error) {
	d := decoder{}
	outer := reader{&d, value}
	in := outer.group(tagSequence)
	var p PasswordModify
	p.User, _ = in.optional(tagUserIdentity)
	p.Old, _ = in.optional(tagOldPassword)
	p.New, _ = in.optional(tagNewPassword)
	if in.more() {
		d.fail("field out of place")
	}
	return p, d.err
}

// AppendGenerated appends the responseValue that tells the password the
// server made.
func AppendGenerated(dst []byte, password string) []byte {
	dst, mark := begin(dst, tagSequence)
	return end(appendOctets(dst, tagGenerated, password), mark)
}
