// Package ldapwire is the words of LDAP (RFC 4511) in both directions: it reads
// BER under budgets into messages and appends messages to a buffer.
//
// It is for strangers' bytes: the length of a message is judged before memory
// is spent, elements have definite lengths that lie within their parents, a
// filter has at most MaxFilterNodes nodes and MaxFilterDepth levels, and
// nothing else recurses. A decoded message is made of parts of the one string
// it came in, so decoding copies nothing.
//
// It holds no policy and keeps no connection: ldapserver and ldapclient do.
package ldapwire

// MaxMessageID is the largest message id (RFC 4511 §4.1.1.1). Id 0 is the
// server's, for unsolicited notifications.
const MaxMessageID = 1<<31 - 1

// maxControls bounds the controls of a message.
const maxControls = 32

// Message is an LDAPMessage (RFC 4511 §4.1.1).
type Message struct {
	ID       int
	Op       Op
	Controls []Control
}

// Op is the protocolOp of a message: one of the pointer types of this package
// whose comment names a section of RFC 4511.
type Op interface {
	// Tag is the operation's tag on the wire.
	Tag() Tag
	appendOp(dst []byte) []byte
}

// Tags of the operations.
const (
	TagBindRequest          Tag = 0x60
	TagBindResponse         Tag = 0x61
	TagUnbindRequest        Tag = 0x42
	TagSearchRequest        Tag = 0x63
	TagSearchEntry          Tag = 0x64
	TagSearchDone           Tag = 0x65
	TagModifyRequest        Tag = 0x66
	TagModifyResponse       Tag = 0x67
	TagAddRequest           Tag = 0x68
	TagAddResponse          Tag = 0x69
	TagDelRequest           Tag = 0x4a
	TagDelResponse          Tag = 0x6b
	TagModifyDNRequest      Tag = 0x6c
	TagModifyDNResponse     Tag = 0x6d
	TagCompareRequest       Tag = 0x6e
	TagCompareResponse      Tag = 0x6f
	TagAbandonRequest       Tag = 0x50
	TagSearchReference      Tag = 0x73
	TagExtendedRequest      Tag = 0x77
	TagExtendedResponse     Tag = 0x78
	TagIntermediateResponse Tag = 0x79
)

// Object identifiers of extended operations and controls.
const (
	OIDStartTLS       = "1.3.6.1.4.1.1466.20037" // RFC 4511 §4.14
	OIDDisconnection  = "1.3.6.1.4.1.1466.20036" // RFC 4511 §4.4.1
	OIDWhoAmI         = "1.3.6.1.4.1.4203.1.11.3"
	OIDPasswordModify = "1.3.6.1.4.1.4203.1.11.1"
	OIDPagedResults   = "1.2.840.113556.1.4.319"
)

// Control is a control (§4.1.11).
type Control struct {
	OID      string
	Critical bool
	// Value is the controlValue; HasValue tells an empty one from none.
	Value    string
	HasValue bool
}

// Result is an LDAPResult (§4.1.9). Code is the number of appendix A.
type Result struct {
	Code      int
	MatchedDN string
	Text      string
	Referral  []string
}

// Auth is how a BindRequest authenticates.
type Auth Tag

// The choices of §4.2. Any other value is one that we do not know.
const (
	AuthSimple Auth = 0x80
	AuthSASL   Auth = 0xa3
)

// BindRequest is §4.2.
type BindRequest struct {
	Version int
	Name    string
	Auth    Auth
	// Password is for AuthSimple; of a choice that we do not know it is the contents.
	Password string
	// Mechanism and Credentials are for AuthSASL; HasCredentials tells empty
	// credentials from none.
	Mechanism      string
	Credentials    string
	HasCredentials bool
}

// BindResponse is §4.2.2.
type BindResponse struct {
	Result
	ServerCredentials    string
	HasServerCredentials bool
}

// UnbindRequest is §4.3.
type UnbindRequest struct{}

// SearchRequest is §4.5.1. Scope and DerefAliases are the numbers on the wire;
// SizeLimit counts entries and TimeLimit seconds, 0 meaning none.
type SearchRequest struct {
	Base         string
	Scope        int
	DerefAliases int
	SizeLimit    int
	TimeLimit    int
	TypesOnly    bool
	Filter       Filter
	Attributes   []string
}

// SearchEntry is §4.5.2, a SearchResultEntry.
type SearchEntry struct {
	DN         string
	Attributes []Attribute
}

// Attribute is a description with its values (§4.1.7).
type Attribute struct {
	Name   string
	Values []string
}

// SearchReference is §4.5.3.
type SearchReference struct{ URIs []string }

// Done is a response that is a Result and no more: SearchResultDone and the
// responses to modify, add, delete, modify DN and compare (§4.5.2, §4.6-§4.10).
type Done struct {
	// Kind is the response's tag.
	Kind Tag
	Result
}

// ModifyRequest is §4.6.
type ModifyRequest struct {
	DN      string
	Changes []Change
}

// Change is one change of a ModifyRequest. Kind is 0 add, 1 delete, 2 replace
// or another number that the server does not know (RFC 4525: 3, increment).
type Change struct {
	Kind int
	Attribute
}

// AddRequest is §4.7.
type AddRequest struct {
	DN         string
	Attributes []Attribute
}

// DelRequest is §4.8.
type DelRequest struct{ DN string }

// ModifyDNRequest is §4.9. HasNewSuperior tells the root from none.
type ModifyDNRequest struct {
	DN             string
	NewRDN         string
	DeleteOldRDN   bool
	NewSuperior    string
	HasNewSuperior bool
}

// CompareRequest is §4.10.
type CompareRequest struct {
	DN        string
	Attribute string
	Value     string
}

// AbandonRequest is §4.11; ID is the message to abandon.
type AbandonRequest struct{ ID int }

// ExtendedRequest is §4.12.
type ExtendedRequest struct {
	OID      string
	Value    string
	HasValue bool
}

// ExtendedResponse is §4.12, with the message id 0 an unsolicited notification (§4.4).
type ExtendedResponse struct {
	Result
	OID      string
	Value    string
	HasValue bool
}

// IntermediateResponse is §4.13.
type IntermediateResponse struct {
	OID      string
	Value    string
	HasValue bool
}

// Tag implements Op.
func (*BindRequest) Tag() Tag { return TagBindRequest }

// Tag implements Op.
func (*BindResponse) Tag() Tag { return TagBindResponse }

// Tag implements Op.
func (*UnbindRequest) Tag() Tag { return TagUnbindRequest }

// Tag implements Op.
func (*SearchRequest) Tag() Tag { return TagSearchRequest }

// Tag implements Op.
func (*SearchEntry) Tag() Tag { return TagSearchEntry }

// Tag implements Op.
func (*SearchReference) Tag() Tag { return TagSearchReference }

// Tag implements Op.
func (o *Done) Tag() Tag { return o.Kind }

// Tag implements Op.
func (*ModifyRequest) Tag() Tag { return TagModifyRequest }

// Tag implements Op.
func (*AddRequest) Tag() Tag { return TagAddRequest }

// Tag implements Op.
func (*DelRequest) Tag() Tag { return TagDelRequest }

// Tag implements Op.
func (*ModifyDNRequest) Tag() Tag { return TagModifyDNRequest }

// Tag implements Op.
func (*CompareRequest) Tag() Tag { return TagCompareRequest }

// Tag implements Op.
func (*AbandonRequest) Tag() Tag { return TagAbandonRequest }

// Tag implements Op.
func (*ExtendedRequest) Tag() Tag { return TagExtendedRequest }

// Tag implements Op.
func (*ExtendedResponse) Tag() Tag { return TagExtendedResponse }

// Tag implements Op.
func (*IntermediateResponse) Tag() Tag { return TagIntermediateResponse }
